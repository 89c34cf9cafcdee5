"""How far the basin of a training point reaches, and the free energy and excess entropy of the empirical density."""

from __future__ import annotations

from typing import Any

import numpy as np

from numerics.domain import nonnegative, positive
from numerics.solvers import Solution
from theory.loads import placed
from theory.models import Mixture
from theory.rem import MutualInformation, gaussian_rem, integrals
from theory.times import deliver_value

__all__ = ["basin_radius", "excess_entropy", "free_energy"]


def basin_radius(model: Any, alpha: Any = None, t: Any = None, *, P: Any = None, N: Any = None) -> Any:
    r"""Radius of the basin of a training point at time t, divided by :math:`\sqrt N`: :math:`\sqrt{\delta_b}`.

    In a random direction from :math:`\xi^1` its own weight rules up to squared distance :math:`N\delta_b`. For Gaussian data

    .. math:: \delta_b=0\ (t\ge t_o),\qquad \frac{\delta_b}t=1-\frac{2\alpha-\mathcal L(t)}{\int\rho\,r/(r+t)}\ (t_c\le t\le t_o),
       \qquad \delta_b=t_c\ (t\le t_c).

    The basin stops growing at collapse: below it, it is the Voronoi cell, at every t.

    Parameters
    ----------
    model : a data model
    alpha : number or array > 0 (or `P` with `N`)
    t : number or array > 0, VE time in squared data units

    Returns
    -------
    float or array, in data units; multiply by :math:`\sqrt N` for a distance.

    Source: [AALMV25].

    >>> from theory import LinearManifold
    >>> round(basin_radius(LinearManifold(0.5), 0.2, 2.0) ** 2, 9)
    1.240661971
    """
    (ready, alpha), t = placed(model, alpha, P, N), positive("t", t)
    solution = ready.basin_squared(alpha, t)
    root = Solution(np.sqrt(solution.value), solution.status, solution.residual, solution.iterations, solution.branch)
    return deliver_value(root, "basin radius")


def free_energy(
    model: Any, alpha: Any = None, t: Any = None, *, delta: Any = None, P: Any = None, N: Any = None
) -> Any:
    r"""Free energy :math:`\varphi=\frac1N\log\sum_\mu e^{-\|x-\xi^\mu\|^2/2t}` of the *other* points, seen from x.

    .. math:: \varphi=\alpha+g(\beta;\delta)\ (\beta=1/t\le\beta_*),\qquad
       \varphi=\beta\,\partial_\beta g(\beta_*;\delta)\ (\beta\ge\beta_*)

    Parameters
    ----------
    model : a data model
    alpha : number or array > 0 (or `P` with `N`)
    t : number or array > 0, VE time in squared data units
    delta : number or array >= 0, default t
        Squared distance per dimension between x and the data point it was made from: `t` for a typical noisy point, 0
        for a clean one.

    Returns
    -------
    float or array. (The planted point itself contributes :math:`-\delta/2t`, not included.)

    Source: [AALMV25].

    >>> from theory import LinearManifold, collapse_time
    >>> t_c = collapse_time(LinearManifold(0.5), 0.2)
    >>> round(free_energy(LinearManifold(0.5), 0.2, t_c), 10)  # the others weigh as much as the point itself
    -0.5
    """
    (ready, alpha), t = placed(model, alpha, P, N), positive("t", t)
    delta = t if delta is None else nonnegative("delta", delta)
    return deliver_value(ready.free_energy(alpha, t, delta), "free energy")


def excess_entropy(model: Any, alpha: Any = None, t: Any = None, *, P: Any = None, N: Any = None) -> Any:
    r"""The excess entropy of [BBBM24] in the limit: 0 where the score has collapsed, growing with t above.

    .. math:: f(t)=\frac1NE_x\log\sum_\mu e^{-\|x-\xi^\mu\|^2/2t}+\tfrac12=\max\big(0,\ \varphi(t)+\tfrac12\big),

    x drawn from the noised training set. For a `Mixture` it is the average over classes, :math:`f=\sum_k\pi_kf_k`: it leaves 0 at
    the lowest collapse time of a class and has a kink at that of every other.

    Parameters
    ----------
    model, alpha, t, P, N : as `free_energy`

    Returns
    -------
    float or array of the shape of alpha and t, nats per dimension; one number for all classes of a mixture

    Raises
    ------
    DomainError

    Notes
    -----
    `theory.finite_size.collapse_curve` is the same at real N and P, where the kinks are round.
    Source: [BBBM24]; the average over classes [ours: docs/derivations/mixtures.md].

    >>> from theory import Isotropic, Mixture
    >>> two = Mixture([0.5, 0.5], [Isotropic(1.0), Isotropic(0.5)])
    >>> excess_entropy(two, P=1000, N=20, t=[0.5, 1.0, 2.0]).round(4)
    array([0.    , 0.054 , 0.1536])
    """
    f = np.maximum(0.0, np.asarray(free_energy(model, alpha, t, P=P, N=N)) + 0.5)
    if isinstance(model, Mixture):
        f = f @ np.asarray(model.weights)
    return float(f) if f.ndim == 0 else f


def basin_law() -> Any:
    r"""The basin between collapse and onset, :math:`\delta_b/t` as a sympy expression, derived from the REM condition.

    Solves :math:`\alpha+g(1/t;\delta)=-\delta/2t` with :math:`-2g=\delta/t+c_0\mathcal L+c_1A`.

    >>> basin_law()
    (A + L - 2*alpha)/A
    """
    import sympy as sp

    from theory.notation import alpha as load_symbol

    info = MutualInformation.of(integrals(gaussian_rem())["free_entropy"])
    L, A = sp.symbols("L A", positive=True)
    (solution,) = sp.solve(2 * load_symbol - info.d - info.c0 * L - info.c1 * A + info.d, info.d)
    return sp.simplify(solution)


basin_radius.law = basin_law  # type: ignore[attr-defined]  # a function that carries its law
