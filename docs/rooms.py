"""The rooms of the house and the arrows between them, read off the imports: what `docs/architecture.md` draws and a test checks.

`python docs/rooms.py` prints the picture; `python docs/rooms.py --write` puts it into the page.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

__all__ = ["FLOORS", "arrows", "modules", "picture", "room"]

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("numerics", "theory", "validation", "geomem")
PAGE = ROOT / "docs" / "architecture.md"


def modules() -> dict[str, Path]:
    """Dotted name of every module of the floors, and its file."""
    found = {}
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str, known: dict[str, Path]) -> str:
    """The folder a module lies in; a module directly on a floor is a room of its own."""
    if known[module].name == "__init__.py":
        return module
    parent = module.rsplit(".", 1)[0]
    return module if parent in FLOORS else parent


def imports(path: Path, known: dict[str, Path]):
    """(module, names) of every import of ours in one file, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            names = [alias.name for alias in node.names]
            inner = [f"{node.module}.{name}" for name in names if f"{node.module}.{name}" in known]
            yield from ((module, ()) for module in inner)
            if len(inner) < len(names):
                yield node.module, tuple(name for name in names if f"{node.module}.{name}" not in known)


def arrows() -> dict[str, set[str]]:
    """For every room, the rooms that it imports."""
    known = modules()
    found: dict[str, set[str]] = {room(module, known): set() for module in known}
    for module, path in known.items():
        mine = room(module, known)
        for target, _ in imports(path, known):
            theirs = room(target, known)
            if theirs != mine and not theirs.startswith(f"{mine}."):  # a room may open its own inner rooms
                found[mine].add(theirs)
    return found


def picture() -> str:
    """The arrows as a mermaid graph: each experiment under one name, and no arrow that two others already tell."""
    graph: dict[str, set[str]] = {}

    def drawn(name: str) -> str:
        return "validation.experiments" if name.startswith("validation.experiments") else name

    ground = {"numerics.domain", "numerics.kernel_cache", "numerics.store", "numerics.thread_count", *FLOORS}
    ground |= {"theory.notation", "theory.sources", "theory.result"}
    for source, targets in arrows().items():
        if drawn(source) not in ground:
            graph.setdefault(drawn(source), set()).update({drawn(t) for t in targets} - ground - {drawn(source)})

    def reach(start: str, seen: set[str]) -> set[str]:
        for target in graph.get(start, ()):
            if target not in seen:
                seen.add(target)
                reach(target, seen)
        return seen

    lines = ["```{mermaid}", "graph TD"]
    for floor in reversed(FLOORS[:3]):
        inside = sorted(name for name in graph if name.split(".")[0] == floor)
        lines += [f"  subgraph {floor}", *(f"    {n.replace('.', '_')}[{n.split('.', 1)[1]}]" for n in inside), "  end"]
    for source in sorted(graph):
        direct = {t for t in graph[source] if not any(t in reach(o, set()) for o in graph[source] - {t})}
        lines += [f"  {source.replace('.', '_')} --> {target.replace('.', '_')}" for target in sorted(direct)]
    return "\n".join([*lines, "```"])


def main() -> None:
    """Print the picture, or write it into the page."""
    if "--write" not in sys.argv:
        print(picture())
        return
    text = PAGE.read_text()
    PAGE.write_text(re.sub(r"```\{mermaid\}.*?```", lambda _: picture(), text, flags=re.S))


if __name__ == "__main__":
    main()
