r"""Denoising score matching in EDM form, for a stack of networks at once; resumable, and the same alone, stacked or distributed.

    loss = E_{xi, sigma, omega} |D(xi + sigma omega, sigma^2) - xi|^2/(N c_out(sigma)^2),     sigma log-uniform

Members share nothing: the loss is the sum of theirs, Adam works entry by entry and Muon matrix by matrix.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from numerics.domain import DomainError, integer
from numerics.store import atomic, versions
from validation.devices import device_of
from validation.networks import Denoiser, Scale, build
from validation.training import checkpoint as files
from validation.training.batches import Batch, Batches
from validation.training.configuration import TrainingConfig
from validation.training.distributed import Processes
from validation.training.interrupt import deferred_interrupt
from validation.training.muon import Muon
from validation.training.watch import Watch

__all__ = ["Trainer"]

_SAVE_SECONDS = 60.0
_LOOK = 100  # steps between two looks at whether losses are numbers still


class _Loss(nn.Module):
    """Mean squared residual of each member, (M,)."""

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.denoiser.residual(clean, noise, sigma).square().flatten(1).mean(dim=1)


class Trainer:
    """One training run of M networks, each on its own data set with its own seed.

    Parameters
    ----------
    data : M data sets (P_m,) + shape, or one
    network : record of `validation.networks.build`, e.g. {"kind": "mlp", "width": 128, "blocks": 3}
    config : TrainingConfig; seeds : M integers, of initial weights and batches (default 0, 1, ...)
    device : torch device; path : checkpoint file (.safetensors), written every minute, at the end and on Ctrl-C; resumed from
        if it is there and `resume`
    resume : go on from `path` where it exists; False starts anew
    distributed : split each batch over the processes that torchrun or accelerate launch started, see
        `validation.training.distributed`
    note : mapping kept in the checkpoint, e.g. where the data came from
    watch : `Watch`, optional: held-out points whose loss is followed; steps, batches and weights are the same without it

    Raises
    ------
    DomainError : data of different shapes, no finite data, a checkpoint of another run (configuration, seeds or data differ)

    The failure that looks normal: too few steps. A network that is not trained generalises: it looks as if it had kept every
    dimension. Ask `validation.training.convergence` before comparing.

    >>> trainer = Trainer([torch.eye(3)], {"kind": "mlp", "width": 8}, TrainingConfig(steps=2, batch=4))
    >>> trainer.run().shape, trainer.step
    (torch.Size([1]), 2)
    """

    def __init__(
        self,
        data: Sequence[Any] | torch.Tensor,
        network: Mapping[str, Any],
        config: TrainingConfig | None = None,
        *,
        seeds: Sequence[int] | None = None,
        device: str | torch.device = "cpu",
        path: str | os.PathLike | None = None,
        resume: bool = True,
        distributed: bool = False,
        note: Mapping[str, Any] | None = None,
        watch: Watch | None = None,
    ):
        self.config = TrainingConfig() if config is None else config
        self.device = device_of(device)
        sets = [data] if isinstance(data, torch.Tensor) else [torch.as_tensor(X) for X in data]
        scales = [Scale.of(X) for X in sets]
        self.data = [X.to(self.device, self.config.dtype) for X in sets]
        self.seeds = list(range(len(sets))) if seeds is None else [integer("seed", s, minimum=0) for s in seeds]
        self.batches = Batches(self.data, self.seeds, self.config.batch, self.config.noise)
        shape = tuple(self.data[0].shape[1:])
        self.denoiser = build(network, shape=shape, scales=scales, seeds=self.seeds).to(self.device, self.config.dtype)
        self.processes = Processes(self.config.batch, self.device) if distributed else None
        loss = _Loss(self.denoiser)
        self._loss = self.processes.wrap(loss) if self.processes else loss
        self.parameters = list(self.denoiser.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        fused = self.device.type in ("cpu", "cuda")
        matrices = self._matrices() if self.config.optimizer == "muon" else []
        others = [p for p in self.parameters if not any(p is m for m in matrices)]
        self.optimizers: dict[str, tuple[torch.optim.Optimizer, float]] = {}
        if self.config.optimizer == "sgd":
            self.optimizers["sgd"] = (torch.optim.SGD(others, lr=1.0, fused=fused), self.config.learning_rate)
        else:
            adam = torch.optim.Adam(others, lr=1.0, betas=self.config.betas, fused=fused)
            self.optimizers["adam"] = (adam, self.config.learning_rate)
        if matrices:
            self.optimizers["muon"] = (Muon(matrices), self.config.matrix_rate)
        self.step, self.path = 0, None if path is None else Path(path)
        self.diverged: dict[int, int] = {}  # member: step at which its loss was seen to be no number
        self.record = {
            "network": dict(network),
            "shape": list(shape),
            "scales": [list(scale) for scale in scales],
            "seeds": self.seeds,
            "sizes": [len(X) for X in sets],
            "data": [files.fingerprint(X) for X in self.data],
            "training": self.config.as_dict(),
            "note": dict(note or {}),
        }
        self.watch = watch
        if watch is not None:
            watch.begin(self.data, self.config.noise, self.config.steps, self.path)
        if self.path is not None and resume and self.path.exists():
            self._restore(*files.read(self.path))

    @property
    def members(self) -> int:
        return len(self.data)

    def run(
        self, until: int | None = None, progress: Callable[[int, int, torch.Tensor], None] | None = None
    ) -> torch.Tensor:
        """Train up to step `until` (default: the last), and save.

        progress : callable (steps done, of all, loss (M,) averaged over about the last hundred steps), some four times a second

        Returns
        -------
        (M,) that running loss; NaN where nothing was left to do. After Ctrl-C the step is finished, the checkpoint written, and
        KeyboardInterrupt raised: the same run again goes on from there. Members whose loss is no number any more are in
        `diverged`; the others train on.

        Raises
        ------
        DomainError : every member has diverged; the last checkpoint stays
        """
        end = self.config.steps if until is None else min(integer("until", until, minimum=0), self.config.steps)
        mean = torch.full((self.members,), float("nan"), device=self.device, dtype=self.config.dtype)
        saved, shown, stopped = time.monotonic(), time.monotonic(), False
        self.denoiser.train()
        if self.watch is not None:
            self._begin_watch(self.watch)
        with deferred_interrupt() as asked:
            while self.step < end and not (stopped := self._stopped(asked)):
                loss = self._advance()
                due = time.monotonic() - saved > _SAVE_SECONDS
                checked = self.watch is not None and self.step in self.watch.steps
                alone = due and self.processes is None  # clocks differ, and all processes must look together
                if checked or alone or self.step % _LOOK == 0 or self.step == end:
                    self._look(loss)  # before anything is written
                if self.watch is not None and checked:
                    self._check(self.watch)
                mean = torch.where(mean.isnan(), loss, mean.lerp(loss, 0.01))
                now = time.monotonic()
                if progress and (now - shown > 0.25 or self.step == end):
                    progress(self.step, self.config.steps, mean.cpu())
                    shown = now
                if due:
                    self.save()
                    saved = time.monotonic()
            self.save()
        if stopped or asked.is_set():
            raise KeyboardInterrupt
        return mean.cpu()

    def averaged(self) -> Denoiser:
        """The stack with its averaged weights, a copy in evaluation mode."""
        shape, scales = self.record["shape"], self.denoiser.scales
        copied = build(self.record["network"], shape=shape, scales=scales, seeds=self.seeds).to(
            self.device, self.config.dtype
        )
        copied.load_state_dict(self.denoiser.state_dict())
        with torch.no_grad():
            for mine, theirs in zip(copied.parameters(), self.average, strict=True):
                mine.copy_(theirs)
        return copied.eval().requires_grad_(False)

    def save(self) -> None:
        """Write the checkpoint, if the run has a path (in a distributed run: the first process does)."""
        if self.path is not None and self._first:
            self._write(self.path)

    @property
    def _first(self) -> bool:
        return self.processes is None or self.processes.rank == 0

    def _write(self, path: Path) -> None:
        now = {"step": self.step, "versions": versions(), "diverged": list(self.diverged.items())}
        files.write(path, self._state(), self.record | now)

    def _begin_watch(self, watch: Watch) -> None:
        if self.step == 0 and not watch.history:
            for file in (watch.rolling, *map(watch.kept, range(self.members))):
                if file is not None and self._first:  # of an earlier run that this one replaces
                    file.unlink(missing_ok=True)
            self._check(watch)
        elif watch.history and watch.history[-1]["step"] == self.step:
            self._keep(watch)  # what a run that was killed right after its last check had not written

    def _check(self, watch: Watch) -> None:
        """The order makes a run that is killed between any two lines end with the files of one that was not."""
        if not self._first:
            return
        for found in watch.check(self.step, self.averaged()):
            kept, rolling = watch.kept(found.member), watch.rolling
            if kept is not None and rolling is not None and rolling.exists():
                with atomic(kept) as temporary:
                    shutil.copyfile(rolling, temporary)
        self.record["watch"] = watch.record
        watch.write_log()
        self.save()
        self._keep(watch)

    def _keep(self, watch: Watch) -> None:
        snapshot, rolling = watch.snapshot(self.step), watch.rolling
        if not self._first:
            return
        if snapshot is not None:
            self._write(snapshot)
        if rolling is not None:
            if len(watch.departures()) < self.members and self.step < self.config.steps:
                self._write(rolling)
            else:
                rolling.unlink(missing_ok=True)

    def _look(self, loss: torch.Tensor) -> None:
        """Notes members whose loss is no number; there is nothing left to train when all are such."""
        gone = loss.isnan()
        if self.members == 1:  # the last step may have spoiled the weights of a loss that was a number
            gone = gone | ~torch.stack([p.isfinite().all() for p in self.parameters]).all()
        for member in gone.nonzero().flatten().tolist():
            self.diverged.setdefault(member, self.step)
        all_gone = len(self.diverged) == self.members
        if self.processes.any(all_gone) if self.processes else all_gone:
            allowed = f"smaller: the loss of every network is no number any more at step {self.step}"
            remedy = "Start anew with a smaller one"
            raise DomainError("learning_rate", self.config.learning_rate, allowed, remedy)

    def _stopped(self, asked: Event) -> bool:
        return self.processes.any(asked.is_set()) if self.processes else asked.is_set()

    def _advance(self) -> torch.Tensor:
        batch = self.batches[self.step]
        if self.processes:
            batch = Batch(*(part[:, self.processes.rows] for part in batch))
        for optimizer, rate in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate * self.config.schedule(self.step)
            optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.autocast(self.device)):
            losses = self._loss(*batch)
        losses.sum().backward()
        for optimizer, _ in self.optimizers.values():
            optimizer.step()
        with torch.no_grad():
            get_ema_multi_avg_fn(self.config.decay(self.step))(self.average, self.parameters, None)
        self.step += 1
        return losses.detach()

    def _state(self) -> dict[str, torch.Tensor]:
        out = {f"weights.{name}": value for name, value in self.denoiser.state_dict().items()}
        out |= {f"average.{name}": value for name, value in self.denoiser.named_buffers() if f"weights.{name}" in out}
        for (name, parameter), average in zip(self.denoiser.named_parameters(), self.average, strict=True):
            out[f"average.{name}"] = average
            for kind, (optimizer, _) in self.optimizers.items():
                for key, value in optimizer.state.get(parameter, {}).items():
                    out[f"{kind}.{name}.{key}"] = value
        return out

    def _restore(self, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> None:
        record = record | {
            "training": TrainingConfig(**record["training"]).as_dict()
        }  # an older record lacks newer options
        for key in ("network", "shape", "seeds", "data", "training"):
            if record[key] != self.record[key]:
                remedy = f"It was made with {key} = {record[key]}. Give another path, or start anew (--no-resume)"
                raise DomainError("checkpoint", str(self.path), "a checkpoint of this very run", remedy)
        if "watch" in record:
            self.record["watch"] = record["watch"]
            if self.watch is not None:
                self.watch.resume(record["watch"])
        self.step = record["step"]
        self.diverged = dict(map(tuple, record.get("diverged", ())))
        prefix = "weights."
        self.denoiser.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        with torch.no_grad():
            for (name, parameter), average in zip(self.denoiser.named_parameters(), self.average, strict=True):
                average.copy_(tensors[f"average.{name}"])
                for kind, (optimizer, _) in self.optimizers.items():
                    start = f"{kind}.{name}."
                    found = {
                        k.removeprefix(start): v.to(self.device) for k, v in tensors.items() if k.startswith(start)
                    }
                    if found:
                        optimizer.state[parameter] = found

    def _matrices(self) -> list[nn.Parameter]:
        found = getattr(self.denoiser.backbone, "matrices", None)
        if found is None:
            raise DomainError("optimizer", "muon", 'a network of kind "mlp"', 'Train others with optimizer = "adam"')
        return found()
