r"""Inverts a two-sided Laplace transform by steepest-descent contours, everything in logarithms.

.. math:: I(v) = \frac1{2\pi i}\int_{a-i\infty}^{a+i\infty} e^{\lambda v}\,F(\lambda)\,d\lambda

on a strip ``low < Re(lambda) < high`` where F is analytic, positive and log-convex on the real axis, infinite at both
ends (poles or branch points), and where every singularity of F lies on the real axis. Then
``log F(a) + a v`` has one minimum `a(v)` in the strip, the saddle, and on the vertical line through it ``|F|`` falls
monotonically: no cancellation. One contour serves all `v` whose saddle is within about one width of its own, so F is
evaluated some fifty times per contour and not per `v`. Two shapes: where the saddle is narrow, a hyperbola along the
direction of steepest descent with sinh-spaced nodes, which follows F over many scales; else the vertical line, equal
steps, whose error at distance `d` from a pole is ``exp(-2 pi d/h)`` for every `v`. Source: [ours:
docs/derivations/finite_size.md]; the trapezoidal rule on contours: Trefethen and Weideman, SIAM Review 56 (2014) 385.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from numerics.domain import DomainError
from numerics.kernel_cache import njit

__all__ = ["Contour", "Inversion"]

_NEGLIGIBLE = 41.0  # terms below exp(-41) of the largest are beyond float64
_NARROW = 0.25  # saddle width below which the contour is bent
_BENT_STEP = 0.1  # step in the sinh variable; halved until the error estimate passes
_LEAN = 10.0  # a bent contour leans left by at most 0.6 of this: kernels like Gamma(-lambda) grow far to the left
_TARGET = 1e-14
_EPS = np.finfo(float).eps


@dataclass(frozen=True)
class Contour:
    """One contour: where it crosses the axis, its nodes and weights, and the window of `v` that it serves.

    Attributes
    ----------
    anchor : float, where the contour crosses the real axis
    centre : float, the `v` whose saddle is the anchor
    window : (float, float), the values of `v` served
    log_peak : float, log F(anchor)
    node : (n,) complex array, ``lambda_j - anchor``, in the upper half plane
    weight : (n,) complex array, ``F/F(anchor) exp(node * centre) dlambda / pi``
    """

    anchor: float
    centre: float
    window: tuple[float, float]
    log_peak: float
    node: np.ndarray
    weight: np.ndarray


class Inversion:
    r"""The inverse of one transform on one strip; call it with `v`, get ``mantissa * exp(exponent)``.

    Parameters
    ----------
    log_transform : callable, complex (n,) -> complex (n,)
        `log F`, continuous in the upper half plane, real on the real axis of the strip.
    derivatives : callable, float -> (f, f', f'', f''')
        `log F` and its first three derivatives on the real axis of the strip; `f'' > 0`.
    low, high : floats, low < high
        Ends of the strip.
    ceiling : float, optional
        Never put the contour to the right of this point. For `v` whose saddle lies beyond it the value is then exact
        relative to `F(ceiling) exp(ceiling v)`, not to itself: meant for remainders beside a larger residue.

    Returns (of a call with `v`, an array)
    -------
    mantissa, exponent, error : arrays of v's shape
        ``I(v) = mantissa exp(exponent)``; `error` is an estimate of the absolute error of `mantissa`, from the same
        sum with every second node left out (for geometric convergence the square of the relative difference).

    >>> import numpy as np
    >>> from scipy.special import loggamma, psi, zeta
    >>> inverse = Inversion(lambda z: loggamma(-z),                      # exp(-exp(v)) from Gamma(-lambda)
    ...                     lambda a: (loggamma(-a), -psi(-a), zeta(2, -a), 2 * zeta(3, -a)), low=-np.inf, high=0.0)
    >>> m, e, error = inverse(np.array([0.0, 3.0]))
    >>> bool(np.allclose(m * np.exp(e), np.exp(-np.exp([0.0, 3.0])), rtol=1e-12, atol=0))
    True
    """

    def __init__(
        self,
        log_transform: Callable[[np.ndarray], np.ndarray],
        derivatives: Callable[[float], tuple[float, float, float, float]],
        *,
        low: float,
        high: float,
        ceiling: float | None = None,
    ):
        if not low < high:
            raise DomainError("low, high", (low, high), "two numbers with low < high")
        self.log_transform, self.derivatives = log_transform, derivatives
        self.low, self.high, self.ceiling = low, high, ceiling
        self.contours: list[Contour] = []
        self.evaluations = 0

    def __call__(self, v) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        v = np.asarray(v, dtype=np.float64)
        flat = v.ravel()
        mantissa, exponent, error = np.empty(flat.size), np.empty(flat.size), np.empty(flat.size)
        waiting = np.ones(flat.size, dtype=bool)
        for contour in self.contours:
            self._serve(contour, flat, waiting, mantissa, exponent, error)
        while waiting.any():
            contour = self._contour(flat[waiting])
            self.contours.append(contour)
            self._serve(contour, flat, waiting, mantissa, exponent, error)
        return mantissa.reshape(v.shape), exponent.reshape(v.shape), error.reshape(v.shape)

    def _serve(self, contour, v, waiting, mantissa, exponent, error):
        served = waiting & (v >= contour.window[0]) & (v <= contour.window[1])
        if served.any():
            total, skipped = _sums(v[served] - contour.centre, contour.node, contour.weight)
            scale = np.abs(contour.weight).sum()
            mantissa[served] = total
            exponent[served] = contour.log_peak + contour.anchor * v[served]
            error[served] = scale * (((total - skipped) / scale) ** 2 + 4 * _EPS)
            waiting &= ~served

    def _contour(self, v: np.ndarray) -> Contour:
        """A contour for the smallest of the waiting `v`, placed so that its window covers as many more as it can."""
        target = v.min()
        anchor, (_, f1, f2, _) = self.saddle(target)
        if self.ceiling is None or anchor < self.ceiling:
            ahead = v[v <= target + 1.4 * np.sqrt(f2)].max()
            if ahead > target:
                anchor = min(self.saddle(0.5 * (target + ahead), guess=anchor)[0], anchor)
        else:
            anchor = self.ceiling
        f, f1, f2, f3 = self.derivatives(anchor)
        centre, width = -f1, f2**-0.5
        reach = 1 / width
        left, right = anchor - self.low, self.high - anchor
        bent = width < _NARROW and centre > 0 and f3 < 0 and anchor != self.ceiling
        start = max(centre - reach, 0.5 * centre) if bent else centre - reach
        window = (min(start, target), max(centre + reach, target))
        if anchor == self.ceiling:
            window = (-np.inf, max(centre, target))
        if bent:
            scale = min(width, 0.9 * left, 0.9 * right)
            tilt, step = min(-f3 * scale / (3 * f2), 0.6), _BENT_STEP
        else:
            distance = min(0.6 * left, right, 8.5 * width)
            scale, tilt = None, 0.0
            step = 2 * np.pi * distance / (37 + 0.5 * (distance / width) ** 2)
        lowest = window[0] if np.isfinite(window[0]) else centre
        checks = np.array([lowest, min(max(centre, lowest), window[1]), window[1]])
        for _ in range(6):
            node, weight = self._nodes(anchor, f, centre, lowest, scale, tilt, step)
            total, skipped = _sums(checks - centre, node, weight)
            if np.max(((total - skipped) / np.abs(weight).sum()) ** 2) < _TARGET:
                break
            step *= 0.5
        return Contour(anchor, centre, window, f, node, weight)

    def _nodes(self, anchor, f, centre, lowest, scale, tilt, step):
        """Nodes and weights out to where the integrand at the window's lowest `v` is negligible."""
        nodes, weights, start, block = [], [], 0, 48
        while True:
            theta = step * np.arange(start, start + block)
            if scale is None:
                node, speed = 1j * theta, np.full(block, 1j)
            else:
                sinh, cosh = np.sinh(theta), np.cosh(theta)
                damped = 1 + scale / _LEAN * cosh
                node = scale * (1j * sinh - tilt * (cosh - 1) / damped)
                speed = scale * (1j * cosh - tilt * sinh * (damped - scale / _LEAN * (cosh - 1)) / damped**2)
            log_ratio = self.log_transform(anchor + node) - f
            self.evaluations += block
            weights.append(np.exp(log_ratio + node * centre) * speed * (step / np.pi))
            nodes.append(node)
            modulus = log_ratio.real + node.real * lowest + np.log(np.abs(speed) / np.abs(speed[0]))
            start += block
            if modulus[-1] < -_NEGLIGIBLE or start > 40_000:
                break
            block = min(2 * block, 1024)
        node, weight = np.concatenate(nodes), np.concatenate(weights)
        weight[0] *= 0.5
        return node, weight

    def saddle(self, v: float, guess: float | None = None) -> tuple[float, tuple[float, float, float, float]]:
        """The point of the strip where ``f' + v = 0``, to a small fraction of the saddle's width, and f..f''' there."""
        low, high = self.low, self.high
        if not np.isfinite(low):
            low = high - 1.0
            while self.derivatives(low)[1] + v > 0:
                low = high - 2 * (high - low)
        a = 0.5 * (low + high) if guess is None or not low < guess < high else guess
        for _ in range(200):
            d = self.derivatives(a)
            slope = d[1] + v
            if slope > 0:
                high = a
            else:
                low = a
            newton = a - slope / d[2]
            if abs(newton - a) < 0.02 * d[2] ** -0.5:
                return a, d
            # a barrier is steep: a Newton step that leaves the bracket is replaced by bisection
            a = newton if low < newton < high else 0.5 * (low + high)
        return a, d


@njit(cache=True)
def _sums(shift, node, weight):
    """Imaginary part of sum_j weight_j exp(node_j shift), with all nodes and with every second one."""
    total, skipped = np.empty(shift.size), np.empty(shift.size)
    vertical = node[-1].real == 0.0
    for i in range(shift.size):
        even, odd = 0.0, 0.0
        if vertical:  # equal steps: one rotation a node in the place of a cosine and a sine
            phase = node[1].imag * shift[i]
            cos_step, sin_step, cos, sin = np.cos(phase), np.sin(phase), 1.0, 0.0
            for j in range(0, node.size - 1, 2):
                even += weight[j].imag * cos + weight[j].real * sin
                cos, sin = cos * cos_step - sin * sin_step, sin * cos_step + cos * sin_step
                odd += weight[j + 1].imag * cos + weight[j + 1].real * sin
                cos, sin = cos * cos_step - sin * sin_step, sin * cos_step + cos * sin_step
        else:
            for j in range(node.size):
                size, phase = np.exp(node[j].real * shift[i]), node[j].imag * shift[i]
                term = size * (weight[j].imag * np.cos(phase) + weight[j].real * np.sin(phase))
                if j % 2 == 0:
                    even += term
                else:
                    odd += term
        total[i], skipped[i] = even + odd, 2 * even
    return total, skipped
