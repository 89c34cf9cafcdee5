"""Score networks in the variance-exploding setting, and adapters for networks that others have trained."""

from validation.networks.adapters import ModelScore, NetworkScore
from validation.networks.diffusers_unet import DiffusersScore
from validation.networks.mlp import ResidualMLP
from validation.networks.pixel_scale import PixelScale, check_scale, pixel_scales
from validation.networks.preconditioning import Denoiser, Scale
from validation.networks.record import build
from validation.networks.saved import is_diffusers, is_pipeline, pipeline_mark
from validation.networks.unet import SideBySide, UNet

__all__ = [
    "Denoiser",
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
