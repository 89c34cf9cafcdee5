r"""The Jacobian of a score as an operator: J v and J^T v for any score, without the matrix.

    empirical score     products with the support of its weights         symmetric
    Gaussian score      closed form                                      symmetric
    networks, formulas  forward mode, else reverse mode twice, else central differences; J^T v by reverse mode
    anything else       its matrix, or its own `jvp` where that is too large

A gradient's Jacobian is symmetric; a network's need not be, and eigenvalues here are those of (J + J^T)/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any

import torch

from numerics.domain import DomainError, positive
from validation.spectra.differences import Slope, random_direction, slope
from validation.spectra.jacobians import plain_kernels
from validation.spectra.module_state import as_found
from validation.spectra.precision import products_in
from validation.spectra.score_functions import AutogradScore, Empirical, GaussianScore, as_score

__all__ = ["JacobianOperator"]

ENTRIES = 1 << 26  # of the matrices of a score that has both products and a matrix: held where they fit (0.5 GB)
STACKED = 1e-3  # of J + 1/t: what a batch of another size may change by rounding in float32
SHARE, ERRORS = 0.02, 5.0  # of the derivative, and of the quotient's error: what kinks at the quotient's step may cost


class JacobianOperator:
    """J(x, t) of any score at points x (B, N), float64, to be applied to (B, N) vectors, one a point.

    Parameters
    ----------
    score : whatever `as_score` takes; x : (B, N) or (N,); t : one number > 0

    `symmetric` : whether J is known to be so; `method` : how products are found; `products` : how many were asked for (a product
    is one pass over all points); `at_once` : whether one call takes several vectors a point, (B, k, N).

    Several vectors a point go through a network as a batch of copies of the point, one a vector, `face.chunk` rows at a time: the
    memory is that of so many points, whatever k. A network whose answer to a row hangs on the others of its batch is asked one
    vector after the other.
    """

    def __init__(self, score: Any, x: Any, t: float):
        self.score = as_score(score)
        points = torch.as_tensor(x).detach()
        if points.ndim == 1:
            points = points[None]
        if points.ndim != 2 or points.shape[0] == 0 or not bool(torch.isfinite(points).all()):
            raise DomainError("x", tuple(points.shape), "finite points of shape (B, N) or (N,)")
        level = positive("t", t)
        if level.ndim:
            raise DomainError("t", level.shape, "one number > 0")
        self.x, self.t, self.products = points.double(), float(level), 0
        self.B, self.N = self.x.shape
        self.symmetric, self.method, self.at_once = True, "closed form", True
        self._find_transposed: Callable[[], Callable[..., torch.Tensor] | None] = lambda: None
        self._stacks: Callable[[Callable[..., torch.Tensor]], bool] = lambda act: False
        self._apply = self._chosen()

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        """J v, (B, N)."""
        self.products += 1
        return self._apply(v)

    def each(self, v: torch.Tensor) -> torch.Tensor:
        """J v for k vectors a point, (B, k, N)."""
        return self._vectors(self._apply, v)

    def transposed(self, v: torch.Tensor) -> torch.Tensor:
        """J^T v, (B, N); J v where J is symmetric.

        Raises
        ------
        DomainError : where the function has no reverse mode
        """
        if self.symmetric:
            return self(v)
        self.products += 1
        if self._transposed is None:
            raise DomainError(
                "score", type(self.score).__name__, "one with reverse mode", "J^T v cannot be found from J v"
            )
        return self._transposed(v)

    @cached_property
    def _transposed(self) -> Callable[..., torch.Tensor] | None:
        """Found, and compared with quotients, when it is first asked for: a trace needs none."""
        return self._find_transposed()

    @property
    def has_transposed(self) -> bool:
        """Whether J^T v is to be had."""
        return self.symmetric or self._transposed is not None

    def quadratic(self, v: torch.Tensor) -> torch.Tensor:
        """J v or J^T v for k vectors a point, (B, k, N), whichever takes less time: as good for v.J v, and not else."""
        if self.at_once or self.symmetric or self._transposed is None:
            return self.each(v)
        return self._vectors(self._transposed, v)

    def symmetric_each(self, v: torch.Tensor) -> torch.Tensor:
        """(J + J^T) v/2 for k vectors a point, (B, k, N); J v where J^T v is not to be had."""
        forth = self.each(v)
        if self.symmetric or self._transposed is None:
            return forth
        return 0.5 * (forth + self._vectors(self._transposed, v))

    def _vectors(self, act: Callable[..., torch.Tensor], v: torch.Tensor) -> torch.Tensor:
        """act of k vectors a point, (B, k, N): at once, else as a batch of copies of the points, else one after the other."""
        self.products += (k := v.shape[1])
        if self.at_once:
            return act(v)
        if k > 1 and self._stacks(act):
            return act(v.flatten(0, 1), self.x.repeat_interleave(k, dim=0)).reshape(v.shape)
        return torch.stack([act(w) for w in v.unbind(dim=1)], dim=1)

    # --- which products -----------------------------------------------------------------------------------------------------

    def _chosen(self) -> Callable[..., torch.Tensor]:
        face = self.score
        if isinstance(face, Empirical):
            self.method = "support of the weights"
            return face.engine.jacobian_operator(self.x, self.t)
        if isinstance(face, GaussianScore):
            diagonal = -1 / (self.t + face.variances.to(self.x.device))
            return lambda v: v * diagonal
        if isinstance(face, AutogradScore):
            self.symmetric = self.at_once = False
            return self._differentiated(face)
        if hasattr(face, "jvp") and self.B * self.N**2 > ENTRIES:
            self.symmetric, self.method, self.at_once = False, "the score's own products", False
            self._matrix_transposed(face)
            return lambda v: face.jvp(self.x, self.t, v)
        self.method = "matrix"
        J = face.jacobian(self.x, self.t).double()
        self.symmetric = bool((J - J.mT).abs().max() <= 1e-9 * J.abs().max())
        self._find_transposed = lambda: lambda v: torch.einsum("bji,b...j->b...i", J, v)
        return lambda v: torch.einsum("bij,b...j->b...i", J, v)

    def _matrix_transposed(self, face: Any) -> None:
        kept: list[torch.Tensor] = []

        def apply(v: torch.Tensor) -> torch.Tensor:
            if not kept:
                kept.append(face.jacobian(self.x, self.t).double())
            return torch.einsum("bji,bj->bi", kept[0], v)

        self._find_transposed = lambda: apply

    def _differentiated(self, face: AutogradScore) -> Callable[..., torch.Tensor]:
        def function(points: torch.Tensor) -> torch.Tensor:
            return face.function(points, self.t)

        place = getattr(face, "device", None) or self.x.device
        exact = [False]  # while derivatives are compared: whether float32 is asked for

        def products() -> AbstractContextManager[None]:
            return products_in("float32" if exact[0] else face.products, place)

        def parts(v: torch.Tensor, points: torch.Tensor | None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            at = self.x[: len(v)] if points is None else points
            return zip(at.split(face.chunk), v.split(face.chunk), strict=True)

        def forward(v: torch.Tensor, points: torch.Tensor | None = None) -> torch.Tensor:
            with as_found(face.modules), torch.no_grad(), plain_kernels(), products():
                found = [torch.func.jvp(function, (p.clone(),), (w,))[1].double() for p, w in parts(v, points)]
            return torch.cat(found)

        def backward(v: torch.Tensor, points: torch.Tensor | None = None) -> torch.Tensor:
            found = []
            with as_found(face.modules), torch.enable_grad(), products():
                for p, w in parts(v, points):
                    leaf = p.clone().requires_grad_()
                    found.append(torch.autograd.grad(function(leaf.clone()), leaf, w)[0].double())
            return torch.cat(found)

        def twice(v: torch.Tensor, points: torch.Tensor | None = None) -> torch.Tensor:
            found = []  # J^T w is linear in w, and its own transpose is J
            with as_found(face.modules), torch.enable_grad(), plain_kernels(), products():
                for p, w in parts(v, points):
                    leaf, weight = p.clone().requires_grad_(), torch.zeros_like(p).requires_grad_()
                    (pulled,) = torch.autograd.grad(function(leaf.clone()), leaf, weight, create_graph=True)
                    found.append(torch.autograd.grad(pulled, weight, w)[0].double())
            return torch.cat(found)

        def quotient(b: int, u: torch.Tensor) -> Slope:
            step = math.sqrt(self.t) + float(torch.linalg.vector_norm(self.x[b])) / math.sqrt(self.N)
            return slope(function, self.x[b], u, step, 8)

        def quotients(v: torch.Tensor) -> torch.Tensor:
            found = torch.zeros_like(v)
            with as_found(face.modules), torch.no_grad():
                for b in range(self.B):
                    length = float(torch.linalg.vector_norm(v[b]))
                    if length > 0:
                        found[b] = quotient(b, v[b] / length).value * length
            return found

        def tells(act: Callable[[torch.Tensor], torch.Tensor], across: int = 0) -> bool:
            """Whether a derivative by torch serves and agrees with difference quotients: part of a function can hide from torch.

            Compared is J + 1/t, which is what the function knows: J u itself, or u.J w for `across` directions w.
            """
            u = random_direction(self.x[0])[None]  # at the first point alone
            try:
                value = act(u)[0] + u[0] / self.t
            except torch.OutOfMemoryError:
                raise
            except Exception:  # torch raises many kinds where it has no such derivative
                return False
            with as_found(face.modules), torch.no_grad():
                if not across:
                    own = quotient(0, u[0])
                    gap, size = value - own.value - u[0] / self.t, own.value + u[0] / self.t
                    return float(gap.norm()) <= ERRORS * own.error + SHARE * float(size.norm())
                generator = torch.Generator().manual_seed(1)
                others = torch.randn(across, self.N, generator=generator, dtype=torch.float64).to(self.x)
                others = others / others.norm(dim=1, keepdim=True)
                if self.method == "forward mode":  # which was compared itself
                    known = [Slope(forward(w[None])[0], 0.0, 0.0) for w in others]
                else:
                    known = [quotient(0, w) for w in others]
            found = zip(others, known, strict=True)
            pairs = torch.tensor([[float(value @ w), float(u[0] @ (q.value + w / self.t))] for w, q in found])
            error = ERRORS * max(q.error for q in known)
            return float((pairs[:, 0] - pairs[:, 1]).norm()) <= error + SHARE * float(pairs[:, 1].norm())

        @contextmanager
        def exactly() -> Iterator[None]:
            exact[0] = True
            try:
                yield
            finally:
                exact[0] = False

        def serves(name: str, act: Callable[[torch.Tensor], torch.Tensor], across: int = 0) -> bool:
            if name not in face.compared:
                with exactly():
                    agrees = tells(act, across)
                if agrees:
                    face.compared.add(name)
            return name in face.compared

        def stacks(act: Callable[..., torch.Tensor]) -> bool:
            """Whether two vectors at copies of the first point give what each gives alone."""
            if act is quotients or self.B * self.N == 0:
                return False
            name = f"{act.__name__}, stacked"
            if name not in face.compared and name not in face.apart:
                generator = torch.Generator().manual_seed(2)
                pair = torch.randn(2, self.N, generator=generator, dtype=torch.float64).to(self.x)
                with exactly():
                    together = act(pair, self.x[:1].expand(2, -1).contiguous())
                    alone = torch.cat([act(w[None]) for w in pair])
                known = alone + pair / self.t  # J + 1/t, as above
                same = float((together - alone).norm()) <= STACKED * float(known.norm())
                (face.compared if same else face.apart).add(name)
            return name in face.compared

        self._stacks = stacks
        self._find_transposed = lambda: backward if serves("backward", backward, across=3) else None
        for method, act in (("forward mode", forward), ("reverse mode twice", twice)):
            if serves(method, act):
                self.method = method
                return act
        self.method = "central differences"
        return quotients
