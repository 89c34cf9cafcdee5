"""The house keeps its shape: arrows one way, imports light, sources known, every module tells its idea."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {"numerics": 0, "theory": 1, "validation": 2}
FILES = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]
BARRED = {"numerics": {"sympy", "torch"}, "theory": {"torch"}, "validation": set()}


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
    both = [p.name for p in (ROOT / "theory").glob("*.py") if {"sympy", "numba"} <= set(_imports(p))]
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


@pytest.mark.parametrize("floor", FLOORS)
def test_every_module_has_its_line_in_the_map(floor):
    """A line of docs/architecture.md is `- modules: what they are for`; it names what is there, and nothing else."""
    page = (ROOT / "docs/architecture.md").read_text().split(f"\n## {floor}\n")[1].split("\n## ")[0]
    named = [name for line in re.findall(r"^- (`.+?`):\s", page, re.M | re.S) for name in re.findall(r"`(.+?)`", line)]
    there = (path.relative_to(ROOT / floor).with_suffix("") for path in FILES if path.is_relative_to(ROOT / floor))
    assert sorted(named) == sorted(module.as_posix() for module in there if module.name != "__init__")
