r"""All observations of one ``omega`` whose law the student knows: their inner integrals and averages from one chain of products.

The rows are equally spaced, ``x_k = x_0 + k h``. With `c` the middle of a run of them,
``exp(-beta (x_k - s)^2/2) = exp(-beta (x_0 - s)^2/2) exp(beta h (s - c))^k exp(beta h^2 k (K - 1 - k)/2)``, and the last factor
is the same for all nodes: two exponentials a node for a whole run, and one product, two multiplications and three additions
an integrand. First moments are enough here (see `numerics.channel`), and what is left per row is done for all rows at once.
"""

from __future__ import annotations

import numpy as np

from numerics.channel.inner_peak import GROUP, LEAST, SHORT, STRIDE, exponents, inner_at, windows
from numerics.elementary import exp_block, log_block
from numerics.kernel_cache import njit

__all__ = ["longest_run", "matched_rows", "matched_singly", "observed_range"]

RUN = 20.0  # longest run of rows, in noise widths, that one chain serves
LOST = -690.0  # a node starting below this is not within 1e-60 of the sum of any row of its run


@njit(cache=True, error_model="numpy")
def longest_run(step, beta):
    """How many rows of spacing `step` one chain may serve, a multiple of `GROUP`; 0 where not even one group fits."""
    return (int(RUN / (step * np.sqrt(beta))) + 1) // GROUP * GROUP


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _chain(d, y, p, ratio, n, first, last, sums):
    """Sums over nodes of ``p, p y, p d`` into ``sums[:, first:last]``; from row to row ``p *= ratio``.

    Four rows at once: a node is loaded once, and twelve sums fit the registers.
    """
    for k in range(first, last, 4):
        a0 = b0 = c0 = a1 = b1 = c1 = a2 = b2 = c2 = a3 = b3 = c3 = 0.0
        for j in range(n):
            w0 = p[j]
            r = ratio[j]
            v = y[j]
            u = d[j]
            w1 = w0 * r
            w2 = w1 * r
            w3 = w2 * r
            a0 += w0
            b0 += w0 * v
            c0 += w0 * u
            a1 += w1
            b1 += w1 * v
            c1 += w1 * u
            a2 += w2
            b2 += w2 * v
            c2 += w2 * u
            a3 += w3
            b3 += w3 * v
            c3 += w3 * u
            p[j] = w3 * r
        sums[0, k], sums[1, k], sums[2, k] = a0, b0, c0
        sums[0, k + 1], sums[1, k + 1], sums[2, k + 1] = a1, b1, c1
        sums[0, k + 2], sums[1, k + 2], sums[2, k + 2] = a2, b2, c2
        sums[0, k + 3], sums[1, k + 3], sums[2, k + 3] = a3, b3, c3


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def _start(e, n, p):
    """Nodes too far from the first row to matter in any row of the run start, and stay, at 0."""
    for j in range(n):
        p[j] = p[j] if e[j] > LOST else 0.0


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def _ratios(centre, slope, s, n, d, e):
    """``d = s - centre`` and the exponents of the ratios."""
    for j in range(n):
        d[j] = s[j] - centre
        e[j] = min(slope * (s[j] - centre), -LOST)


@njit(cache=True, error_model="numpy")
def _run(start, step, count, beta, s, log_w, y, n, d, ratio, e, p, scale, bits, sums, first):
    """The rows ``start + step k``, ``k < count``, into ``sums[:, first + k]``; returns whether they can be trusted.

    After the three sums come the log of the factor left out of them, and the observation relative to the run's middle.
    """
    centre = start + 0.5 * step * (count - 1)
    _ratios(centre, beta * step, s, n, d, e)
    exp_block(e, n, 0.0, ratio, scale, bits)
    top = exponents(start, beta, s, log_w, n, STRIDE, e)
    exp_block(e, n, 0.0, p, scale, bits)
    _start(e, n, p)
    _chain(d, y, p, ratio, n, first, first + count, sums)
    bend = 0.5 * beta * step * step
    good = True
    for k in range(count):
        sums[3, first + k] = top + bend * k * (count - 1 - k)
        sums[4, first + k] = step * (k - 0.5 * (count - 1))
        good = good and LEAST < sums[0, first + k] < 1.0 / LEAST
    return good


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _averages(sums, count, weight, V, beta, out):
    r"""Add all rows to `out`; a row weighs ``weight * I``, for the law of x is the inner integral itself.

    For every omega, over all x, the mean of :math:`\langle d^2\rangle` is 1/beta, and that of :math:`f'` is minus that of
    :math:`f^2`, f being the score of I.
    """
    log_i = square = gaps = mass = 0.0
    for k in range(count):
        total = sums[0, k]
        w = weight * sums[6, k]
        share = w / total
        gap = sums[2, k] - sums[4, k] * total
        log_i += w * total * (sums[3, k] + sums[5, k])
        square += share * sums[1, k] * sums[1, k]
        gaps += share * gap * gap
        mass += w * total
    out[0] += log_i
    out[1] += square / V
    out[2] -= square / V
    out[4] += mass / beta
    out[5] += mass / beta - gaps
    out[6] += mass


@njit(cache=True, error_model="numpy")
def matched_rows(
    low, high, step, weight, V, beta, s, log_w, y, n, runs, slack, d, ratio, e, p, scale, bits, spans, sums, result, out
):
    """Add to `out` the averages over the observations in [low, high], at most `step` apart.

    Returns the exponentials spent, and the integrands that they served.
    `d` to `bits` are work arrays, of as many numbers as there are nodes or observations (bare arguments: a tuple of them costs
    as much as twenty exponentials); `sums` has seven rows of as many numbers as there are observations.
    """
    count = (max(2, int(np.ceil((high - low) / step)) + 1) + GROUP - 1) // GROUP * GROUP
    step = (high - low) / (count - 1)
    longest = longest_run(step, beta)
    exps, served = count, 0
    first, most = 0, longest
    while first < count:
        m = min(most, count - first)
        start = low + step * first
        if n <= SHORT:
            good = _run(start, step, m, beta, s, log_w, y, n, d, ratio, e, p, scale, bits, sums, first)
            exps += 2 * n
            served += m * n
        else:
            half = 0.5 * step * (m - 1)
            parts = windows(start + half, half, beta, s, runs, slack, spans)
            i, j = spans[0, 0], spans[parts - 1, 1]
            # windows with a short gap between are one
            good = parts == 1 or j - i <= 2 * SHORT
            if not good and m > 2 * GROUP:
                # those of fewer rows may be
                most = m // 2 // GROUP * GROUP
                continue
            if good:
                good = _run(
                    start, step, m, beta, s[i:j], log_w[i:j], y[i:j], j - i, d, ratio, e, p, scale, bits, sums, first
                )
                exps += 2 * (j - i)
                served += m * (j - i)
        if good:
            most = min(longest, 2 * most)
        else:
            for k in range(first, first + m):
                # (written out here and below: a function for it, inlined or not, is measurably slower)
                spent = inner_at(low + step * k, beta, s, log_w, y, n, runs, slack, e, p, scale, bits, spans, result, 0)
                exps += spent
                served += spent
                sums[0, k], sums[1, k], sums[2, k] = 1.0, result[0, 1], np.sqrt(result[0, 3] - result[0, 4])
                sums[3, k], sums[4, k] = result[0, 0], 0.0
        first += m
    exp_block(sums[3], count, 0.0, sums[6], scale, bits)
    log_block(sums[0], count, sums[5], scale, bits)
    # the ends of the trapezoidal rule
    sums[6, 0] *= 0.5
    sums[6, count - 1] *= 0.5
    _averages(sums, count, weight * step, V, beta, out)
    return exps, served


@njit(cache=True, error_model="numpy", inline="always")
def matched_singly(x, w_x, weight, V, beta, s, log_w, y, n, runs, slack, e, p, scale, bits, spans, sums, result, out):
    """`matched_rows` for the observations `x` of any mesh, with its weights `w_x`, each by itself."""
    if x.size > sums.shape[1]:
        sums = np.empty((7, x.size))
    exps = 0
    for k in range(x.size):
        exps += inner_at(x[k], beta, s, log_w, y, n, runs, slack, e, p, scale, bits, spans, result, 0)
        sums[0, k], sums[1, k], sums[2, k] = 1.0, result[0, 1], np.sqrt(result[0, 3] - result[0, 4])
        sums[3, k], sums[4, k], sums[5, k], sums[6, k] = result[0, 0], 0.0, 0.0, w_x[k] * np.exp(result[0, 0])
    _averages(sums, x.size, weight, V, beta, out)
    return exps, exps


@njit(cache=True, error_model="numpy", inline="always")
def observed_range(s, y, n, d, radius):
    """Range of ``x`` that ``s(h) + d noise`` reaches within `radius` standard deviations of (h, noise) together."""
    low, high = np.inf, -np.inf
    for j in range(0, n, 3):
        rest = radius * radius - y[j] * y[j]
        if rest >= 0.0:
            rest = d * np.sqrt(rest)
            low = min(low, s[j] - rest)
            high = max(high, s[j] + rest)
    return low - 0.1 * d, high + 0.1 * d
