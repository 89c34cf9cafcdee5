"""A stack of denoisers from a plain record of what it is, the one that checkpoints keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numerics.domain import DomainError
from validation.networks.mlp import ResidualMLP
from validation.networks.preconditioning import Denoiser, Scale
from validation.networks.unet import SideBySide, UNet

__all__ = ["KINDS", "build"]

KINDS = ("mlp", "unet")


def build(
    network: Mapping[str, Any], *, shape: Sequence[int], scales: Sequence[Sequence[float]], seeds: Sequence[int]
) -> Denoiser:
    """Untrained denoisers, one a seed.

    Parameters
    ----------
    network : {"kind": "mlp", width, blocks, features, hidden, activation} for shape (N,), {"kind": "unet", width, levels, blocks,
        features, attention} for shape (channels, height, width); what is left out takes its default
    shape : of one point; scales : M pairs (centre, sigma_data); seeds : M integers

    >>> build({"kind": "mlp", "width": 8}, shape=(3,), scales=[(0.0, 1.0)], seeds=[0]).members
    1
    """
    options = dict(network)
    kind = options.pop("kind", None)
    if kind not in KINDS:
        raise DomainError("kind", kind, " or ".join(map(repr, KINDS)))
    if len(scales) != len(seeds):
        raise DomainError("scales", len(scales), f"as many as seeds, {len(seeds)}")
    if len(shape) != {"mlp": 1, "unet": 3}[kind]:
        allowed = "(N,) for an MLP, (channels, height, width) for a U-Net"
        raise DomainError("shape", tuple(shape), allowed)
    known = {
        "mlp": {"N", "width", "blocks", "features", "hidden", "activation"},
        "unet": {"channels", "width", "levels", "blocks", "features", "attention"},
    }
    if unknown := set(options) - known[kind]:
        raise DomainError("network", sorted(unknown), f"options among {sorted(known[kind])}")
    options["N" if kind == "mlp" else "channels"] = shape[0]
    if kind == "mlp":
        backbone = ResidualMLP(**options, seeds=seeds)
    else:
        backbone = SideBySide.of(lambda seed: UNet(**options, seed=seed), seeds)
    return Denoiser(backbone, shape, [Scale(*scale) for scale in scales])
