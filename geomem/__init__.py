"""geomem: when does a diffusion model copy its training set? One import for the theory and the measurements.

Everything that `theory` offers, and of `validation` the empirical score, the audit and the spectrum. Nothing is imported before
it is asked for: `import geomem` alone is fast, and torch is loaded by what needs it.

>>> import geomem
>>> round(geomem.collapse_time(geomem.LinearManifold(alpha_D=0.5), alpha=0.2), 10)
1.4096127638
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theory import *  # noqa: F403
    from validation.audit import audit
    from validation.data import load
    from validation.points import point_collapse_times
    from validation.score import EmpiricalScore
    from validation.score.local import LocalScore
    from validation.spectrum import spectrum

    __version__: str

_MEASUREMENTS = {
    "EmpiricalScore": "validation.score",
    "LocalScore": "validation.score.local",
    "audit": "validation.audit",
    "load": "validation.data",
    "point_collapse_times": "validation.points",
    "spectrum": "validation.spectrum",
}

__all__ = ["EmpiricalScore", "LocalScore", "audit", "load", "point_collapse_times", "spectrum"]


def _not_shadowed() -> None:
    """Refuse a `theory`, `numerics` or `validation` that is not the one beside this package.

    Raises
    ------
    ImportError
        Names the file that Python finds first, and how to go on.
    """
    home = Path(__file__).resolve().parents[1]
    for floor in ("numerics", "theory", "validation"):
        spec = find_spec(floor)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found != home / floor / "__init__.py":
            where = f"{found} comes first on Python's path" if found else "Python does not find it"
            raise ImportError(
                f"geomem needs its own package {floor!r}, in {home / floor}, but {where}. "
                f"Run from another folder, rename what is in the way, or take its folder off PYTHONPATH."
            )


_not_shadowed()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # a tenth of what `geomem --help` would take

    try:
        return version("geomem")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+unknown"


def __getattr__(name: str) -> Any:
    """A name of `theory`, a measurement or the version, looked up when first asked for."""
    if name == "__version__":
        return _version()
    if name in _MEASUREMENTS:
        return getattr(import_module(_MEASUREMENTS[name]), name)
    if not name.startswith("_"):
        theory = import_module("theory")
        if name in theory.__all__:
            return getattr(theory, name)
    raise AttributeError(f"module 'geomem' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({"__version__", *__all__, *import_module("theory").__all__})
