r"""All noiseless observations ``x_k = s(h_k)`` of one ``omega``: their inner integrals, four at a time, and averages.

The inner integral of a row is a sum of ``exp(-beta (x_k - s_j)^2/2) W_j`` over nodes, `W` being the prior's weights. The first
factor does not know ``omega``: where all omega share one set of nodes, and the teacher's nodes are among them, it is a matrix
that serves every omega (`kernel_matrix`); elsewhere it is filled four rows at a time. What is left per row, a logarithm and
a few divisions, is done for all rows at once.
"""

from __future__ import annotations

import numpy as np

from numerics.channel.inner_peak import GROUP, LEAST, SHORT, inner_at, windows
from numerics.elementary import exp_block, log_block
from numerics.kernel_cache import njit

__all__ = ["clean_rows", "kernel_matrix"]


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def _exponents(x, half_beta, s, n, out, at):
    for j in range(n):
        d = x - s[j]
        out[at + j] = -half_beta * d * d


@njit(cache=True, error_model="numpy")
def kernel_matrix(x, beta, s):
    """``exp(-beta (x_k - s_j)^2/2)``, an array of (x.size, s.size)."""
    n = s.size
    e, scale = np.empty(n), np.empty(n)
    bits = scale.view(np.int64)
    out = np.empty((x.size, n))
    for k in range(x.size):
        _exponents(x[k], 0.5 * beta, s, n, e, 0)
        exp_block(e, n, 0.0, out[k], scale, bits)
    return out


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _two_rows(first, second, xa, xb, s, y, w, n, sums, k):
    """Sums over nodes of ``p, p y, p y^2, p d, p d^2, p d y`` with ``p`` kernel times weight and ``d = x - s``, for two rows."""
    a0 = a1 = a2 = a3 = a4 = a5 = b0 = b1 = b2 = b3 = b4 = b5 = 0.0
    for j in range(n):
        u = w[j]
        v = y[j]
        p = first[j] * u
        q = second[j] * u
        d = xa - s[j]
        g = xb - s[j]
        pv = p * v
        qv = q * v
        pd = p * d
        qg = q * g
        a0 += p
        b0 += q
        a1 += pv
        b1 += qv
        a2 += pv * v
        b2 += qv * v
        a3 += pd
        b3 += qg
        a4 += pd * d
        b4 += qg * g
        a5 += pd * v
        b5 += qg * v
    sums[0, k], sums[1, k], sums[2, k], sums[3, k], sums[4, k], sums[5, k] = a0, a1, a2, a3, a4, a5
    k += 1
    sums[0, k], sums[1, k], sums[2, k], sums[3, k], sums[4, k], sums[5, k] = b0, b1, b2, b3, b4, b5


@njit(cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _averages(sums, count, weight, chain, stein, V, out):
    """Add all rows, each with its own weight, and its factors of the two forms of the teacher's derivative."""
    log_i = mean_2 = variance = star = square = spread = mass = 0.0
    root_V = np.sqrt(V)
    for k in range(count):
        w = weight[k]
        share = 1.0 / sums[0, k]
        mean = sums[1, k] * share
        gap = sums[3, k] * share
        gap_2 = sums[4, k] * share
        log_i += w * sums[6, k]
        mean_2 += w * mean * mean
        variance += w * (sums[2, k] * share - mean * mean)
        star += w * (chain[k] * (sums[5, k] * share - mean * gap) + stein[k] * mean / root_V)
        square += w * gap_2
        spread += w * (gap_2 - gap * gap)
        mass += w
    out[0] += log_i
    out[1] += mean_2 / V
    out[2] += (variance - mass) / V
    out[3] += star
    out[4] += square
    out[5] += spread
    out[6] += mass


@njit(cache=True, error_model="numpy")
def _group(x, k, beta, s, y, w, n, runs, slack, e, p, scale, bits, spans, sums):
    """Four rows that share the nodes within reach of any of them; returns the exponentials spent, 0 where that was refused."""
    low = min(min(x[k], x[k + 1]), min(x[k + 2], x[k + 3]))
    high = max(max(x[k], x[k + 1]), max(x[k + 2], x[k + 3]))
    i, j = 0, n
    if n > SHORT:
        # together they would each take more than twice the nodes of one alone
        if high - low > 1.5 * np.sqrt(2.0 * slack / beta):
            return 0
        parts = windows(0.5 * (low + high), 0.5 * (high - low), beta, s, runs, slack, spans)
        i, j = spans[0, 0], spans[parts - 1, 1]
        if parts > 1 and j - i > 2 * SHORT:
            return 0
    m = j - i
    if GROUP * m > e.size:
        return 0
    nodes = s[i:j]
    for r in range(GROUP):
        _exponents(x[k + r], 0.5 * beta, nodes, m, e, r * m)
    exp_block(e, GROUP * m, 0.0, p, scale, bits)
    _two_rows(p[:m], p[m : 2 * m], x[k], x[k + 1], nodes, y[i:j], w[i:j], m, sums, k)
    _two_rows(p[2 * m : 3 * m], p[3 * m :], x[k + 2], x[k + 3], nodes, y[i:j], w[i:j], m, sums, k + 2)
    return GROUP * m


@njit(cache=True, error_model="numpy")
def clean_rows(
    x, weight, chain, stein, count, V, beta, s, log_w, y, n, runs, slack, kernel, row, column,
    w, e, p, scale, bits, spans, sums, result, out,
):  # fmt: skip
    """Add to `out` the averages over ``x[:count]``, a multiple of `GROUP`.

    Returns the exponentials spent, and the integrands that they served.
    `weight` of each observation, `chain` and `stein` factors of the two forms of the teacher's derivative; `kernel` a
    `kernel_matrix` whose rows from `row` are these observations and whose columns from `column` are these nodes, or empty;
    `w` to `bits` work arrays; `sums` seven rows of as many numbers as there are observations.
    """
    exp_block(log_w, n, 0.0, w, scale, bits)
    exps, served = n + count, 0
    if kernel.size > 0:
        for k in range(0, count, 2):
            a, b = kernel[row + k, column : column + n], kernel[row + k + 1, column : column + n]
            _two_rows(a, b, x[k], x[k + 1], s, y, w, n, sums, k)
        served += count * n
    else:
        for k in range(0, count, GROUP):
            spent = _group(x, k, beta, s, y, w, n, runs, slack, e, p, scale, bits, spans, sums)
            exps += spent
            served += spent
            if spent == 0:
                sums[0, k : k + GROUP] = 0.0
    log_block(sums[0], count, sums[6], scale, bits)
    for k in range(count):
        if not LEAST < sums[0, k] < 1.0 / LEAST:
            spent = inner_at(x[k], beta, s, log_w, y, n, runs, slack, e, p, scale, bits, spans, result, 0)
            exps += spent
            served += spent
            mean, gap = result[0, 1], np.sqrt(max(result[0, 3] - result[0, 4], 0.0))
            sums[0, k], sums[1, k], sums[2, k] = 1.0, mean, result[0, 2] + mean * mean
            sums[3, k], sums[4, k], sums[5, k] = gap, result[0, 3], result[0, 5] + mean * gap
            sums[6, k] = result[0, 0]
    _averages(sums, count, weight, chain, stein, V, out)
    return exps, served
