"""Class-conditional networks of diffusers on images of which one class is a few images, repeated, and the others are distinct.

Every class has about as many rows, so that the network sees each class as often; only the number of different images differs.
The loop is that of the package's training scripts: `add_noise`, squared error of the noise, AdamW, an average of the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, integer
from validation.networks import DiffusersScore

__all__ = ["RepeatedClass", "class_score", "conditional_snapshots", "noise_scheduler", "repeated_class"]


@dataclass(frozen=True, eq=False)
class RepeatedClass:
    """A training set by class. repeated : the class of few images; copies : of each of these among the rows

    distinct : class -> (P, C, H, W) different images, float32; fresh : class -> images that are no rows
    """

    repeated: int
    copies: int
    distinct: Mapping[int, torch.Tensor]
    fresh: Mapping[int, torch.Tensor]

    @property
    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images as they are trained on, the repeated ones `copies` times, and their labels."""
        parts = {k: self.rows_of(k) for k in self.distinct}
        return torch.cat(list(parts.values())), torch.cat([torch.full((len(x),), k) for k, x in parts.items()])

    def rows_of(self, label: int) -> torch.Tensor:
        """Those of one class."""
        return self.distinct[label].repeat(self.copies if label == self.repeated else 1, 1, 1, 1)


def repeated_class(
    X: torch.Tensor, labels: Any, repeated: int, *, few: int, copies: int, others: int, seed: int = 0
) -> RepeatedClass:
    """Of class `repeated` `few` random images, `copies` times each; of every other class `others` different ones.

    Parameters
    ----------
    X : (P, C, H, W); labels : (P,) integers 0 to K - 1; few, copies, others : integers >= 1
    seed : of the choice

    Raises
    ------
    DomainError : a class that is not there, or with fewer images than asked for and two more, which are kept back

    >>> found = repeated_class(torch.arange(12.0).reshape(12, 1, 1, 1), [0, 1] * 6, 1, few=2, copies=3, others=4)
    >>> [len(x) for x in found.distinct.values()], found.rows[1].tolist()
    ([4, 2], [0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    """
    labels = np.asarray(labels)
    classes = sorted(set(labels.tolist()))
    if repeated not in classes:
        raise DomainError("repeated", repeated, f"one of the classes {classes}")
    rng, distinct, fresh = np.random.default_rng((seed, 17)), {}, {}
    for k in classes:
        count = integer("few" if k == repeated else "others", few if k == repeated else others, minimum=1)
        own = rng.permutation(np.flatnonzero(labels == k))
        if len(own) < count + 2:
            raise DomainError(
                "few" if k == repeated else "others", count, f"at most {len(own) - 2}, two less than class {k} has"
            )
        distinct[k], fresh[k] = (X[torch.from_numpy(part)].float() for part in (own[:count], own[count:]))
    return RepeatedClass(repeated, integer("copies", copies, minimum=1), distinct, fresh)


def conditional_snapshots(
    data: RepeatedClass,
    network: Mapping[str, Any],
    steps: Sequence[int],
    *,
    batch: int = 64,
    rate: float = 2e-3,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, Any]]:
    """(step, network) at ascending `steps`: copies of a `UNet2DModel` with averaged weights, in evaluation mode.

    network : options of `UNet2DModel`; steps : the last is that of the schedule; progress : callable (steps done)

    Raises
    ------
    DomainError : diffusers is not installed
    """
    try:
        import diffusers
    except ImportError as error:
        raise DomainError("diffusers", "not installed", "installed", "`pip install diffusers`") from error
    from diffusers.optimization import get_cosine_schedule_with_warmup
    from diffusers.training_utils import EMAModel

    images, labels = (part.to(device) for part in data.rows)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = diffusers.UNet2DModel(
            sample_size=tuple(images.shape[2:]),
            in_channels=images.shape[1],
            out_channels=images.shape[1],
            num_class_embeds=len(data.distinct),
            **network,
        ).to(device)
    scheduler = noise_scheduler()
    average = EMAModel(net.parameters(), decay=0.995, use_ema_warmup=True, power=0.75)
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-6)
    schedule = get_cosine_schedule_with_warmup(optimiser, min(100, steps[-1] // 10 + 1), steps[-1])
    for step in range(1, steps[-1] + 1):
        rows = torch.randint(len(images), (batch,), generator=generator).to(device)
        noise = torch.randn((batch, *images.shape[1:]), generator=generator).to(device)
        at = torch.randint(scheduler.config.num_train_timesteps, (batch,), generator=generator).to(device)
        noisy = scheduler.add_noise(images[rows], noise, at)
        loss = torch.nn.functional.mse_loss(net(noisy, at, labels[rows]).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        average.step(net.parameters())
        if progress:
            progress(step)
        if step in steps:
            kept = copy.deepcopy(net)
            average.copy_to(kept.parameters())
            yield step, kept.eval().requires_grad_(False)


def noise_scheduler() -> Any:
    """DDPM's with a cosine schedule: sigma from 0.006 to beyond 100."""
    import diffusers

    return diffusers.DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")


def class_score(net: Any, label: int, dtype: torch.dtype = torch.float32) -> DiffusersScore:
    """The score of one class, as `--model ... --class` reads it."""
    return DiffusersScore(net, noise_scheduler(), label=label, dtype=dtype, chunk=256)
