r"""Effective dimension, density and leading directions of a score's Jacobian from a few products, with error bars.

In units of 1/t, :math:`A=-t(J+J^\top)/2`: a direction of pure noise has the eigenvalue 1, one inside the data 0.

.. math:: d(t)=N+t\,\mathrm{tr}J=\mathrm{tr}(1-A),\qquad \text{FLIPD}=d(t)+t|s|^2,\qquad
   \text{directions kept}=\#\{a<\tfrac12\}.

For the exact score :math:`d=\mathrm{tr}\,\mathrm{Cov}(\xi|x)/t`. Memory is O(k N), never N x N.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import LinearOperator, eigsh

from numerics.domain import DomainError, integer, positive
from validation.spectra.operators import JacobianOperator
from validation.spectra.score_functions import as_score

__all__ = ["effective_dimension", "leading_directions", "quadrature", "spectral_density"]

BASIS = 1 << 25  # numbers of the Lanczos vectors held at once (0.25 GB)
HALF = 0.5  # an eigenvalue below it belongs to the data more than to the noise


def effective_dimension(
    score: Any, x: Any, t: Any, *, probes: int = 16, seed: int = 0, control: Any = None
) -> xr.Dataset:
    r"""The curve :math:`d(t)=N+t\,\mathrm{tr}J(x,t)` at every point, by Hutchinson's estimator with random signs.

    :math:`\mathrm{tr}J\approx\frac1k\sum v^\top Jv`. With a `control` of known trace (a Gaussian score) its own estimate is
    subtracted from the same signs, by a coefficient that each half of the probes takes from the other: the mean stays exact.

    Parameters
    ----------
    score : whatever `as_score` takes: an EmpiricalScore, a GaussianScore, a torch module or a callable (x, t)
    x : (B, N) points; t : number or (T,) numbers > 0
    probes : products a noise level, >= 2. From `probes` = N on the N unit vectors are taken instead: exact, with error 0
    control : a score with a cheap Jacobian, or None

    Returns
    -------
    Dataset over (t, point): `dimension` and `flipd` with `error` (one standard error over probes); over t: `mean` and
    `mean_error` (over points, probes included). Attributes: `products`, `method`.

    Raises
    ------
    DomainError : points, noise or probes outside their domain

    The failure that looks normal: for a score that is no gradient the trace is still right; it sees no antisymmetric part.
    Source: [AVSP24] for the dimension; [ours] for the control.

    >>> from validation.spectra.score_functions import GaussianScore
    >>> found = effective_dimension(GaussianScore([1.0, 1.0, 0.0]), torch.zeros(1, 3, dtype=torch.float64), 1.0)
    >>> found["dimension"].values.tolist()
    [[1.0]]
    """
    levels = np.atleast_1d(positive("t", t))
    probes = integer("probes", probes, minimum=2)
    face, values, flipd, errors = as_score(score), [], [], []
    products, method = 0, ""
    for level in map(float, levels):
        J = JacobianOperator(face, x, level)
        trace, error = _trace(J, None if control is None else JacobianOperator(control, x, level), probes, seed)
        square = face.score(J.x, level).double().square().sum(dim=1).cpu().numpy()
        values.append(J.N + level * trace)
        flipd.append(J.N + level * (trace + square))
        errors.append(level * error)
        products, method = products + J.products, J.method
    d = np.array(values)
    B = d.shape[1]
    spread = d.std(axis=1, ddof=1) / math.sqrt(B) if B > 1 else np.array(errors)[:, 0]
    return xr.Dataset(
        {
            "dimension": (("t", "point"), d),
            "flipd": (("t", "point"), np.array(flipd)),
            "error": (("t", "point"), np.array(errors)),
            "mean": ("t", d.mean(axis=1)),
            "mean_error": ("t", spread),
        },
        {"t": levels},
        {"products": products, "method": method, "N": int(J.N)},
    )


def trace(J: JacobianOperator, probes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(B,) traces of J and their standard errors over random signs; exact, with error 0, from `probes` = N on."""
    return _trace(J, None, probes, seed)


def quadrature(J: JacobianOperator, steps: int, probes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Ritz values and weights, each (B, probes, steps), of :math:`A=-t(J+J^\top)/2` from random signs.

    See `spectral_density`; the weights of a probe sum to 1.
    """
    steps = min(steps, J.N)
    parts = _signs(J, probes, seed).split(max(1, BASIS // (steps * J.B * J.N)), dim=1)
    nodes, weights = zip(*(_lanczos(J, v, steps) for v in parts), strict=True)
    return np.concatenate(nodes, axis=1), np.concatenate(weights, axis=1)


def _trace(
    J: JacobianOperator, control: JacobianOperator | None, probes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(B,) traces and their standard errors."""
    if probes >= J.N:
        total = torch.zeros(J.B, dtype=torch.float64, device=J.x.device)
        for units in torch.eye(J.N, dtype=torch.float64, device=J.x.device).split(max(2, probes)):
            total += (units * J.quadratic(units.expand(J.B, -1, -1))).sum(dim=(1, 2))
        return total.cpu().numpy(), np.zeros(J.B)
    signs = _signs(J, probes, seed)
    own = (signs * J.quadratic(signs)).sum(dim=2).T.cpu().numpy()
    if control is None:
        return own.mean(axis=0), own.std(axis=0, ddof=1) / math.sqrt(probes)
    other = (signs * control.each(signs)).sum(dim=2).T.cpu().numpy()
    exact, _ = _trace(control, None, control.N, seed) if control.method != "closed form" else (_closed(control), None)
    corrected = np.empty_like(own)
    halves = np.arange(probes) % 2 == 0
    for mine, theirs in ((halves, ~halves), (~halves, halves)):
        centred = other[theirs] - other[theirs].mean(axis=0)
        scale = (centred**2).sum(axis=0)
        c = np.where(scale > 0, (centred * own[theirs]).sum(axis=0) / np.where(scale > 0, scale, 1.0), 1.0)
        corrected[mine] = own[mine] - c * (other[mine] - exact)
    return corrected.mean(axis=0), corrected.std(axis=0, ddof=1) / math.sqrt(probes)


def _closed(control: JacobianOperator) -> np.ndarray:
    """The trace of a diagonal Jacobian, from one product."""
    return control(torch.ones_like(control.x)).sum(dim=1).cpu().numpy()


def _signs(J: JacobianOperator, probes: int, seed: int) -> torch.Tensor:
    """(B, probes, N) random signs, on the device of the points; the first do not hang on `probes`."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 2, (probes, J.B, J.N), generator=generator, dtype=torch.int8)
    return (2 * bits.transpose(0, 1).to(torch.float64) - 1).to(J.x.device)


def _units(J: JacobianOperator) -> torch.Tensor:
    return torch.eye(J.N, dtype=torch.float64, device=J.x.device).expand(J.B, -1, -1)


def spectral_density(
    score: Any,
    x: Any,
    t: float,
    *,
    values: Any = None,
    steps: int = 48,
    probes: int = 8,
    broadening: float = 0.02,
    seed: int = 0,
) -> xr.Dataset:
    r"""Density of the eigenvalues a of :math:`A=-t(J+J^\top)/2`, averaged over points, by stochastic Lanczos quadrature.

    A random unit vector v gives Ritz values :math:`\theta_i` and weights :math:`\tau_i^2`, with
    :math:`v^\top f(A)v=\sum_i\tau_i^2f(\theta_i)` exact for polynomials f to degree 2 `steps` - 1; the mean over v is
    :math:`\mathrm{tr}f(A)/N`. The density is that sum of Gaussians of width `broadening`.

    Parameters
    ----------
    score, x, t : as in `effective_dimension`, t one number
    values : (K,) where the density is wanted (default: 201 from -0.1 to 1.1)
    steps : Lanczos steps, each one product for J and, where J is not symmetric, one for its transpose; at most N
    probes : random vectors a point, >= 2

    Returns
    -------
    Dataset: `density` (a,) per unit of a, of integral 1, and `density_error`; `kept`, the number of eigenvalues below 1/2, per
    point (point,) and `kept_error` (over probes); `cumulative` (a,), the unbroadened fraction at or below a. Attributes:
    `asymmetry`, the norm of the antisymmetric part over that of the symmetric one, along the probes; NaN where no J^T v is to
    be had, and J is then used as it stands.

    The failure that looks normal: two groups of eigenvalues closer than `broadening`, or than Lanczos resolves in `steps`,
    are one bump.
    Source: Golub and Meurant (1994); Ubaru, Chen and Saad (2017).

    >>> from validation.spectra.score_functions import GaussianScore
    >>> found = spectral_density(GaussianScore([1.0] * 3 + [0.0] * 7), torch.zeros(1, 10, dtype=torch.float64), 0.25)
    >>> round(float(found["kept"].mean()), 6)
    3.0
    """
    steps, probes = integer("steps", steps, minimum=1), integer("probes", probes, minimum=2)
    width = float(positive("broadening", broadening))
    grid = np.linspace(-0.1, 1.1, 201) if values is None else np.asarray(values, dtype=float)
    if grid.ndim != 1 or grid.size == 0 or not np.isfinite(grid).all():
        raise DomainError("values", np.shape(values), "a non-empty one-dimensional array of finite numbers")
    J = JacobianOperator(score, x, t)
    steps, exact = min(steps, J.N), probes >= J.N
    starts = _units(J) if exact else _signs(J, probes, seed)
    density, below, kept, asymmetry = [], [], [], []
    for v in starts.split(max(1, BASIS // (steps * J.B * J.N)), dim=1):
        if J.has_transposed and not J.symmetric:
            mean, forth = J.symmetric_each(v), J.each(v)
            asymmetry.append((forth - mean).norm(dim=(0, 2)) / mean.norm(dim=(0, 2)))
        nodes, weights = _lanczos(J, v, steps)  # (B, k, steps)
        gaps = (grid - nodes[..., None]) / width
        density.append((weights[..., None] * np.exp(-0.5 * gaps**2)).sum(axis=2) / (width * math.sqrt(2 * math.pi)))
        below.append((weights[..., None] * (nodes[..., None] <= grid)).sum(axis=2))
        kept.append(J.N * (weights * (nodes < HALF)).sum(axis=2))
    # (probes, B, K), (probes, B)
    density, below, kept = (np.concatenate(a, axis=1).swapaxes(0, 1) for a in (density, below, kept))
    n = len(kept)
    replicas = density.mean(axis=1)  # a probe is one draw for all points
    zero = np.zeros(kept.shape[1])
    return xr.Dataset(
        {
            "density": ("a", density.mean(axis=(0, 1))),
            "density_error": ("a", 0 * grid if exact else replicas.std(axis=0, ddof=1) / math.sqrt(n)),
            "cumulative": ("a", below.mean(axis=(0, 1))),
            "kept": ("point", kept.mean(axis=0)),
            "kept_error": ("point", zero if exact else kept.std(axis=0, ddof=1) / math.sqrt(n)),
        },
        {"a": grid},
        {
            "t": J.t,
            "N": int(J.N),
            "products": J.products,
            "method": J.method,
            "broadening": width,
            "asymmetry": 0.0 if J.symmetric else (float(torch.cat(asymmetry).mean()) if asymmetry else math.nan),
        },
    )


def _lanczos(J: JacobianOperator, v: torch.Tensor, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Ritz values and weights (B, k, steps) of A from v (B, k, N), all at once, with full reorthogonalisation."""
    B, probes, N = v.shape
    Q = torch.zeros(B, probes, steps, N, dtype=torch.float64, device=v.device)
    Q[:, :, 0] = v / v.norm(dim=2, keepdim=True)
    alpha, beta = (torch.zeros(B, probes, steps, dtype=torch.float64, device=v.device) for _ in range(2))
    for k in range(steps):
        q, basis = Q[:, :, k], Q[:, :, : k + 1]
        w = -J.t * J.symmetric_each(q).double()
        alpha[:, :, k] = (w * q).sum(dim=2)
        for _ in range(2):
            w = w - torch.einsum("pbk,pbkn->pbn", torch.einsum("pbkn,pbn->pbk", basis, w), basis)
        if k + 1 == steps:
            break
        length = w.norm(dim=2)
        # an exhausted Krylov space: beta is 0 there, and a zero vector keeps it so
        alive = length > 1e-12
        beta[:, :, k] = torch.where(alive, length, 0.0)
        Q[:, :, k + 1] = torch.where(alive[..., None], w / torch.where(alive, length, 1.0)[..., None], 0.0)
    a, b = alpha.reshape(-1, steps).cpu().numpy(), beta.reshape(-1, steps).cpu().numpy()[:, : steps - 1]
    solved = [eigh_tridiagonal(*pair) for pair in zip(a, b, strict=True)]
    nodes = np.array([value for value, _ in solved]).reshape(B, probes, steps)
    weights = np.array([vector[0] ** 2 for _, vector in solved]).reshape(B, probes, steps)
    return nodes, weights


def leading_directions(
    score: Any, x: Any, t: float, k: int = 8, *, tolerance: float = 1e-8, seed: int = 0
) -> xr.Dataset:
    """The k directions that belong most to the data: eigenvectors of the least eigenvalues of A, at every point.

    Parameters
    ----------
    score, x, t : as in `effective_dimension`, t one number; k : directions, 1 <= k < N; tolerance : of ARPACK, relative

    Returns
    -------
    Dataset: `value` (point, direction) ascending, `direction` (point, direction, coordinate) unit vectors, `residual`
    |A u - a u|.
    For images reshape a direction to the image's shape. Attributes: `products`, `method`.

    Source: [AVSP24]; ARPACK by scipy.

    >>> from validation.spectra.score_functions import GaussianScore
    >>> found = leading_directions(GaussianScore([4.0, 1.0, 0.0, 0.0]), torch.zeros(1, 4, dtype=torch.float64), 1.0, k=2)
    >>> found["value"].values.round(9).tolist()
    [[0.2, 0.5]]
    """
    points = torch.as_tensor(x).detach()
    points = points[None] if points.ndim == 1 else points
    k = integer("k", k, minimum=1)
    if points.ndim != 2 or k >= points.shape[1]:
        raise DomainError("k", k, f"an integer from 1 to {points.shape[-1] - 1}")
    values, vectors, residuals, products, method = [], [], [], 0, ""
    face = as_score(score)
    for b in range(len(points)):
        J = JacobianOperator(face, points[b : b + 1], t)

        def apply(v: np.ndarray, J: JacobianOperator = J) -> np.ndarray:
            w = torch.from_numpy(np.array(v, dtype=float).reshape(1, 1, -1)).to(J.x.device)
            return (w + J.t * J.symmetric_each(w))[0, 0].cpu().numpy()  # 1 - A, whose largest are A's least

        start = np.random.default_rng((seed, b)).normal(size=J.N)
        operator = LinearOperator((J.N, J.N), matvec=apply, dtype=np.float64)
        value, vector = eigsh(operator, k=k, which="LA", tol=tolerance, v0=start)
        order = np.argsort(-value)
        value, vector = value[order], vector[:, order]
        residuals.append([np.linalg.norm(apply(vector[:, i]) - value[i] * vector[:, i]) for i in range(k)])
        values.append(1 - value)
        vectors.append(vector.T)
        products, method = products + J.products, J.method
    return xr.Dataset(
        {
            "value": (("point", "direction"), np.array(values)),
            "direction": (("point", "direction", "coordinate"), np.array(vectors)),
            "residual": (("point", "direction"), np.array(residuals)),
        },
        attrs={"t": float(t), "products": products, "method": method},
    )
