"""Adaptive Gauss-Kronrod quadrature of several integrands at once, all panels of a round in one call.

For integrands that are cheap per point but dear per call: `f` receives one long array of abscissae a round.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from numerics.domain import DomainError, finite

__all__ = ["integrate_panels"]

# 15-point Kronrod extension of the 7-point Gauss rule on (-1, 1): positive nodes from the outside in
_HALF = (
    (0.991455371120812639206854697526329, 0.022935322010529224963732008058970, 0.0),
    (0.949107912342758524526189684047851, 0.063092092629978553290700663189204, 0.129484966168869693270611432679082),
    (0.864864423359769072789712788640926, 0.104790010322250183839876322541518, 0.0),
    (0.741531185599394439863864773280788, 0.140653259715525918745189590510238, 0.279705391489276667901467771423780),
    (0.586087235467691130294144691693013, 0.169004726639267902826583426598550, 0.0),
    (0.405845151377397166906606412076961, 0.190350578064785409913256402421014, 0.381830050505118944950369775488975),
    (0.207784955007898467600689403773245, 0.204432940075298892414161999234649, 0.0),
    (0.0, 0.209482141084727828012999174891714, 0.417959183673469387755102040816327),
)
_NODE = np.array([-x for x, _, _ in _HALF] + [x for x, _, _ in _HALF[-2::-1]])
_KRONROD = np.array([w for _, w, _ in _HALF] + [w for _, w, _ in _HALF[-2::-1]])
_GAUSS = np.array([w for _, _, w in _HALF] + [w for _, _, w in _HALF[-2::-1]])


def integrate_panels(
    f: Callable[[np.ndarray], np.ndarray], breakpoints, *, tolerance: float = 1e-12, rounds: int = 14
) -> tuple[np.ndarray, np.ndarray]:
    """Integral of each row of `f` from the first to the last breakpoint.

    Parameters
    ----------
    f : callable, (n,) -> (k, n)
        Values of the k integrands; k = 1 may return (n,).
    breakpoints : (m,) increasing array, m >= 2
        Ends of the first panels; put them where the integrand's scale is known.
    tolerance : float > 0
        Sought absolute error of each integral; panels above their share are halved.
    rounds : int
        Halvings at most. The returned error is honest when they do not suffice.

    Returns
    -------
    value, error : (k,) arrays

    >>> value, error = integrate_panels(lambda x: np.array([np.exp(x), 1 / (1e-4 + x**2)]), [-1.0, 0.5, 1.0])
    >>> bool(np.allclose(value, [np.e - 1 / np.e, 200 * np.arctan(100)], rtol=1e-12)), bool((error < 1e-11).all())
    (True, True)
    """
    edges = finite("breakpoints", breakpoints)
    if edges.ndim != 1 or edges.size < 2 or (np.diff(edges) <= 0).any():
        raise DomainError("breakpoints", breakpoints, "at least two increasing numbers")
    left, right = edges[:-1], edges[1:]
    value = error = None
    span = edges[-1] - edges[0]
    for remaining in range(rounds, -1, -1):
        middle, half = 0.5 * (left + right), 0.5 * (right - left)
        y = np.atleast_2d(f((middle[:, None] + half[:, None] * _NODE).ravel())).reshape(-1, left.size, _NODE.size)
        kronrod, gauss = (y @ _KRONROD) * half, (y @ _GAUSS) * half
        difference = np.abs(kronrod - gauss)
        spread = (np.abs(y - (kronrod / (2 * half))[..., None]) @ _KRONROD) * half
        # QUADPACK's estimate: the difference is that of the poorer rule
        scaled = spread * np.minimum(1, 200 * difference / np.maximum(spread, 1e-300)) ** 1.5
        local = np.maximum(scaled, np.finfo(float).eps * np.abs(kronrod))
        share = tolerance * np.maximum(2 * half / span, 1 / (8 * left.size))
        split = ((local > share) & (local > 50 * np.finfo(float).eps * np.abs(kronrod))).any(axis=0)
        if remaining == 0:
            split[:] = False
        if value is None:
            value, error = np.zeros(y.shape[0]), np.zeros(y.shape[0])
        value += kronrod[:, ~split].sum(axis=1)
        error += local[:, ~split].sum(axis=1)
        if not split.any():
            return value, error
        left, right = (
            np.concatenate([left[split], middle[split]]),
            np.concatenate([middle[split], right[split]]),
        )
    return value, error
