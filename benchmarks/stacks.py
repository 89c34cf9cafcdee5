"""Entry `stacks`: training a stack of small networks, beside one after the other and `torch.func.vmap`."""

from __future__ import annotations

from benchmarks.bench_training import rate, vmap_rate
from benchmarks.harness import Row, Settings, ratios


def run(settings: Settings) -> list[Row]:
    """Seconds a network and step."""
    rows, members = [], 2 if settings.tiny else 8
    seconds = 0.05 if settings.tiny else 1.0 if settings.quick else 3.0
    for width in (16,) if settings.tiny else (64, 128) if settings.quick else (64, 128, 256):
        speeds = (
            (f"ours: stack of {members}", rate(members, width, 128, settings.device, seconds)),
            ("ours, one after the other", rate(1, width, 128, settings.device, seconds)),
            (f"torch.func.vmap of {members}", vmap_rate(members, width, 128, settings.device, seconds)),
        )
        measured = [(name, 1 / speed, float("nan"), f"{speed:.0f} model-steps/s") for name, speed in speeds]
        rows += ratios("stacks", f"width {width}, batch 128", "", measured)
    return rows
