"""The top floor: data, empirical score, simulations and experiments that check the theory, in torch.

`from validation import EmpiricalScore` works and is what loads torch; `import validation` alone does not.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from validation.score import EmpiricalScore

__all__ = ["EmpiricalScore"]


def __getattr__(name: str) -> Any:
    """`EmpiricalScore`, imported when first asked for."""
    if name == "EmpiricalScore":
        from validation.score import EmpiricalScore

        return EmpiricalScore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
