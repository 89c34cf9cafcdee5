"""Score networks in the variance-exploding setting, and adapters for networks that others have trained."""

from validation.networks.adapters import ModelScore, NetworkScore
from validation.networks.diffusers_unet import DiffusersScore, is_pipeline, pipeline_mark
from validation.networks.mlp import ResidualMLP
from validation.networks.preconditioning import Denoiser, Scale
from validation.networks.record import build
from validation.networks.unet import SideBySide, UNet

__all__ = [
    "Denoiser",
    "DiffusersScore",
    "ModelScore",
    "NetworkScore",
    "ResidualMLP",
    "Scale",
    "SideBySide",
    "UNet",
    "build",
    "is_pipeline",
    "pipeline_mark",
]
