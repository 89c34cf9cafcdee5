"""An independent referee for the replica saddle: mpmath at 30 digits, textbook formulas, no code shared with the engine.

The inner integral is done by composite Gauss-Legendre cut at the kinks, the outer ones on the Nishimori line by the
trapezoidal rule in (omega, x), doubled until the digits asked for stand still.
"""

from __future__ import annotations

from itertools import pairwise

from mpmath import mp, mpf
from mpmath.calculus.quadrature import GaussLegendre

FUNCTIONS = {
    "identity": (lambda h: h, ()),
    "tanh": (mp.tanh, ()),
    "erf": (mp.erf, ()),
    "sin": (mp.sin, ()),
    "quadratic": (lambda h: h * h, ()),
    "abs": (abs, (0,)),
    "sign": (mp.sign, (0,)),
    "relu": (lambda h: h if h > 0 else mpf(0), (0,)),
    "leaky_relu": (lambda h: h if h > 0 else h / 100, (0,)),
}
_RULES: dict[int, list] = {}


def _panels(a, b, cuts, widest):
    if mp.prec not in _RULES:
        _RULES[mp.prec] = GaussLegendre(mp).calc_nodes(4, mp.prec)
    marks = [a, *sorted(mpf(c) for c in cuts if a < c < b), b]
    for left, right in pairwise(marks):
        count = int(mp.ceil((right - left) / widest))
        for i in range(count):
            low, high = left + (right - left) * i / count, left + (right - left) * (i + 1) / count
            for x, w in _RULES[mp.prec]:
                yield (low + high) / 2 + (high - low) / 2 * x, w * (high - low) / 2


def inner(name, x, omega, V, beta):
    """``log I``, posterior mean and variance of ``y = (h-omega)/sqrt V``, and ``<(x-s)^2>``, to working precision."""
    s, cuts = FUNCTIONS[name]
    x, omega, V, beta = map(mpf, (x, omega, V, beta))
    reach = mp.sqrt(2 * mp.dps * mp.log(10)) * mp.sqrt(V)
    widest = 6 * min(mp.sqrt(V), 1 / mp.sqrt(beta))
    sums = [mpf(0)] * 4
    for h, w in _panels(omega - reach, omega + reach, cuts, widest):
        y, d = (h - omega) / mp.sqrt(V), x - s(h)
        p = w * mp.exp(-(y**2) / 2 - beta * d**2 / 2)
        for k, factor in enumerate((1, y, y * y, d * d)):
            sums[k] += p * factor
    mean = sums[1] / sums[0]
    return mp.log(sums[0] / mp.sqrt(2 * mp.pi * V)), mean, sums[2] / sums[0] - mean**2, sums[3] / sums[0]


def matched_averages(name, q, t, steps=(12, 12), inner_points=60):
    """``E log I`` and ``E f^2`` for a matched student with ``rho = 1``, smooth odd activations, trapezoidal throughout.

    `steps` per standard deviation of omega and of x; all three rules converge exponentially.
    """
    s, _ = FUNCTIONS[name]
    q, t = mpf(q), mpf(t)
    V = 1 - q
    reach = mpf(9)
    y = [reach * (2 * mpf(k) / inner_points - 1) for k in range(inner_points + 1)]
    prior = [mp.exp(-(v**2) / 2) / mp.sqrt(2 * mp.pi) * 2 * reach / inner_points for v in y]
    log_i = force = mpf(0)
    n = int(reach * steps[0])
    for i in range(0, n + 1):  # an odd activation: omega >= 0 counts twice
        eta = reach * i / n
        w_eta = (1 if i == 0 else 2) * mp.exp(-(eta**2) / 2) / mp.sqrt(2 * mp.pi) * reach / n
        levels = [s(mp.sqrt(q) * eta + mp.sqrt(V) * v) for v in y]
        low, high = min(levels) - reach * mp.sqrt(t), max(levels) + reach * mp.sqrt(t)
        m = int(mp.ceil((high - low) / mp.sqrt(t) * steps[1]))
        for j in range(m + 1):
            x = low + (high - low) * j / m
            p = [w * mp.exp(-((x - level) ** 2) / (2 * t)) for w, level in zip(prior, levels, strict=True)]
            total = mp.fsum(p)
            mean = mp.fsum(a * v for a, v in zip(p, y, strict=True)) / total
            weight = w_eta * total / mp.sqrt(2 * mp.pi * t) * (high - low) / m
            log_i += weight * mp.log(total)
            force += weight * mean**2 / V
    return log_i, force
