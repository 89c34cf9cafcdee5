"""Denoising score matching of one network or a stack of them, with checkpoints, and how far from the optimum it ended."""

from validation.training.checkpoint import fingerprint, load_denoiser, read
from validation.training.command import FittedGaussian, audit_model, audit_pipeline, members, report_lines, split, train
from validation.training.configuration import TrainingConfig
from validation.training.convergence import FACTOR, FLOOR, convergence
from validation.training.distributed import launched, process_group
from validation.training.noise_levels import NoiseLevels
from validation.training.progress import training_bar
from validation.training.trainer import Trainer

__all__ = [
    "FACTOR",
    "FLOOR",
    "FittedGaussian",
    "NoiseLevels",
    "Trainer",
    "TrainingConfig",
    "audit_model",
    "audit_pipeline",
    "convergence",
    "fingerprint",
    "launched",
    "load_denoiser",
    "members",
    "process_group",
    "read",
    "report_lines",
    "split",
    "train",
    "training_bar",
]
