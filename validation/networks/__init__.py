"""Score networks in the variance-exploding setting, and adapters for networks that others have trained."""

from validation.networks.adapters import DenoisingModel, ModelScore, NetworkScore
from validation.networks.conventions import CONDITIONS, SCALES
from validation.networks.mlp import ResidualMLP
from validation.networks.preconditioning import Denoiser, Scale
from validation.networks.record import build
from validation.networks.unet import SideBySide, UNet

# isort: split
from validation.networks.pipelines import (  # which itself takes the names above from here
    DiffusersScore,
    PixelScale,
    check_scale,
    is_diffusers,
    is_pipeline,
    pipeline_mark,
    pixel_scales,
)
from validation.networks.torch_modules import form_of, is_foreign, open_module

__all__ = [
    "CONDITIONS",
    "SCALES",
    "Denoiser",
    "DenoisingModel",
    "DiffusersScore",
    "ModelScore",
    "NetworkScore",
    "PixelScale",
    "ResidualMLP",
    "Scale",
    "SideBySide",
    "UNet",
    "build",
    "check_scale",
    "form_of",
    "is_diffusers",
    "is_foreign",
    "is_pipeline",
    "open_module",
    "pipeline_mark",
    "pixel_scales",
]
