"""Finite-N samples of every data model: one frozen disorder, an endless reproducible stream of points.

A `Sampler` draws the disorder once (the matrix `F` of a hidden manifold) and then hands out points. On the CPU the
stream does not depend on how it is cut into tiles: `sample(3)` followed by `sample(5)` is `sample(8)`.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy as sp
import torch

from numerics.domain import DomainError, integer
from theory.models import Isotropic, Spectrum, Subspaces
from validation.devices import device_of

__all__ = ["ACTIVATIONS", "Sampler", "generator", "torch_activation"]

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda h: h,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "relu": torch.relu,
    "leaky_relu": lambda h: torch.where(h > 0, h, h / 100),
    "sign": torch.sign,
    "abs": torch.abs,
    "sin": torch.sin,
    "quadratic": torch.square,
}
_BLOCK = 1024  # normals are drawn in whole rows of this many at a time where the generator is not split-invariant
_SYMPY_TO_TORCH = {
    **{name: getattr(torch, name) for name in ("sin", "cos", "tan", "tanh", "sinh", "cosh", "exp", "log", "sqrt")},
    **{"erf": torch.erf, "erfc": torch.erfc, "sign": torch.sign, "Abs": torch.abs, "atan": torch.atan},
    "Max": lambda *args: _fold(torch.maximum, args),
    "Min": lambda *args: _fold(torch.minimum, args),
    "Heaviside": lambda x, half=0.5: torch.heaviside(x, torch.as_tensor(half, dtype=x.dtype, device=x.device)),
}


def _fold(operation, args):
    tensor = next(a for a in args if torch.is_tensor(a))
    args = [torch.as_tensor(a, dtype=tensor.dtype, device=tensor.device) for a in args]
    result = args[0]
    for other in args[1:]:
        result = operation(result, other)
    return result


class Normals:
    """Independent standard normals, row after row, from one seed.

    On the CPU numpy's SFC64 ziggurat is used: four times faster than torch in float64, and sequential, so rows do not
    depend on how they are asked for. On other devices torch's generator fills whole blocks of rows, kept between calls.
    """

    def __init__(self, width: int, seed: Sequence[int], device: torch.device, dtype: torch.dtype):
        self.width, self.device, self.dtype = width, device, dtype
        words = np.random.SeedSequence(list(seed))
        if device.type == "cpu":
            self._numpy = np.random.Generator(np.random.SFC64(words))
        else:
            self._torch = torch.Generator(device).manual_seed(int(words.generate_state(1, np.uint64)[0] >> 1))
            self._left = torch.empty((0, width), device=device, dtype=dtype)

    def rows(self, n: int) -> torch.Tensor:
        if self.device.type == "cpu":
            return torch.from_numpy(self._numpy.standard_normal((n, self.width))).to(self.dtype)
        blocks, held = [self._left], len(self._left)
        while held < n:
            shape = (_BLOCK, self.width)
            blocks.append(torch.randn(shape, generator=self._torch, device=self.device, dtype=self.dtype))
            held += _BLOCK
        rows = torch.cat(blocks)
        self._left = rows[n:].clone()
        return rows[:n]


def generator(width: int, seed: int | Sequence[int], device="cpu", dtype=torch.float64) -> Normals:
    """A seeded stream of rows of `width` independent standard normals; see `Normals`."""
    return Normals(width, _seed(seed), device_of(device), dtype)


class Sampler:
    r"""Points of a data model at finite dimension, with the disorder frozen.

    Isotropic: :math:`\xi=\sigma z`. Linear manifold: :math:`\xi=F\,\mathrm{diag}(\sqrt{s_k})\,z/\sqrt D`, one Gaussian
    `F` (N x D) for the life of the sampler. Hidden manifold: :math:`\xi_i=s(F_i\cdot z/\sqrt D)`. Subspaces and
    spectra of data: independent coordinates with the given variances, in the eigenbasis.

    Parameters
    ----------
    model : Isotropic, LinearManifold, Subspaces, Spectrum, or an object with `alpha_D` and `activation`
        Numbers only; a symbolic or array-valued model raises.
    N : int >= 1, optional for `Spectrum`
        Ambient dimension. Dimensions :math:`D=\alpha_DN`, :math:`d_k=a_kN` are rounded to integers; the model that
        is really sampled is `realised`, and theory should be asked about that one.
    seed : int >= 0, or a sequence of such
    device, dtype : torch device and floating dtype of the points
    activation : elementwise torch function, optional
        Overrides the model's own.

    Raises
    ------
    DomainError
        If a dimension rounds to zero, `N` contradicts a spectrum, or the activation is not elementwise.

    The failure that looks normal: alpha_D N = 7.5 silently sampled with D = 8 shifts times by several per cent; compare
    with `sampler.realised`, never with `model`.

    Source: [ours: docs/derivations/finite_n_drift.md]; the models are [AALMV25], [AVSP24], [GMKZ20].

    >>> from theory.models import LinearManifold
    >>> Sampler(LinearManifold(0.5), N=6, seed=1).sample(4).shape
    torch.Size([4, 6])
    """

    def __init__(
        self,
        model: Any,
        N: int | None = None,
        seed: int | Sequence[int] = 0,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
        *,
        activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ):
        if N is None and isinstance(model, Spectrum):
            N = model.N
        self.model, self.N, self.seed = model, integer("N", N, minimum=1), _seed(seed)
        self.device, self.dtype = device_of(device), dtype
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise DomainError("dtype", dtype, "a floating-point torch dtype")
        chosen = activation if activation is not None else getattr(model, "activation", None)
        self.activation = None if chosen is None else torch_activation(chosen)
        self.F: torch.Tensor | None = None
        self.realised, self._scale = self._realise()
        if hasattr(model, "alpha_D"):
            disorder = Normals(self._scale.numel(), (*self.seed, 0), self.device, dtype)
            self.F = disorder.rows(self.N)
            self._matrix = (self.F * (self._scale / self._scale.numel() ** 0.5)).T.contiguous()
        self._latents = Normals(self._scale.numel(), (*self.seed, 1, 0), self.device, dtype)

    @property
    def latent_dimension(self) -> int:
        """Number of latent normals a point: D, the sum of the d_k, or the number of non-zero eigenvalues."""
        return self._scale.numel()

    def sample(self, n: int) -> torch.Tensor:
        """The next `n` points of the stream, shape (n, N)."""
        return self.embed(self._latents.rows(integer("n", n, minimum=1)))

    def embed(self, z: torch.Tensor) -> torch.Tensor:
        """Points with latent coordinates `z`: (n, D) to (n, N)."""
        if self.F is not None:
            points = z @ self._matrix
        else:
            points = torch.zeros((len(z), self.N), device=self.device, dtype=self.dtype)
            torch.mul(z, self._scale, out=points[:, : self._scale.numel()])
        return points if self.activation is None else self.activation(points)

    def stream(self, index: int) -> Sampler:
        """The same disorder with another, independent stream of points; stream 0 is the sampler's own, from its start.

        >>> from theory.models import LinearManifold
        >>> a = Sampler(LinearManifold(0.5), N=6, seed=1)
        >>> b = a.stream(1)
        >>> bool((a.F == b.F).all()), bool((a.sample(2) == b.sample(2)).all())
        (True, False)
        """
        other = object.__new__(Sampler)
        other.__dict__.update(self.__dict__)
        seed = (*self.seed, 1, integer("index", index, minimum=0))
        other._latents = Normals(self._scale.numel(), seed, self.device, self.dtype)
        return other

    def _realise(self) -> tuple[Any, torch.Tensor]:
        """The model with integer dimensions, and the standard deviation of each latent coordinate."""
        model, N = self.model, self.N
        if isinstance(model, Isotropic):
            return model, self._std(np.full(N, _number("variance", model.variance)))
        if isinstance(model, Spectrum):
            if model.N != N:
                raise DomainError("N", N, f"{model.N}, the number of eigenvalues of the spectrum")
            return model, self._std(model.eigenvalues[model.eigenvalues > 0])
        if isinstance(model, Subspaces):
            ends = np.rint(np.cumsum(model.fractions) * N).astype(int)
            counts = np.diff(ends, prepend=0)
            if (counts < 1).any():
                raise DomainError("N", N, f"large enough that every fraction of {model} has a dimension", "Raise N")
            realised = Subspaces(tuple(counts / N), model.variances)
            return realised, self._std(np.repeat(model.variances, counts))
        if not hasattr(model, "alpha_D"):
            raise DomainError("model", model, "Isotropic, LinearManifold, Subspaces, Spectrum or HiddenManifold")
        D = int(np.rint(_number("alpha_D", model.alpha_D) * N))
        variances = getattr(model, "variances", None) or (1.0,)
        fractions = getattr(model, "fractions", None) or (1.0 / len(variances),) * len(variances)
        counts = np.diff(np.rint(np.cumsum(fractions) * D).astype(int), prepend=0)
        if D < 1 or (counts < 1).any():
            raise DomainError("N", N, f"large enough that every latent variance of {model} has a dimension", "Raise N")
        names = {field.name for field in dataclasses.fields(model)} if dataclasses.is_dataclass(model) else set()
        changes = {"alpha_D": D / N}
        if {"variances", "fractions"} <= names:
            changes |= {"variances": tuple(variances), "fractions": tuple(counts / D)}
        realised = dataclasses.replace(model, **changes) if "alpha_D" in names else model
        return realised, self._std(np.repeat(np.asarray(variances, dtype=float), counts))

    def _std(self, variances: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.sqrt(variances), device=self.device, dtype=self.dtype)


def torch_activation(activation: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """An elementwise torch function from a name, a sympy expression of one symbol, or a torch function.

    Parameters
    ----------
    activation : str, sympy expression, callable or `theory.models.activations.Activation`
        A name in `ACTIVATIONS`, an expression in one symbol, or an elementwise function of tensors (else of arrays).

    Raises
    ------
    DomainError
        For an unknown name, an expression in several symbols, or a function that is not elementwise.

    >>> x = sp.Symbol("x")
    >>> torch_activation(sp.Max(x, 0) ** 2)(torch.tensor([-1.0, 2.0]))
    tensor([0., 4.])
    """
    allowed = f"one of {', '.join(sorted(ACTIVATIONS))}, a sympy expression in one symbol, or an elementwise function"
    if getattr(activation, "function", None) is not None:  # theory.models.activations.Activation
        activation = activation.name if activation.name in ACTIVATIONS else activation.function
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            raise DomainError("activation", activation, allowed)
        return ACTIVATIONS[activation]
    if isinstance(activation, sp.Expr):
        if len(activation.free_symbols) != 1:
            raise DomainError("activation", activation, allowed)
        symbols = list(activation.free_symbols)
        candidates = [sp.lambdify(symbols, activation, modules=[_SYMPY_TO_TORCH])]
        candidates.append(_through_numpy(sp.lambdify(symbols, activation, modules=["scipy", "numpy"])))
    elif callable(activation):
        candidates = [activation, _through_numpy(activation)]
    else:
        raise DomainError("activation", activation, allowed)
    for function in candidates:
        if _elementwise(function):
            return function
    raise DomainError("activation", activation, allowed, "It did not act entry by entry, neither in torch nor in numpy")


def _through_numpy(function: Callable) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda h: torch.as_tensor(np.asarray(function(h.cpu().numpy()), dtype=np.float64)).to(h)


def _elementwise(function: Callable) -> bool:
    """Whether `function` maps tensors to tensors of equal shape and dtype, each entry by itself."""
    probe = torch.linspace(-1.5, 2.5, 6, dtype=torch.float64).reshape(2, 3)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy's functions take a tensor, but warn: they get arrays instead
            value, one = function(probe.clone()), function(probe[1:, :1].clone())
        return value.shape == probe.shape and value.dtype == probe.dtype and torch.equal(value[1:, :1], one)
    except Exception:  # a user's function may raise anything when handed a tensor
        return False


def _number(name: str, value: Any) -> float:
    if isinstance(value, sp.Expr) or np.ndim(value) != 0:
        raise DomainError(name, value, "one number", "A sampler needs numbers; substitute them first")
    return float(value)


def _seed(seed: int | Sequence[int]) -> tuple[int, ...]:
    parts = tuple(seed) if isinstance(seed, Sequence) else (seed,)
    if not parts:
        raise DomainError("seed", seed, "an integer >= 0 or a non-empty sequence of such")
    return tuple(integer("seed", part, minimum=0) for part in parts)
