"""Pipelines that diffusers saved as score functions: noise of their schedulers, conditions, latents, a first check."""

from validation.networks.pipelines.diffusers_score import DiffusersScore
from validation.networks.pipelines.latents import Autoencoder, Latents, encode_images
from validation.networks.pipelines.pixel_scale import PixelScale, check_scale, pixel_scales
from validation.networks.pipelines.saved import (
    is_diffusers,
    is_pipeline,
    load_autoencoder,
    load_scheduler,
    pipeline_mark,
)
from validation.networks.pipelines.schedules import Schedule, schedule_of
from validation.networks.pipelines.self_check import Reading, check_conventions, check_latents, readings

__all__ = [
    "Autoencoder",
    "DiffusersScore",
    "Latents",
    "PixelScale",
    "Reading",
    "Schedule",
    "check_conventions",
    "check_latents",
    "check_scale",
    "encode_images",
    "is_diffusers",
    "is_pipeline",
    "load_autoencoder",
    "load_scheduler",
    "pipeline_mark",
    "pixel_scales",
    "readings",
    "schedule_of",
]
