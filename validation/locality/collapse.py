r"""At what noise the patches of a data set are memorised: own weights of its patches, beside the theory of a Gaussian field.

A patch x = xi + sqrt(t) omega competes with the patches of the other images at the same place (local, P_p = P), or with those of
all places (equivariant, P_p = P x places). Its own weight among them,

.. math:: \log w=-\tfrac12|\omega|^2-\log\sum_\mu e^{-|x-\xi^\mu|^2/2t},

averaged over patches, passes one half at the patch's collapse time. Theory: the same for Gaussian patches with the mean and
covariance of the data's, at infinite and at their own size. Source: [KG24, HKG26]; measured [ours].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from numerics.domain import LARGEST_SEED, DomainError, integer
from theory import ImageCovariance, collapse_time
from theory.finite_size import finite_collapse_time
from theory.locality import patch_load
from validation.data import Dataset
from validation.score import EmpiricalScore
from validation.score.local import all_patches, pad, patch_at
from validation.simulation import Estimate, crossing, jackknife

__all__ = ["PatchAudit", "PatchRow", "audit_patches", "patch_widths"]

WIDTHS = (3, 5, 7, 11, 15, 23, 31)  # of "auto", as far as they are no wider than the image
LEVELS, DECADES = 28, (-4.5, 1.0)  # noise levels, decades around the theory's collapse time
HELD = 1 << 25  # numbers of a bag's patches held at once (0.1 GB in float32)
WORK = 3e11  # multiplications of a bag up to which it is taken whole: a minute or two on two cores
DRAWS = 8  # of the exact theory's averages
PIECE = 1 << 15  # patches compared at once with the probes


@dataclass(frozen=True)
class PatchRow:
    """One width. Times in VE units, squared data units.

    width, numbers : pixels across, and numbers in a patch that vary; images : of the bag (all, or as many as were affordable);
    patches : that compete, P_p; theory : of Gaussian patches at infinite size; finite : exact at P_p (error over draws of x);
    measured : on the data (error over probes); probes, copies : patches looked at, and those left out as having an exact copy
    """

    width: int
    numbers: int
    equivariant: bool
    images: int
    patches: int
    theory: float
    finite: Estimate
    measured: Estimate
    probes: int
    copies: int


@dataclass(frozen=True, eq=False)
class PatchAudit:
    """Rows of all widths, local and equivariant, and the Gaussian field whose theory stands beside."""

    data: Dataset
    field: ImageCovariance
    rows: tuple[PatchRow, ...]
    seed: int

    def of(self, equivariant: bool) -> list[PatchRow]:
        return [row for row in self.rows if row.equivariant == equivariant]

    def full_bag(self, row: PatchRow) -> float:
        """The theory's collapse time where all images are in the bag."""
        return float(collapse_time(self.field, P=self.data.P, patch=row.width, equivariant=row.equivariant))

    def largest(self, t: Any, *, equivariant: bool) -> np.ndarray:
        """(T,) largest width that is not memorised at t, its measured collapse being below t; 0 where even the smallest is.

        Widths whose patches all have copies are memorised at no noise.
        """
        t = np.atleast_1d(np.asarray(t, dtype=float))
        found, open_ = np.zeros(t.size, dtype=int), np.ones(t.size, dtype=bool)
        for row in self.of(equivariant):
            open_ &= ~(row.measured.value >= t)
            found[open_] = row.width
        return found

    def levels(self, t_range: tuple[float, float], count: int = 5) -> np.ndarray:
        """Noise from half of the lowest collapse sigma of any width to twice the highest, as far as it lies in `t_range`."""
        times = [row.measured.value for row in self.rows if math.isfinite(row.measured.value)]
        times = times or [row.theory for row in self.rows]
        low, high = np.clip([min(times) / 4, 4 * max(times)], t_range[0] * (1 + 1e-6), t_range[1] * (1 - 1e-6))
        return np.geomspace(low, high, count)


def patch_widths(data: Dataset, patch: str | int | Sequence[int] = "auto") -> list[int]:
    """Odd widths: those asked for, or 3, 5, 7, 11, ... up to the image's.

    Raises
    ------
    DomainError : no images; an even width, or one that passes twice the image
    """
    if len(data.shape) not in (2, 3) or min(data.shape[-2:]) < 2:
        raise DomainError(
            "data", f"samples of shape {data.shape}", "images (C, H, W) or (H, W) of two pixels a side or more"
        )
    side = max(data.shape[-2:])
    if isinstance(patch, str):
        if patch != "auto":
            raise DomainError("patch", patch, "auto, an odd number, or several")
        return [w for w in WIDTHS if w <= side + 1 - side % 2]
    widths = [integer("patch", w, minimum=1, maximum=2 * side - 1) for w in np.atleast_1d(np.asarray(patch)).tolist()]
    for width in widths:
        if width % 2 == 0:
            raise DomainError("patch", width, f"an odd number from 1 to {2 * side - 1}", "A patch has a middle")
    return sorted(set(widths))


def audit_patches(
    data: Dataset,
    patch: str | int | Sequence[int] = "auto",
    *,
    probes: int = 128,
    finite_size: bool = True,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[str], None] | None = None,
) -> PatchAudit:
    """The collapse of the patches of a data set, width by width: local and equivariant, measured and predicted.

    Parameters
    ----------
    data : Dataset of images, from `validation.data.load`
    patch : "auto", an odd width, or several
    probes : patches looked at, >= 8: the middle of so many images for the local score, any place for the equivariant one
    finite_size : also the exact theory at this number of patches, seconds a width
    seed, device : of the draws, of the engine
    progress : called with a line before each width

    Returns
    -------
    PatchAudit. A time whose curve has no crossing on the grid is NaN with a reason. Patches of which the data have exact copies
    (flat ones) share their weight at every noise: they are counted and left out of the mean.

    Raises
    ------
    DomainError : see `patch_widths`; probes or seed outside their domain

    The failure that looks normal: local patches are those in the middle of the image, where centred objects vary most.

    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 64)).astype(np.float32)
    >>> found = audit_patches(Dataset(X, "white", (8, 8), "data units", "white noise"), 3, probes=64)
    >>> local, bag = found.of(False)[0], found.of(True)[0]
    >>> bool(bag.measured.value < local.measured.value)  # more patches compete
    True
    """
    widths = patch_widths(data, patch)
    probes = integer("probes", probes, minimum=8)
    seed = integer("seed", seed, minimum=0, maximum=LARGEST_SEED)
    tell = progress or (lambda line: None)
    images = torch.from_numpy(np.ascontiguousarray(data.X)).reshape(data.P, -1, *data.shape[-2:])
    tell("covariance of the pixels")
    field = ImageCovariance.from_images(images)
    rows = []
    for equivariant in (False, True):
        for width in widths:
            tell(f"patches of {width} x {width}, {'all places' if equivariant else 'the middle'}")
            rows.append(_row(images.to(device), field, width, equivariant, probes, finite_size, seed, device))
    return PatchAudit(data, field, tuple(rows), seed)


def _row(
    images: torch.Tensor,
    field: ImageCovariance,
    width: int,
    equivariant: bool,
    probes: int,
    finite_size: bool,
    seed: int,
    device: str,
) -> PatchRow:
    C, H, W = images.shape[1:]
    half, numbers = width // 2, C * width**2
    places = H * W if equivariant else 1
    # two products and the reading of their result, a pair
    affordable = int(WORK / (2 * (numbers + LEVELS) * probes * places))
    used = len(images) if not equivariant else max(2, min(len(images), affordable))
    images = images[_spread(len(images), used)]
    if not equivariant and not bool(patch_at(pad(images, half, "zero"), H // 2, W // 2, width).std(dim=0).any()):
        still = Estimate(math.nan, math.nan, "the patches in the middle are all alike, each an exact copy")
        return PatchRow(width, 0, False, used, used, 0.0, still, still, min(probes, used), min(probes, used))
    load = float(patch_load(field, used, equivariant=equivariant))
    spectrum = field.patch(width, equivariant=equivariant)
    theory = float(collapse_time(field, P=used, patch=width, equivariant=equivariant))
    finite = Estimate(math.nan, math.nan, "not asked for")
    if finite_size:
        exact = finite_collapse_time(spectrum, log_P=load, seed=seed, samples=DRAWS)
        finite = Estimate(exact.value, math.hypot(exact.error, exact.quadrature))
    t = theory * np.logspace(*DECADES, LEVELS)
    rng = np.random.default_rng((seed, width, int(equivariant)))
    padded = pad(images, half, "zero")
    if equivariant:
        at = np.sort(rng.choice(used * places, min(probes, used * places), replace=False))
        points = torch.stack(
            [patch_at(padded[k // places][None], *divmod(k % places, W), width)[0] for k in at.tolist()]
        )
    else:
        at = np.sort(rng.choice(used, min(probes, used), replace=False))
        points = patch_at(padded[torch.from_numpy(at)], H // 2, W // 2, width)
    noise = rng.standard_normal(tuple(points.shape))
    log_z, copies = _log_partition(_pieces(padded, width, equivariant, H, W), points, noise, t, device)
    log_w = np.minimum(-0.5 * (noise**2).sum(axis=1)[:, None] - log_z.T, 0.0)
    own = np.exp(log_w[copies == 1])
    if len(own) < 8:
        measured = Estimate(math.nan, math.nan, f"only {len(own)} of {len(at)} patches have no exact copy")
    else:
        read = jackknife(np.log(t), own, crossing)
        value = math.exp(read.value)
        measured = Estimate(value, value * read.error, read.reason)
    return PatchRow(
        width,
        int((spectrum.eigenvalues > 0).sum()),
        equivariant,
        used,
        used * places,
        theory,
        finite,
        measured,
        len(at),
        int((copies > 1).sum()),
    )


def _spread(P: int, used: int) -> torch.Tensor:
    return torch.arange(used) * P // used


def _pieces(padded: torch.Tensor, width: int, equivariant: bool, H: int, W: int) -> Iterator[torch.Tensor]:
    """All patches that compete, (P_k, C width^2) at a time."""
    if not equivariant:
        yield patch_at(padded, H // 2, W // 2, width)
        return
    step = max(1, HELD // (H * W * padded.shape[1] * width**2))
    for start in range(0, len(padded), step):
        yield all_patches(padded[start : start + step], width).flatten(0, 1)


def _log_partition(
    pieces: Iterator[torch.Tensor], points: torch.Tensor, noise: np.ndarray, t: np.ndarray, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """(K, B) logarithm of the sum over all pieces at x = points + sqrt(t) noise; (B,) how many patches equal it, up to 2."""
    total = np.full((t.size, len(points)), -np.inf)
    copies = np.zeros(len(points), dtype=np.int64)
    base = points.double().cpu().numpy()
    for piece in pieces:
        rows = piece if len(piece) > 1 else piece.repeat(2, 1)
        part = EmpiricalScore(rows, device=device).noisy_profile(base, noise, t)["log_partition"]
        total = np.logaddexp(total, np.asarray(part) - (0.0 if len(piece) > 1 else math.log(2)))
        few = copies < 2
        copies[few] += _equal(piece, points[torch.from_numpy(few)])
    return total, copies


def _equal(piece: torch.Tensor, points: torch.Tensor) -> np.ndarray:
    """(B,) how many rows of a piece equal each point: equal sums first, then all numbers."""
    found = np.zeros(len(points), dtype=np.int64)
    if not len(points):
        return found
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(points.shape[1], generator=generator, dtype=torch.float64).to(points.device)
    marks = (points.double() * v).sum(1)
    size = float((points.double().abs() * v.abs()).sum(1).max()) + 1e-300
    for part in piece.split(PIECE):
        near = torch.nonzero(((part.double() * v).sum(1)[:, None] - marks).abs() <= 1e-9 * size)
        for start in range(0, len(near), PIECE):
            row, point = near[start : start + PIECE].T
            same = (part[row] == points[point]).all(1)
            found += np.bincount(point[same].cpu().numpy(), minlength=len(points))
    return found
