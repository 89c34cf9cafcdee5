r"""The size of a spectral gap of the score as a function of time, and its special times, derived in sympy.

A direction of variance r has the normalised Jacobian eigenvalue :math:`-t\lambda=t/(t+r)`, which runs from 1 (pure noise)
to 0. Between variances a < b with no eigenvalue in between it leaves a gap

.. math:: \Delta(t)=\frac t{t+a}-\frac t{t+b},

which opens and closes again around :math:`t=\sqrt{ab}`, or stays open if a = 0, where the directions normal to the
manifold are. Sources: the gap, its visibility threshold and :math:`\sqrt{ab}` are [VASLA25]'s; closing, relative size and
overtaking times [ours: docs/derivations/jacobian.md].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property

import numpy as np
import sympy as sp

from theory.notation import t

__all__ = ["GapDerivation", "lowered_gap", "positive_roots"]

a, b, c = sp.symbols("a b c", nonnegative=True)  # variances below and above the gap; lower edge of the tangent spectrum
low, high = sp.symbols("r_min r_max", nonnegative=True)  # ends of the whole spectrum
Delta = sp.Symbol("Delta", positive=True)  # threshold of visibility


class GapDerivation:
    """Each property is an expression, or the coefficients of a quadratic in t of which a time is the positive root."""

    @cached_property
    def size(self) -> sp.Expr:
        r""":math:`\Delta(t)` in units of 1/t; at most 1."""
        return sp.factor(t / (t + a) - t / (t + b))

    @cached_property
    def eigenvalue_size(self) -> sp.Expr:
        r"""The gap in the eigenvalue itself, :math:`\Delta(t)/t`: it grows monotonically towards small times."""
        return sp.factor(self.size / t)

    @cached_property
    def relative(self) -> sp.Expr:
        """The gap over the width of the whole spectrum at the same time."""
        return sp.factor(self.size / self.size.subs({a: low, b: high}, simultaneous=True))

    @cached_property
    def peak(self) -> sp.Expr:
        r"""The time at which the gap is widest, :math:`\sqrt{ab}`."""
        A, B, C = self._quadratic(sp.diff(self.size, t))
        assert B == 0
        return sp.powdenest(sp.sqrt(sp.cancel(-C / A)), force=True)

    @cached_property
    def peak_size(self) -> sp.Expr:
        r""":math:`(\sqrt b-\sqrt a)/(\sqrt b+\sqrt a)`: only the ratio of the two edges counts."""
        root_a, root_b = sp.symbols("root_a root_b", positive=True)
        value = sp.cancel(self.size.subs(t, self.peak).subs({a: root_a**2, b: root_b**2}, simultaneous=True))
        return value.subs({root_a: sp.sqrt(a), root_b: sp.sqrt(b)})

    @cached_property
    def visible(self) -> tuple[sp.Expr, ...]:
        r"""Quadratic with the opening and closing times for its roots: :math:`\Delta(t)` equals the threshold."""
        return self._quadratic(self.size - Delta)

    @cached_property
    def relative_peak(self) -> tuple[sp.Expr, ...]:
        """Quadratic of the times at which the gap over the width is stationary."""
        return self._quadratic(sp.diff(sp.log(self.relative), t))

    @cached_property
    def overtaken(self) -> tuple[sp.Expr, ...]:
        """Quadratic of the times at which the total gap, from 0 to c, is as wide as this one; its last factor t apart."""
        return self._quadratic((self.size.subs({a: 0, b: c}, simultaneous=True) - self.size) / t)

    @staticmethod
    def _quadratic(equation: sp.Expr) -> tuple[sp.Expr, ...]:
        coefficients = sp.Poly(sp.numer(sp.factor(sp.together(equation))), t).all_coeffs()
        assert len(coefficients) == 3
        return tuple(sp.factor(x) for x in coefficients)


@cache
def lowered_gap(name: str) -> Callable:
    """A property of `GapDerivation` as a numpy function of (t, a, b, c, r_min, r_max, Delta)."""
    return sp.lambdify((t, a, b, c, low, high, Delta), getattr(GapDerivation(), name), modules="numpy")


def positive_roots(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest positive root of A x^2 + B x + C, without cancellation; equal if there is one, NaN if none.

    >>> [x.tolist() for x in positive_roots([1.0, -1.0, 1.0], [-3.0, 1.0, 0.0], [2.0, 0.0, 1.0])]
    [[1.0, 1.0, nan], [2.0, 1.0, nan]]
    """
    A, B, C = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (A, B, C)))
    with np.errstate(invalid="ignore", divide="ignore"):
        q = -0.5 * (B + np.where(B < 0, -1.0, 1.0) * np.sqrt(B * B - 4 * A * C))
        roots = np.stack([q / A, C / q])
    roots[~(np.isfinite(roots) & (roots > 0))] = np.nan
    return np.fmin(*roots), np.fmax(*roots)
