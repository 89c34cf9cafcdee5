r"""The local score: the optimum of denoising for a network whose output at a pixel sees the patch around it only::

    D_i(x) = sum_mu w_mu xi^mu_i,      w = softmax_mu(-|x_patch(i) - xi^mu_patch(i)|^2 / 2t),      s_i = (D_i - x_i)/t

Local (LS): the patches of the P training images at the same place compete. Equivariant (ELS), as convolution makes it: the
patches of all places are one bag. Both are empirical scores of patches, of which the centre is read. On a CPU the distances of
all patches come from sums over moving squares (`box_sums`); the engine of `EmpiricalScore` on the written-out patches is their
referee, and what weighted windows, parts of the bag, Jacobians and GPUs use. Source: [KG24].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from numerics.domain import DomainError, integer, positive
from validation.score import EmpiricalScore
from validation.score.kernels import COMPILED
from validation.score.local.box_sums import BoxSums
from validation.score.local.patches import all_patches, border_types, folded, pad, patch_at

__all__ = ["BORDERS", "LocalScore"]

BORDERS = ("zero", "apart", "circular")


class LocalScore:
    """The LS or ELS score of a set of images.

    Parameters
    ----------
    images : (P, C, H, W) or (P, H, W) finite reals, P >= 2; numpy or torch
    patch : odd int, or a callable t -> odd int
        Width of the square that a pixel is denoised from; a callable gives one for each noise level (then t is one number).
    equivariant : bool
        True: all places share one bag of P H W patches (ELS). False: each place has its own P (LS).
    border : "zero", "apart" or "circular"
        What a patch sees beyond the image: zeros, as a convolution's padding gives; the same, but with patches compared only
        where the border cuts them alike; or the image again, for periodic fields.
    window : (patch, patch) numbers in [0, 1], optional
        Weight of each pixel of the patch in the distance, positive at the centre (default 1 everywhere).
    bag : int, optional
        ELS only: a random subset of so many patches of each group stands for all (seeded by `seed`). The exact bag of 10 000
        images of 28 x 28 has 7.8 million patches. A part is coarse at small noise: of 9000 such digits, width 7, at one fresh
        image, the denoiser of 65 536 patches is off by 1.7, 1.3 and 0.27 times the whole bag's own error at sigma = 0.1, 0.3, 1.
    method : "boxes", "products", or None
        How `denoise`, `score` and `participation` go over the pairs of patches: squared differences summed over moving squares
        (CPU, uniform window, whole bag), or matrix products, an `EmpiricalScore` of patches. None: boxes where they can be had.
        Boxes in float32 are within 1e-4 of log weights; queries for which they are not are computed in float64.
    device, dtype, clusters : of `EmpiricalScore`

    Methods take x of the shape of the images, with a batch axis (B, ...) or for one image without, or flat (B, N) with
    N = C H W, and t > 0 a number or (B,); they return the same kind. The flat form makes it a `ScoreFunction` of
    `validation.spectra`.

    Raises
    ------
    DomainError : shapes, an even or too large patch, unknown border, a window without its centre, what `EmpiricalScore` refuses

    The failure that looks normal: a local score is the gradient of no density. Its Jacobian need not be symmetric.

    >>> import numpy as np
    >>> images = np.array([[[0.0, 1.0]], [[1.0, 0.0]]])  # two images of 1 x 2 pixels
    >>> x = np.array([[[0.0, 1.0]]])
    >>> LocalScore(images, patch=1, equivariant=False, dtype="float64").denoise(x, 0.5).round(4).tolist()  # each pixel by itself
    [[[0.2689, 0.7311]]]
    >>> LocalScore(images, patch=3, equivariant=False, dtype="float64").denoise(x, 0.5).round(4).tolist()  # both together
    [[[0.1192, 0.8808]]]
    """

    def __init__(
        self,
        images: Any,
        patch: int | Callable[[float], int] = 7,
        equivariant: bool = True,
        *,
        border: str = "zero",
        window: Any = None,
        bag: int | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        dtype: Any = "float32",
        clusters: int | str | None = None,
        method: str | None = None,
    ):
        if border not in BORDERS:
            raise DomainError("border", border, ", ".join(map(repr, BORDERS)))
        images = images if isinstance(images, torch.Tensor) else torch.from_numpy(np.asarray(images))
        if images.ndim not in (3, 4) or len(images) < 2 or 0 in images.shape:
            raise DomainError("images", tuple(images.shape), "an array (P, C, H, W) or (P, H, W) with P >= 2")
        if images.is_complex():
            raise DomainError("images", str(images.dtype), "real numbers")
        self.shape = tuple(images.shape[1:])
        images = images if images.is_floating_point() else images.float()
        self.images = (images if images.ndim == 4 else images[:, None]).to(device)
        if window is not None:
            self.images = self.images.double()  # the window's weights are no float32 numbers
        if not bool(torch.isfinite(self.images).all()):
            raise DomainError("images", "NaN or infinite entries", "finite numbers")
        self.P, (self.C, self.H, self.W) = len(images), self.images.shape[1:]
        self.N, self.places = self.C * self.H * self.W, self.H * self.W
        self.patch, self.equivariant, self.border, self.seed = patch, bool(equivariant), border, seed
        self.bag = None if bag is None else integer("bag", bag, minimum=2)
        if self.bag is not None and not self.equivariant:
            raise DomainError("bag", bag, "None with equivariant=False", "A place has P patches")
        self.options = {"device": device, "dtype": dtype, "clusters": clusters}
        self.device = self.images.device
        self._window = None if window is None else np.asarray(window, dtype=float)
        self._sums: BoxSums | None = None
        plain = (
            self._window is None and self.bag is None and clusters is None and self.device.type == "cpu" and COMPILED
        )
        if method not in (None, "boxes", "products") or (method == "boxes" and not plain):
            allowed = "'boxes', 'products' or None" if plain else "'products' or None"
            raise DomainError(
                "method", method, allowed, "Boxes want a CPU, no window, no bag, no clusters, compiled kernels"
            )
        self.method = method or ("boxes" if plain else "products")
        self._bags: tuple[int, list[tuple[torch.Tensor, EmpiricalScore]]] | None = None
        if not callable(patch):
            self._root_window(self._width(patch))

    def denoise(self, x: Any, t: Any) -> Any:
        """The posterior mean of each pixel given the patch around it, in the shape and kind of x. Source: [KG24]."""
        return self._map(x, t, "denoise")

    def score(self, x: Any, t: Any) -> Any:
        """`(denoise(x, t) - x)/t`, without the cancellation that this form has at small t. Source: [KG24]."""
        return self._map(x, t, "score")

    def participation(self, x: Any, t: Any) -> Any:
        """How many patches share the weight at each pixel, (B, H, W): 1 where the patch is memorised."""
        return self._map(x, t, "participation")

    def jvp(self, x: Any, t: Any, v: Any) -> Any:
        """J v for v of the shape of x, J the Jacobian of `score`: at each place the covariance of its centre with its patch."""
        images, level, width, back = self._checked(x, t)
        vectors = self._checked(v, t)[0]
        scale, half = self._root_window(width), width // 2
        centre = self._centre(width)
        out = torch.zeros_like(images)
        padded, moved = pad(images, half, self.border), pad(vectors, half, self.border)
        for row, column, engine, q in self._visits(padded, width, scale):
            u = patch_at(moved, row, column, width) * scale
            out[:, :, row, column] = engine.jvp(q, level, u)[:, centre] / scale[centre]
        return back(out)

    def jacobian(self, x: Any, t: Any) -> Any:
        """The Jacobian of `score` at flat points x (B, N): (B, N, N), entry (i, j) the derivative of pixel i by pixel j."""
        if self._flat(x) is not True:
            raise DomainError("x", tuple(np.shape(x)), f"flat points of shape (B, {self.N})")
        images, level, width, _ = self._checked(x, t)
        scale, half, centre = self._root_window(width), width // 2, self._centre(width)
        B = len(images)
        out = torch.zeros(B, self.C, self.H, self.W, self.N, dtype=torch.float64, device=self.device)
        padded = pad(images, half, self.border)
        for row, column, engine, q in self._visits(padded, width, scale):
            for c, at in enumerate(centre.tolist()):
                unit = torch.zeros_like(q)
                unit[:, at] = 1.0
                row_of_patch = engine.jvp(q, level, unit)  # J of the patch is symmetric: a row is a column
                gradient = row_of_patch * scale / scale[at]
                total = torch.zeros(
                    len(q), self.C, self.H + 2 * half, self.W + 2 * half, dtype=torch.float64, device=self.device
                )
                folded(gradient, row, column, width, total)
                out[:, c, row, column] = self._unpadded(total, half).reshape(len(q), self.N)
        result = out.reshape(B, self.N, self.N)
        return result if isinstance(x, torch.Tensor) else result.cpu().numpy()

    # --- one width ------------------------------------------------------------------------------------------------------

    def _width(self, patch: Any) -> int:
        width = integer("patch", patch, minimum=1)
        largest = 2 * max(self.H, self.W) - 1
        if width % 2 == 0 or width > largest:
            raise DomainError("patch", width, f"an odd number from 1 to {largest}")
        if self.border == "circular" and width > min(self.H, self.W):
            raise DomainError("patch", width, f"at most {min(self.H, self.W)} on a periodic image")
        return width

    def _root_window(self, width: int) -> torch.Tensor:
        """Root of the window's weights, one number a coordinate of the patch."""
        if self._window is None:
            return torch.ones(self.C * width * width, dtype=torch.float64, device=self.device)
        w = self._window
        if w.shape != (width, width) or not ((w >= 0) & (w <= 1)).all() or w[width // 2, width // 2] <= 0:
            raise DomainError("window", w.shape, f"({width}, {width}) numbers in [0, 1], positive at the centre")
        return torch.from_numpy(np.sqrt(np.tile(w.ravel(), self.C))).to(self.device)

    def _centre(self, width: int) -> torch.Tensor:
        return torch.arange(self.C, device=self.device) * width * width + (width * width) // 2

    def _groups(self, width: int) -> list[tuple[torch.Tensor, EmpiricalScore]]:
        """ELS: groups of places and the engine of their bag of patches, kept until another width is asked for."""
        if self._bags is not None and self._bags[0] == width:
            return self._bags[1]
        self._bags = None  # the old bags go before the new ones come
        half, scale = width // 2, self._root_window(width).to(self.images.dtype)
        padded = pad(self.images, half, self.border)
        places = border_types(self.H, self.W, half) if self.border == "apart" else [torch.arange(self.places)]
        groups = []
        for k, group in enumerate(places):
            total = self.P * len(group)
            if self.bag is not None and self.bag < total:
                kept = np.random.default_rng((self.seed, k)).choice(total, self.bag, replace=False)
                image, place = torch.from_numpy(kept // len(group)), group[torch.from_numpy(kept % len(group))]
                windows = padded.unfold(2, width, 1).unfold(3, width, 1)
                row, column = place // self.W, place % self.W
                patches = windows[image.to(self.device), :, row.to(self.device), column.to(self.device)].reshape(
                    self.bag, -1
                )
            else:
                patches = all_patches(padded, width, group.to(self.device)).reshape(total, -1)
            groups.append((group, EmpiricalScore(patches * scale, **self.options)))
        self._bags = (width, groups)
        return groups

    def _visits(
        self, padded: torch.Tensor, width: int, scale: torch.Tensor
    ) -> Iterator[tuple[int, int, EmpiricalScore, torch.Tensor]]:
        """For every place: row, column, the engine of its patches, and the queries' patches there."""
        if self.equivariant:
            for group, engine in self._groups(width):
                for place in group.tolist():
                    row, column = divmod(place, self.W)
                    yield row, column, engine, patch_at(padded, row, column, width) * scale
            return
        own = pad(self.images, width // 2, self.border)
        for place in range(self.places):
            row, column = divmod(place, self.W)
            patches = patch_at(own, row, column, width) * scale.to(own.dtype)
            engine = EmpiricalScore(patches, **self.options)
            yield row, column, engine, patch_at(padded, row, column, width) * scale

    def _map(self, x: Any, t: Any, what: str) -> Any:
        """`denoise`, `score` (as images) or `participation` (B, H, W) at every place, by box sums or by engines of patches."""
        images, level, width, back = self._checked(x, t)
        if self.method == "boxes":
            means, participation = self._boxes(width)(images, level)
            if what == "participation":
                return back(participation)
            return back(images + means if what == "denoise" else means / level[:, None, None, None])
        scale, centre = self._root_window(width), self._centre(width)

        def ask(engine: EmpiricalScore, queries: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            found = getattr(engine, what)(queries, level)
            return found[:, None] if what == "participation" else found[:, centre] / scale[centre]

        channels = 1 if what == "participation" else self.C
        out = torch.zeros(len(images), channels, self.H, self.W, dtype=torch.float64, device=self.device)
        padded = pad(images, width // 2, self.border)
        if self.equivariant:  # queries of all places of a group go to its engine together
            for group, engine in self._groups(width):
                queries = all_patches(padded, width, group.to(self.device)) * scale
                B, L = queries.shape[:2]
                found = ask(engine, queries.reshape(B * L, -1), level.repeat_interleave(L))
                out.view(B, -1, self.places)[:, :, group.to(self.device)] = found.reshape(B, L, -1).transpose(1, 2)
        else:
            for row, column, engine, q in self._visits(padded, width, scale):
                out[:, :, row, column] = ask(engine, q, level)
        return back(out[:, 0] if what == "participation" else out)

    def _boxes(self, width: int) -> BoxSums:
        """The box sums of one width, kept until another is asked for."""
        if self._sums is None or self._sums.width != width:
            self._sums = BoxSums(self.images, width, self.equivariant, self.border, self.options["dtype"])
        return self._sums

    # --- what came in, and back ---------------------------------------------------------------------------------------------

    def _flat(self, x: Any) -> bool | None:
        """True for (B, N) points, False for images; None for what is neither."""
        shape = tuple(np.shape(x))
        if shape == self.shape or shape[1:] == self.shape:
            return False
        return True if len(shape) == 2 and shape[1] == self.N else None

    def _checked(self, x: Any, t: Any) -> tuple[torch.Tensor, torch.Tensor, int, Callable[[torch.Tensor], Any]]:
        """Queries (B, C, H, W) in float64, t (B,), the patch's width, and the way back to the caller's kind."""
        flat, shape = self._flat(x), tuple(np.shape(x))
        if flat is None:
            raise DomainError(
                "x", shape, f"(B, {', '.join(map(str, self.shape))}), one image without B, or (B, {self.N})"
            )
        single = shape == self.shape
        values = x if isinstance(x, torch.Tensor) else torch.from_numpy(np.asarray(x))
        if values.is_complex():
            raise DomainError("x", str(values.dtype), "real numbers")
        images = values.to(self.device, torch.float64).reshape(-1, self.C, self.H, self.W)
        if not bool(torch.isfinite(images).all()):
            raise DomainError("x", "NaN or infinite entries", "finite numbers")
        levels = positive("t", t.detach().cpu().numpy() if isinstance(t, torch.Tensor) else t)
        if levels.ndim > 1 or levels.size not in (1, len(images)):
            raise DomainError("t", levels.shape, f"a number, or one for each of {len(images)} images")
        level = torch.from_numpy(np.broadcast_to(levels.reshape(-1), (len(images),)).copy()).to(self.device)
        if callable(self.patch):
            if level.unique().numel() != 1:
                raise DomainError("t", "several noise levels", "one number where the patch depends on it")
            width = self._width(self.patch(float(level[0])))
        else:
            width = self._width(self.patch)
        dtype = values.dtype if values.is_floating_point() else torch.float64

        def back(result: torch.Tensor) -> Any:
            result = result.to(dtype)
            if result.ndim == 4:
                result = result.reshape(shape)
            elif single:
                result = result[0]
            return result.to(values.device) if isinstance(x, torch.Tensor) else result.cpu().numpy()

        return images, level, width, back

    def _unpadded(self, total: torch.Tensor, half: int) -> torch.Tensor:
        """Gradients by padded pixels as gradients by pixels: zeros are constants, and periodic copies add up."""
        if half == 0:
            return total
        if self.border != "circular":
            return total[:, :, half:-half, half:-half]
        rows, columns = (
            torch.arange(n + 2 * half, device=total.device).sub(half).remainder(n) for n in (self.H, self.W)
        )
        place = (rows[:, None] * self.W + columns[None, :]).reshape(-1)
        flat = total.reshape(*total.shape[:2], -1)
        return torch.zeros(*total.shape[:2], self.places, dtype=total.dtype, device=total.device).index_add_(
            2, place, flat
        )
