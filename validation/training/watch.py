"""Held-out loss beside training loss while a network trains: the log, the first departure, and the checkpoint before it.

At a fixed list of steps the averaged weights are asked for their denoising loss at a few noise levels, on the same training
and held-out points with the same noise. What is read off is kept in the checkpoint, so that a resumed run warns as an
uninterrupted one does; training itself is not touched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from numerics.domain import DomainError, integer, positive
from numerics.store import save_dataset
from validation.networks import Denoiser
from validation.training.checkpoint import fingerprint
from validation.training.departures import departure, least_p, reference_losses
from validation.training.noise_levels import NoiseLevels

__all__ = ["Departure", "Probes", "Watch"]

LEVELS, CHECKS, POINTS, DRAWS = 8, 24, 256, 2  # the work of 20 steps of 128 points a check, 5 % of 10 000 steps
RATE = 0.01
_SEED = 0x6D656D  # of the probes' noise: the same in every run, and no batch's


@dataclass(frozen=True)
class Departure:
    """The first significant departure of one network: at `step`, not yet at `before`; t, p and the two losses there."""

    member: int
    P: int
    step: int
    before: int
    t: float
    p: float
    train: float
    held_out: float

    def report(self, rate: float) -> str:
        """A sentence for the terminal."""
        if self.step == 0:
            return (
                f"P = {self.P}: held-out points differ from training points before any training (p = {self.p:.1g}): they "
                "are no random part of the same data, and no departure can be told"
            )
        return (
            f"P = {self.P}: from step {self.step:,} on the held-out loss departs from the training loss "
            f"(sigma = {self.t**0.5:.3g}: {self.held_out:.3g} against {self.train:.3g}, p = {self.p:.1g}; false alarms in "
            f"at most {100 * rate:g} % of runs): it begins to memorise. Step {self.before:,} is the last before it"
        )


class Probes:
    """Fixed points and noise at which a stack of networks is asked for its loss.

    data : M training sets (P_m, *shape); held_out : (H, *shape); t : (L,) noise variances > 0; points : at most so many of each
    draws : of the noise, for each point and level
    """

    def __init__(self, data: Sequence[torch.Tensor], held_out: torch.Tensor, t: Any, points: int, draws: int):
        self.t = np.atleast_1d(positive("t", t))
        self.held_out = held_out[:points]
        self.train = [X[:points] for X in data]
        self.draws = draws
        self.reference = [self._references(X) for X in self.train]

    def _noise(self, place: int, level: int, count: int) -> Iterator[torch.Tensor]:
        """The draws (count, *shape) of a level; place is 0 for training and 1 for held-out points."""
        X = self.held_out
        for draw in range(self.draws):  # drawn anew each time: kept, that of large images would fill the memory
            seed = np.random.SeedSequence((_SEED, place, level, draw)).generate_state(1, np.uint64)[0] >> 1
            g = torch.Generator().manual_seed(int(seed))
            yield torch.randn(count, *X.shape[1:], generator=g, dtype=X.dtype).to(X.device)

    def _references(self, X: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        def draws(k: int) -> Iterator[np.ndarray]:
            for pair in zip(self._noise(0, k, len(X)), self._noise(1, k, len(self.held_out)), strict=True):
                yield torch.cat(pair).flatten(1).double().cpu().numpy()

        clean = torch.cat((X, self.held_out)).flatten(1).double().cpu().numpy()
        found = reference_losses(clean, [draws(k) for k in range(len(self.t))], self.t)
        return found[:, : len(X)], found[:, len(X) :]

    def losses(self, denoiser: Denoiser) -> list[tuple[np.ndarray, np.ndarray]]:
        """|D - xi|^2/(N t) of each training and held-out point, mean over draws: M pairs (L, n), (L, H)."""
        found = []
        count = max(map(len, self.train))
        # members have points of their own; where there are fewer than in others, rows are repeated and not read
        rows = [X[torch.arange(count, device=X.device) % len(X)] for X in self.train]
        M = denoiser.members
        places = (torch.stack(rows), self.held_out.expand(M, *self.held_out.shape))
        values = []
        with torch.no_grad():
            for i, clean in enumerate(places):
                of_place = []
                s2 = denoiser.sigma_data.double().square()[:, None]
                for k, level in enumerate(self.t):
                    omega = torch.cat(list(self._noise(i, k, clean.shape[1])))
                    every = clean.repeat(1, self.draws, *(1,) * (clean.ndim - 2))
                    sigma = torch.full(every.shape[:2], float(level) ** 0.5, dtype=clean.dtype, device=clean.device)
                    loss = denoiser.residual(every, omega.expand_as(every), sigma).square().flatten(2).mean(dim=2)
                    each = loss.double().reshape(M, self.draws, -1).mean(dim=1)
                    of_place.append(each * s2 / (level + s2))
                values.append(torch.stack(of_place, dim=1).cpu().numpy())  # (M, L, B)
        for m, X in enumerate(self.train):
            found.append((values[0][m][:, : len(X)], values[1][m]))
        return found


class Watch:
    """What `Trainer` tells at each of its checks, and what is made of it.

    Parameters
    ----------
    held_out : `(H, *shape)`, points that no network of the run trains on, H >= 2, drawn as the training points were
    rate : of false alarms over the whole run, in (0, 1): all checks, levels and networks together
    checks : number of steps at which losses are taken, spaced evenly in their logarithm, beside step 0; levels : noise levels
    first : the first of them, default a hundredth of the run; where steps are too close to be whole they fall together
    points : of each kind that are asked
    keep : folder for the checkpoint of every check, or None: only the one before a departure is kept
    tell : callable (Departure, file that keeps the checkpoint before it or None), called once for each network that departs

    Raises
    ------
    DomainError : arguments outside their domain

    The failure that looks normal: few points. 2 training and 4 held-out points never give p below 1/15; `blind` names the
    networks of which nothing can be said.
    """

    def __init__(
        self,
        held_out: torch.Tensor,
        *,
        rate: float = RATE,
        checks: int = CHECKS,
        levels: int = LEVELS,
        points: int = POINTS,
        first: int | None = None,
        keep: str | os.PathLike | None = None,
        tell: Callable[[Departure, Path | None], None] | None = None,
    ):
        held_out = torch.as_tensor(held_out)
        if held_out.ndim < 2 or len(held_out) < 2 or not bool(torch.isfinite(held_out).all()):
            raise DomainError("held_out", tuple(held_out.shape), "finite points of shape (H, *shape), H >= 2")
        if not 0 < float(positive("rate", rate)) < 1:
            raise DomainError("rate", rate, "in (0, 1)")
        self.held_out, self.rate = held_out, float(rate)
        self.checks, self.levels = integer("checks", checks, minimum=1), integer("levels", levels, minimum=1)
        self.points = integer("points", points, minimum=2)
        self.first = None if first is None else integer("first", first, minimum=1)
        self.keep, self.tell = None if keep is None else Path(keep), tell
        self.history: list[dict[str, Any]] = []

    # --- set up by the trainer ---------------------------------------------------------------------------------------

    def begin(self, data: Sequence[torch.Tensor], noise: NoiseLevels, steps: int, path: Path | None) -> None:
        """For a run of `steps` steps on these data, with checkpoints at `path`."""
        shape = tuple(data[0].shape[1:])
        if tuple(self.held_out.shape[1:]) != shape:
            allowed = f"points of the shape of the training points, {shape}"
            raise DomainError("held_out", tuple(self.held_out.shape[1:]), allowed)
        u = (torch.arange(self.levels, dtype=torch.float64) + 0.5) / self.levels
        t = noise.quantile(u).square().numpy()
        if self.first is not None and self.first > steps:
            raise DomainError("first", self.first, f"at most {steps}, the steps of the run")
        start = max(1, steps / 100) if self.first is None else self.first
        self.steps = [0, *np.unique(np.rint(np.geomspace(start, steps, self.checks))).astype(int).tolist()]
        held_out = self.held_out.to(data[0])
        self.probes = Probes(data, held_out, t, self.points, DRAWS)
        self.sizes, self.path = [len(X) for X in data], path
        self.threshold = self.rate / (len(self.steps) * self.levels * len(data))
        self.settings = {
            "held_out": fingerprint(held_out), "rate": self.rate, "steps": self.steps, "t": t.tolist(), "points": self.points,
        }  # fmt: skip

    @property
    def blind(self) -> list[int]:
        """P of the networks for which even complete separation would not be significant."""
        held_out = len(self.probes.held_out)
        kept = zip(self.sizes, self.probes.train, strict=True)
        return [P for P, X in kept if least_p(len(X), held_out) >= self.threshold]

    @property
    def record(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"settings": self.settings, "history": self.history}

    def resume(self, record: dict[str, Any]) -> None:
        """Go on from what an interrupted run had seen."""
        if record["settings"] != self.settings:
            changed = sorted(k for k, v in self.settings.items() if record["settings"].get(k) != v)
            allowed = "the held-out points and checks of the run that is resumed"
            raise DomainError("watch", ", ".join(changed), allowed, "Give the same, another path, or start anew")
        self.history = list(record["history"])

    # --- each check --------------------------------------------------------------------------------------------------

    def check(self, step: int, denoiser: Denoiser) -> list[Departure]:
        """Take the losses at this step; returns the networks that depart at it."""
        entry: dict[str, Any] = {"step": step, "losses": []}
        for (train, held_out), reference in zip(self.probes.losses(denoiser), self.probes.reference, strict=True):
            ok = np.isfinite(train).all() and np.isfinite(held_out).all()  # a run that has diverged is no memory
            p = departure(train, held_out, *reference) if ok else np.ones(self.levels)
            columns = [f(x) for x in (train, held_out) for f in (_mean, _error)]
            entry["losses"].append([*columns, p.tolist()])
        before = {d.member for d in self.departures()}
        self.history.append(entry)
        found = [d for d in self.departures() if d.member not in before]
        for one in found:
            if self.tell:
                self.tell(one, self.kept(one.member) if one.step else None)
        return found

    def departures(self) -> list[Departure]:
        """The first departure of each network that has one so far."""
        found = []
        for m, P in enumerate(self.sizes):
            last = 0
            for entry in self.history:
                train, _, held_out, _, p = entry["losses"][m]
                k = int(np.argmin(p))
                if p[k] < self.threshold:
                    t = float(self.probes.t[k])
                    found.append(Departure(m, P, entry["step"], last, t, p[k], train[k], held_out[k]))
                    break
                last = entry["step"]
        return found

    def curves(self) -> xr.Dataset:
        """Losses E|D - xi|^2/(N t) over (step, member, t): `train`, `held_out`, their errors over points, and `p`."""
        return self.dataset(self.history, self.sizes, self.probes.t, self.rate, comparisons=len(self.steps))

    @staticmethod
    def dataset(
        history: Sequence[Mapping[str, Any]],
        sizes: Sequence[int],
        t: np.ndarray,
        rate: float,
        comparisons: int | None = None,
    ) -> xr.Dataset:
        """What `curves` returns, of [{"step", "losses": (M, 5, L): train, error, held-out, error, p}, ...].

        comparisons : number of checks that share `rate`, default all in `history`
        """
        names = ("train", "train_error", "held_out", "held_out_error", "p")
        threshold = rate / ((comparisons or len(history)) * len(t) * len(sizes))
        shape = (len(history), len(sizes), len(names), len(t))
        values = np.array([entry["losses"] for entry in history], dtype=float).reshape(shape)
        axes = ("step", "member", "t")
        data: dict[str, Any] = {name: (axes, values[:, :, i]) for i, name in enumerate(names)}
        coords = {
            "step": [entry["step"] for entry in history],
            "member": np.arange(len(sizes)),
            "P": ("member", list(sizes)),
            "t": t,
            "sigma": ("t", np.sqrt(t)),
        }
        gone = (values[:, :, 4] < threshold).any(axis=2)
        first = np.where(gone.any(axis=0), np.array(coords["step"])[gone.argmax(axis=0)] if len(history) else -1, -1)
        data["departure_step"] = ("member", first)
        return xr.Dataset(data, coords, {"rate": rate, "threshold": threshold})

    def report(self) -> list[str]:
        """What was seen, one line a network, and where the numbers are."""
        gone = {d.member for d in self.departures()}
        lines = [
            f"P = {P}: no significant departure of the held-out from the training loss up to step {self.history[-1]['step']:,}"
            for m, P in enumerate(self.sizes)
            if self.history and m not in gone and P not in self.blind
        ]
        if self.history:
            least = (
                np.log(np.maximum(self.curves()["held_out"].values, np.finfo(float).tiny)).mean(axis=2).argmin(axis=0)
            )
            for P, k in zip(self.sizes, least, strict=True):
                step = self.history[k]["step"]
                lines.append(f"P = {P}: least held-out loss (mean logarithm over the levels) at step {step:,}")
        for P in self.blind:
            held_out = len(self.probes.held_out)
            lines.append(
                f"P = {P}: {min(P, self.points)} training and {held_out} held-out points are too few for a warning at a "
                f"false-alarm rate of {self.rate:g}"
            )
        return lines + ([f"losses of every check: {self.log}"] if self.log is not None else [])

    # --- files ---------------------------------------------------------------------------------------------------------

    @property
    def log(self) -> Path | None:
        """Where the losses are written, beside the checkpoint."""
        return None if self.path is None else self.path.with_name(f"{self.path.stem}-losses.csv")

    def write_log(self) -> None:
        """The losses so far, one row for each step, network and level."""
        if self.log is not None and self.history:
            save_dataset(self.curves(), self.log)

    def kept(self, member: int) -> Path | None:
        """Where the checkpoint before the departure of a member is kept."""
        if self.path is None:
            return None
        several = len(self.sizes) > 1
        double = self.sizes.count(self.sizes[member]) > 1
        more = f"-P{self.sizes[member]}" * several + f"-{member}" * double
        return self.path.with_name(f"{self.path.stem}-before-memorising{more}.safetensors")

    @property
    def rolling(self) -> Path | None:
        """The state at the last check, while some network has not departed."""
        return None if self.path is None else self.path.with_name(f"{self.path.stem}-last-check.safetensors")

    def snapshot(self, step: int) -> Path | None:
        """Where the checkpoint of a check is kept, if all are."""
        return None if self.keep is None else self.keep / f"step-{step:08d}.safetensors"


def _mean(x: np.ndarray) -> list[float]:
    return x.mean(axis=1).tolist()


def _error(x: np.ndarray) -> list[float]:
    return (x.std(axis=1, ddof=1) / np.sqrt(x.shape[1])).tolist()
