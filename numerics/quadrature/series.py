r"""Sums over all integers of functions that vary slowly in log k: terms, then Gauss panels, joined by Gregory's end weights."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
from scipy.special import bernoulli

from numerics.domain import DomainError, integer, positive

__all__ = ["series_rule"]

_TERMS = 128  # summed one by one: Gregory's error, of relative order (order/terms)^order, is then below 1e-13
_ORDER = 8
_NODES = 12


@cache
def gregory_weights(order: int) -> tuple[float, ...]:
    r"""What the last terms f(K), f(K-1), ... are multiplied by, beside 1, where a sum turns into an integral.

    .. math:: \sum_{k>K}f(k)-\int_K^\infty f\,dk=-\tfrac12f(K)-\sum_j\frac{B_{2j}}{(2j)!}f^{(2j-1)}(K)=\sum_j\delta_jf(K-j),

    exact for polynomials of degree below `order`: their moments are :math:`\sum_j\delta_j(-j)^n=\zeta(-n)`.

    >>> [round(d, 12) for d in gregory_weights(2)]  # -1/2 - 1/12, 1/12
    [-0.583333333333, 0.083333333333]
    """
    b = [Fraction(float(x)).limit_denominator(10**6) for x in bernoulli(order + 1)]
    right = [Fraction(-1, 2)] + [-b[n + 1] / (n + 1) for n in range(1, order)]
    rows = [[Fraction(-j) ** n for j in range(order)] + [right[n]] for n in range(order)]
    for i in range(order):  # Gauss-Jordan in fractions: the Vandermonde matrix is too ill for floats
        pivot = next(k for k in range(i, order) if rows[k][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for k in range(order):
            if k != i:
                rows[k] = [x - rows[k][i] * y for x, y in zip(rows[k], rows[i], strict=True)]
    return tuple(float(row[-1]) for row in rows)


def series_rule(width: float, reach: float, *, terms: int = _TERMS) -> tuple[np.ndarray, np.ndarray]:
    r"""Weights and log-nodes of :math:`\sum_{k=1}^{e^Y}f(k)\approx\sum_iw_if(e^{y_i})`, :math:`Y` = `reach`.

    Parameters
    ----------
    width : float > 0
        Length of a Gauss panel in log k; f should be analytic in a strip of the half-width 1.5 `width` about the real axis.
    reach : float > log(terms)
        Up to which log k.
    terms : int >= 16
        How many terms are summed one by one.

    Returns
    -------
    (weights, log_k) : two float64 arrays, log_k increasing

    Raises
    ------
    DomainError

    The failure that looks normal: a function that changes between neighbouring integers beyond `terms` is not resolved.

    >>> w, y = series_rule(1.0, 400.0)
    >>> bool(abs(w @ np.exp(-2 * y) - np.pi**2 / 6) < 1e-14)
    True
    """
    terms = integer("terms", terms, minimum=2 * _ORDER)
    width, reach = float(positive("width", width)), float(positive("reach", reach))
    start = np.log(terms)
    if reach <= start:
        raise DomainError("reach", reach, f"> log(terms) = {start:.3g}")
    weights = np.ones(terms)
    weights[-_ORDER:] += gregory_weights(_ORDER)[::-1]
    panels = int(np.ceil((reach - start) / width))
    half = 0.5 * (reach - start) / panels
    x, w = np.polynomial.legendre.leggauss(_NODES)
    y = (start + half * (2 * np.arange(panels)[:, None] + 1 + x)).ravel()
    return (
        np.concatenate([weights, (np.broadcast_to(half * w, (panels, _NODES)).ravel()) * np.exp(y)]),
        np.concatenate([np.log(np.arange(1, terms + 1)), y]),
    )
