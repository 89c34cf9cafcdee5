"""Score networks in the variance-exploding setting, and adapters for networks that others have trained."""

from validation.networks.adapters import ModelScore, NetworkScore
from validation.networks.diffusers_unet import DiffusersScore
from validation.networks.mlp import ResidualMLP
from validation.networks.preconditioning import Denoiser, Scale
from validation.networks.unet import SideBySide, UNet

__all__ = ["Denoiser", "DiffusersScore", "ModelScore", "NetworkScore", "ResidualMLP", "Scale", "SideBySide", "UNet"]
