r"""The frozen spectrum at real N and P: the mean Jacobian eigenvalue at a clean fresh point, exact in the patterns and in x.

The posterior covariance is a second derivative, :math:`\mathrm{Cov}_w(\xi)=t+t^2\nabla\nabla^\top\log Z(x)`. Over a fresh x, of
variance :math:`\varrho_k=r_k` along the :math:`d_k` directions of block k, Gaussian integrations by parts take it off Z:

.. math:: -t\lambda_k=1-\frac{v_k}t=-\frac{2t}{d_k}\,\frac{\partial}{\partial\varrho_k}\,E\log Z
          =-\frac t{r_k}\,E\Big[\Big(\frac{A_k}{d_k}-1\Big)E_\xi\log Z(x)\Big],\qquad
          A_k=\sum_{i\in k}\frac{x_i^2}{r_k}\sim\chi^2_{d_k}.

:math:`E_\xi\log Z` is the contour integral of `theory.finite_size.law`; the :math:`A_k` are integrated by Gauss rules. The first
form turns the closed form of `theory.finite_size.corrections` into the log N/N and 1/N corrections, with their dependence on t.
Source: [ours: docs/derivations/losing_dimensions.md].
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from numerics.domain import DomainError, positive
from numerics.quadrature import chi_squared
from theory.finite_size.corrections import log_partition_first_order
from theory.finite_size.draws import FiniteSpectrum, finite_spectrum
from theory.finite_size.law import PartitionLaw
from theory.finite_size.setup import log_counts
from theory.subspaces import subspace_blocks

__all__ = ["finite_size_eigenvalue", "finite_size_eigenvalue_first_order"]

_NODES = (4, 6, 9, 13, 19, 28, 42)  # of each block's rule, tried in this order until the value stays
_MOST = 30_000  # nodes of the product of the rules
_NEGLIGIBLE = 1e-17  # weight of a node, beside A_k/d_k - 1 and F of at most some thousands
_STEP = 1e-4  # relative, of the numerical derivative in the variance of x


def finite_size_eigenvalue(
    model: Any, P: int | None, N: int, t: Any, *, log_P: float | None = None, tolerance: float = 1e-6
) -> np.ndarray:
    r"""Mean normalised eigenvalue :math:`-t\lambda` per block at a clean fresh point, for P points in N dimensions.

    .. math:: -t\lambda_k=-\frac t{r_k}\,E_x\Big[\Big(\frac{A_k}{d_k}-1\Big)\,E_\xi\log\sum_{\mu=1}^Pe^{-\|x-\xi^\mu\|^2/2t}\Big]

    Nothing is expanded: it is 1 minus the posterior variance over t, on either side of the condensation, averaged over P
    independent patterns and over x. It tends to `frozen_eigenvalue` as N grows.

    Parameters
    ----------
    model : Subspaces or Isotropic, of at most 4 different variances > 0
        The blocks have :math:`d_k=\operatorname{round}(a_kN)` directions, as in `finite_spectrum`. Two variances take some
        tenths of a second a t, each more ten times as long.
    P : int >= 2, of any size; or None and `log_P`, its natural logarithm
    N : int >= 1
    t : (T,) numbers > 0, squared data units
    tolerance : number > 0
        Absolute, of the result: the Gauss rules over x are refined until two in a row agree within it.

    Returns
    -------
    (T, K), one entry a block in the model's order; 1 for a block of variance 0.

    Raises
    ------
    DomainError
        Other models, P < 2, a block that rounds to no direction, or a `tolerance` out of reach: rounding leaves an error of
        about 1e-15 N r_max/r_k, so variances more than six decades apart need a larger one.

    The failure that looks normal: as in `frozen_eigenvalue` it is a *mean*; at small t one point in t_cond/t carries it.

    >>> from theory.models import Subspaces
    >>> from theory.subspaces import frozen_eigenvalue
    >>> model = Subspaces([0.5, 0.5], [1.0, 0.3])
    >>> finite_size_eigenvalue(model, 735, 22, [0.1, 0.2]).round(3).tolist()
    [[0.386, 0.673], [0.39, 0.676]]
    >>> frozen_eigenvalue(model, 735, 22, [0.1, 0.2]).round(3).tolist()
    [[0.316, 0.606], [0.316, 0.606]]
    """
    log_P, spectrum, blocks, t = _checked(model, P, N, t, log_P)
    tolerance = float(positive("tolerance", tolerance, allowed="one number > 0"))
    if len(spectrum.variance) > 4:
        raise DomainError("model", model, "at most 4 different variances > 0", "x is integrated over all of them")
    values = np.array([_refined(spectrum, log_P, float(now), tolerance) for now in t])
    return np.concatenate([values, np.ones((len(t), 1))], axis=1)[:, blocks]


def finite_size_eigenvalue_first_order(
    model: Any, P: int | None, N: int, t: Any, *, log_P: float | None = None
) -> np.ndarray:
    r"""The same below condensation with its log N/N and 1/N corrections, in closed form.

    .. math:: -t\lambda_k=-\frac{2t}{d_k}\frac{\partial}{\partial\varrho_k}\Big\{\frac{\log P+E\mathcal L}\lambda
       +\frac1\lambda\Big[\gamma+\log\frac{\Gamma(1-\lambda)}\lambda-\tfrac12\log(2\pi E\mathcal L'')\Big]
       -\frac{\operatorname{Var}(\lambda\mathcal L'-\mathcal L)}{2\lambda^3E\mathcal L''}\Big\}_{\lambda=\lambda_*(\varrho)}

    The first term gives the frozen :math:`1/(1+\beta_*r)`. Of the others only :math:`\log\Gamma(1-\lambda),\ \lambda=t/t_{cond}`,
    depends on t: at finite N the spectrum thaws by a relative amount of order 1/N as t grows.

    Parameters
    ----------
    model, P, N, t, log_P : as in `finite_size_eigenvalue`, with any number of blocks; t below condensation

    Returns
    -------
    (T, K); errors of order :math:`\log^2N/N^2`, and larger close to condensation (:math:`1-t/t_{cond}\lesssim N^{-1/2}`).

    Raises
    ------
    DomainError : as there, and for t above condensation

    >>> from theory.models import Subspaces
    >>> model = Subspaces([0.5, 0.5], [1.0, 0.3])
    >>> exact = finite_size_eigenvalue(model, None, 400, 0.1, log_P=120.0)
    >>> bool(abs(finite_size_eigenvalue_first_order(model, None, 400, 0.1, log_P=120.0) - exact).max() < 5e-4)
    True
    """
    log_P, spectrum, blocks, t = _checked(model, P, N, t, log_P)
    r, d = spectrum.variance, spectrum.multiplicity

    def total(now, variance):
        expansion = log_partition_first_order(spectrum, log_P, now, noisy=False, x_variance=variance)
        if expansion["lambda_star"] >= 1:
            raise DomainError("t", now, "below the condensation time of these P points", "Above it: t/(t + r)")
        return expansion["total"]

    values = np.ones((len(t), len(r) + 1))
    for i, now in enumerate(t):
        for k, step in enumerate(_STEP * np.diag(r)):
            slope = (total(now, r + step) - total(now, r - step)) / (2 * step[k])
            values[i, k] = -2 * now / d[k] * slope
    return values[:, blocks]


def _checked(model, P, N, t, log_P) -> tuple[float, FiniteSpectrum, list[int], np.ndarray]:
    """log P, the spectrum, the place of each block's variance in it (-1 for variance 0), and t as a vector."""
    _, variances = subspace_blocks(model)
    log_P, _ = log_counts(P, log_P)
    spectrum, blocks = finite_spectrum(model, N), []
    t = np.atleast_1d(positive("t", t))
    if t.ndim != 1:
        raise DomainError("t", t.shape, "one number or a vector of numbers > 0")
    for variance in variances:
        (found,) = np.nonzero(spectrum.variance == variance)
        if variance > 0 and not len(found):
            raise DomainError(
                "N", N, "large enough for one direction of every block", f"Variance {variance:g} has none"
            )
        blocks.append(int(found[0]) if variance > 0 else -1)
    return log_P, spectrum, blocks, t


def _refined(spectrum: FiniteSpectrum, log_P: float, t: float, tolerance: float) -> np.ndarray:
    """Values per distinct variance, with the first rule that changes nothing by more than the tolerance."""
    before, change, rounding = None, np.inf, np.inf
    for n in _NODES:
        if n ** len(spectrum.variance) > _MOST:
            break
        value, rounding = _average(spectrum, log_P, t, n)
        change = np.inf if before is None else np.abs(value - before).max()
        if max(change, rounding) < tolerance:
            return value
        if rounding >= tolerance:  # more nodes do not help
            break
        before = value
    remedy = "Widely different variances lose digits" if rounding >= tolerance else "Raise it, or P or N"
    raise DomainError("tolerance", tolerance, f"above {max(rounding, change):.1g} at t = {t:g}", remedy)


def _average(spectrum: FiniteSpectrum, log_P: float, t: float, n: int) -> tuple[np.ndarray, float]:
    """Values per distinct variance with n nodes a block, and what the error of E log Z adds to them."""
    r, d = spectrum.variance, spectrum.multiplicity
    rules = [chi_squared(n, degrees) for degrees in d]
    value, error = np.zeros(len(r)), np.zeros(len(r))
    for place in itertools.product(range(n), repeat=len(r)):
        weight = math.prod(float(rule.weights[i]) for rule, i in zip(rules, place, strict=True))
        if weight < _NEGLIGIBLE:
            continue
        A = np.array([rule.nodes[i] for rule, i in zip(rules, place, strict=True)])
        log_Z, off = PartitionLaw(r / t, d, r / t * A, log_P).expected_log()
        factor = -t / r * weight * (A / d - 1)
        value += factor * log_Z
        error += np.abs(factor) * off
    return value, float(error.max())
