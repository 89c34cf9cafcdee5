"""The top floor: data, empirical score, simulations and experiments that check the theory, in torch.

Its public names are imported when first asked for, and are what loads torch: `import validation` alone does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from numerics.moved import redirect

if TYPE_CHECKING:
    from validation.points import point_collapse_times
    from validation.score import EmpiricalScore
    from validation.score.local import LocalScore

__all__ = ["EmpiricalScore", "LocalScore", "point_collapse_times"]

_LAZY = {
    "EmpiricalScore": "validation.score",
    "LocalScore": "validation.score.local",
    "point_collapse_times": "validation.points",
}

redirect(
    {
        "validation.data.raw": "validation.data.stored.raw",
        "validation.data.readers": "validation.data.stored.array_files",
        "validation.data_dimension": "validation.data.dimension",
        "validation.empirical_score": "validation.score.empirical_score",
        "validation.measurement": "validation.audit.measurement",
        "validation.networks.diffusers_unet": "validation.networks.pipelines.diffusers_score",
        "validation.networks.pixel_scale": "validation.networks.pipelines.pixel_scale",
        "validation.networks.saved": "validation.networks.pipelines.saved",
        "validation.score_functions": "validation.spectra.score_functions",
        "validation.spectrum_command": "validation.spectrum.command",
        "validation.spectrum_losses": "validation.spectrum.departures",
        "validation.spectrum_subjects": "validation.spectrum.subjects",
        "validation.training.convergence": "validation.training.denoising_loss",
    }
)


def __getattr__(name: str) -> Any:
    """A public name, imported when first asked for."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
