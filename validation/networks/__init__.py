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
    "is_diffusers",
    "is_pipeline",
    "pipeline_mark",
    "pixel_scales",
]
