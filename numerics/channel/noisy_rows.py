"""All noisy observations ``x = s(h*) + d z`` of one ``omega``: a mesh of the noise `z` around each of the teacher's nodes."""

from __future__ import annotations

import numpy as np

from numerics.channel.inner_peak import ROWS, inner_at, inner_run, widest_run
from numerics.kernel_cache import njit
from numerics.quadrature import HALF_LOG_2PI, uniform_mesh

__all__ = ["noisy_rows"]

NOTHING = 1e-18  # observations of less weight are left out


@njit(cache=True, error_model="numpy", inline="always")
def noisy_rows(
    x, weight, chain, stein, d, radius, step, V, beta, s, log_w, y, n, runs, slack, e, p, scale, bits, ratio, spans,
    result, out,
):  # fmt: skip
    """Add to `out` the averages over ``x + d z`` for normal `z` within `radius`, on a mesh of spacing `step`.

    Returns the exponentials spent, and the integrands that they served. The other arguments are those of `clean_rows`.
    """
    z, w_z = uniform_mesh(-radius, radius, step, ROWS)
    apart = d * (z[1] - z[0])
    run = widest_run(apart, beta)
    for k in range(z.size):
        w_z[k] *= np.exp(-0.5 * z[k] * z[k] - HALF_LOG_2PI)
    exps = served = 0
    for j in range(x.size):
        if weight[j] < NOTHING:
            continue
        for first in range(0, z.size, run):
            start = x[j] + d * z[first]
            if run > 1:
                spent, more = inner_run(
                    start, apart, run, beta, s, log_w, y, n, runs, slack, e, p, scale, bits, ratio, spans, result
                )
            elif weight[j] * w_z[first] >= NOTHING:
                spent = inner_at(start, beta, s, log_w, y, n, runs, slack, e, p, scale, bits, spans, result, 0)
                more = spent
            else:
                continue
            exps += spent
            served += more
            for k in range(run):
                _add(out, weight[j] * w_z[first + k], chain[j], stein[j], result, k, V)
    return exps, served


@njit(cache=True, error_model="numpy")
def _add(out, w, chain, stein, r, k, V):
    """Add row `k` of inner moments with weight `w`."""
    f = r[k, 1] / np.sqrt(V)
    out[0] += w * r[k, 0]
    out[1] += w * f * f
    out[2] += w * (r[k, 2] - 1.0) / V
    out[3] += w * (chain * r[k, 5] + stein * f)
    out[4] += w * r[k, 3]
    out[5] += w * r[k, 4]
    out[6] += w
