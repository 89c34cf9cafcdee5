"""Products with several vectors at one point: one after the other against a batch of copies, CPU time of one thread a product.

python benchmarks/bench_vectors.py
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import diffusers
import torch

from validation.networks import Denoiser, DiffusersScore, NetworkScore, Scale, SideBySide, UNet
from validation.spectra import JacobianOperator

VECTORS, REPEATS = 8, 3


def networks(shape: tuple[int, ...]) -> dict:
    """Two levels each, random weights, float32."""
    torch.manual_seed(0)
    own = UNet(shape[0], width=16, levels=2, blocks=1)
    for layer in (own.out, own.gain):  # which begin at zero, and the Jacobian with them
        torch.nn.init.normal_(layer.weight, std=0.1)
    theirs = diffusers.UNet2DModel(
        sample_size=shape[1:],
        in_channels=shape[0],
        out_channels=shape[0],
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )
    return {
        "U-Net": NetworkScore(Denoiser(SideBySide([own]), shape, [Scale(0.0, 1.0)]), dtype=torch.float32),
        "UNet2DModel with attention": DiffusersScore(theirs, diffusers.DDPMScheduler(), shape=shape),
    }


def milliseconds(act: Callable[[], torch.Tensor]) -> float:
    """The least CPU time of a product."""
    act()
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        act()
        found.append(time.process_time() - start)
    return 1000 * min(found) / VECTORS


def main() -> None:
    """One row a network, size and mode."""
    torch.set_num_threads(1)
    print("network,N,mode,one after the other ms,together ms,relative difference", flush=True)
    for shape in ((3, 8, 8), (1, 28, 28), (3, 32, 32)):
        N = math.prod(shape)
        for name, face in networks(shape).items():
            face.differentiation.chunk = max(1, (1 << 14) // N)  # as `geomem spectrum` has it
            J = JacobianOperator(face, torch.randn(1, N, dtype=torch.float64), 0.3)
            v = torch.randn(1, VECTORS, N, dtype=torch.float64)
            for mode, single, several in (("forward", J, J.each), ("reverse", J.transposed, J.quadratic)):
                alone = torch.stack([single(w) for w in v.unbind(1)], dim=1)
                gap = float((several(v) - alone).norm() / alone.norm())
                before = milliseconds(lambda act=single, v=v: torch.stack([act(w) for w in v.unbind(1)], dim=1))
                after = milliseconds(lambda act=several, v=v: act(v))
                print(f"{name},{N},{mode},{before:.1f},{after:.1f},{gap:.1g}", flush=True)


if __name__ == "__main__":
    main()
