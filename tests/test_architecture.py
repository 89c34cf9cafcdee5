"""The house keeps its shape: rooms with faces, arrows one way and no circles, imports light, sources known."""

import ast
import importlib.util
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {"numerics": 0, "theory": 1, "validation": 2, "geomem": 3}
FILES = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]
BARRED = {"numerics": {"sympy", "torch"}, "theory": {"torch"}, "validation": set(), "geomem": {"torch"}}
LARGEST_ROOM = 15  # modules beside its face


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_down(path):
    floor = path.relative_to(ROOT).parts[0]
    for name in _imports(path):
        assert FLOORS.get(name, -1) <= FLOORS[floor], f"{floor} imports {name}"
        assert name not in BARRED[floor], f"{floor} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_module_tells_its_idea(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_only_lowering_brings_sympy_and_numba_together():
    both = [p.name for p in (ROOT / "theory").rglob("*.py") if {"sympy", "numba"} <= set(_imports(p))]
    assert set(both) <= {"lowering.py"}


def test_theory_imports_without_torch_and_quickly_enough():
    heavy = {"torch", "matplotlib", "xarray", "typer"}
    code = f"import theory, sys; print(sorted({{m.split('.')[0] for m in sys.modules}} & {heavy}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_sources_are_those_of_the_bibliography():
    from theory.sources import SOURCES

    keys = set(re.findall(r"@\w+\{(\w+),", (ROOT / "docs/references.bib").read_text()))
    assert keys == set(SOURCES)


def test_cited_keys_exist():
    from theory.sources import SOURCES

    for path in FILES:
        for group in re.findall(r"\[((?:[A-Z]+\d\d(?:, )?)+)\]", path.read_text()):
            assert set(group.split(", ")) <= set(SOURCES), f"{path.name}: {group}"


@pytest.fixture(scope="module")
def rooms():
    """`docs/rooms.py`, which reads rooms and arrows off the imports."""
    spec = importlib.util.spec_from_file_location("rooms", ROOT / "docs/rooms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_allowed_arrows(rooms):
    """A new arrow is a decision: it is added to the list by hand, and an arrow that is gone leaves the list."""
    listed = {}
    for line in (ROOT / "tests/allowed_arrows.txt").read_text().splitlines():
        source, targets = line.split(":")
        listed[source] = set(targets.split())
    assert {source: targets for source, targets in rooms.arrows().items() if targets} == listed


def test_no_circles(rooms):
    assert list(TopologicalSorter(rooms.arrows()).static_order())


def test_other_rooms_are_entered_through_their_face(rooms):
    """From another room only what its `__init__` lists; modules directly on a floor are their own face."""
    known = rooms.modules()
    for module, path in known.items():
        mine = rooms.room(module, known)
        for target, names in rooms.imports(path, known):
            theirs = rooms.room(target, known)
            if theirs in (mine, target) and not (theirs == target and names and known[target].name == "__init__.py"):
                continue
            if theirs == mine or theirs.startswith(f"{mine}."):
                continue
            assert target == theirs, f"{module} imports from inside {theirs}: {target}"
            face = ast.parse(known[theirs].read_text())
            lists = [n.value for n in face.body if isinstance(n, ast.Assign) and n.targets[0].id == "__all__"]
            public = (set(ast.literal_eval(lists[0])) if lists else set()) | {"*"}  # which is what `__all__` lists
            assert set(names) <= public, f"{module} imports {set(names) - public}, which {theirs} does not list"


def test_rooms_are_small(rooms):
    known = rooms.modules()
    sizes = {}
    for module, path in known.items():
        if path.name != "__init__.py" and module.count(".") > 1:
            sizes[rooms.room(module, known)] = sizes.get(rooms.room(module, known), 0) + 1
    assert {name: size for name, size in sizes.items() if size > LARGEST_ROOM} == {}


def test_picture_of_the_rooms_is_that_of_the_code(rooms):
    """After a change of imports: `python docs/rooms.py --write`."""
    assert rooms.picture() in (ROOT / "docs/architecture.md").read_text()


def test_files_named_in_the_pages_exist():
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs/derivations").glob("*.md"),
    ]
    for page in pages:
        for name in re.findall(r"`((?:docs|numerics|tests|theory|validation)/[\w./]*)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def _is_package(name):
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.submodule_search_locations is not None


def test_papers_page_names_what_exists():
    from validation.experiments import EXPERIMENTS

    page = (ROOT / "docs/papers.md").read_text()
    for name in re.findall(r"`((?:\w+/)+[\w.]*)`", page):
        made = name.startswith("gallery/")  # a page that sphinx-gallery makes of a script
        assert (ROOT / (f"docs/examples/{Path(name).name}.py" if made else name)).exists(), name
    for module, name in re.findall(r"`((?:theory|validation)(?:\.\w+)*)\.(\w+)(?:\(|`)", page):
        whole = importlib.util.find_spec(f"{module}.{name}") is not None if _is_package(module) else False
        assert whole or hasattr(importlib.import_module(module), name), f"docs/papers.md names {module}.{name}"
    assert set(re.findall(r"--only (\w+)", page)) <= set(EXPERIMENTS)
    for target in re.findall(r"\]\((\w[\w/]*\.md)\)", page):
        assert (ROOT / "docs" / target).exists(), target
