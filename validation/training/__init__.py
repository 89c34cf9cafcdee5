"""Denoising score matching of one network or a stack of them, with checkpoints, and how far from the optimum it ended."""

from validation.training.checkpoint import fingerprint, load_denoiser, read
from validation.training.command import train, training_data
from validation.training.configuration import TrainingConfig
from validation.training.denoising_loss import FACTOR, FLOOR, convergence, denoising_losses
from validation.training.departures import departure
from validation.training.distributed import launched, process_group
from validation.training.noise_levels import NoiseLevels
from validation.training.progress import training_bar
from validation.training.source import Member, Points, members, points, split
from validation.training.trainer import Trainer
from validation.training.watch import Departure, Probes, Watch

__all__ = [
    "FACTOR",
    "FLOOR",
    "Departure",
    "Member",
    "NoiseLevels",
    "Points",
    "Probes",
    "Trainer",
    "TrainingConfig",
    "Watch",
    "convergence",
    "denoising_losses",
    "departure",
    "fingerprint",
    "launched",
    "load_denoiser",
    "members",
    "points",
    "process_group",
    "read",
    "split",
    "train",
    "training_bar",
    "training_data",
]
