"""Denoising score matching of one network or a stack of them, with checkpoints, and how far from the optimum it ended."""

from validation.training.checkpoint import load_denoiser
from validation.training.configuration import TrainingConfig
from validation.training.noise_levels import NoiseLevels
from validation.training.trainer import Trainer

__all__ = ["NoiseLevels", "Trainer", "TrainingConfig", "load_denoiser"]
