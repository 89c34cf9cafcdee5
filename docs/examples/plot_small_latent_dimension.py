r"""
The curse of dimensionality is in D, not in N
=============================================

**The figure** [AALMV25]: as :math:`\alpha_D\to0` at fixed :math:`\kappa=\log P/D` the collapse noise, in units of the
variance along the manifold, tends to one curve,
:math:`\alpha_Dt_c\to1/(e^{2\kappa}-1)`. How many points are needed depends on the latent dimension alone.

**Our curve**: the exact linear theory at four :math:`\alpha_D`, and the limit.

**The simulation**: D = 12 latent dimensions in N = 24 and in N = 240; the noise at which a training point's own
weight passes ½.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

from theory import LinearManifold, collapse_time
from theory.finite_size import finite_collapse_time

full = os.environ.get("GEOMEM_GALLERY") == "full"
kappa, D = np.geomspace(0.05, 2, 80), 12
sets, queries = (200, 100) if full else (24, 40)


def crossing(N, k):
    """Where the mean weight of the true point passes 1/2, times alpha_D; its error by leaving out a manifold (jackknife)."""
    P, rows = round(np.exp(k * D)), []
    grid = collapse_time(LinearManifold(D / N), k * D / N) * np.geomspace(0.3, 5, 15)
    for seed in range(sets):
        rng = np.random.default_rng(seed)
        F, n = rng.standard_normal((N, D)) / np.sqrt(D), min(queries, P)
        X, row = rng.standard_normal((P, D)) @ F.T, []
        for t in grid:
            x = X[:n] + np.sqrt(t) * rng.standard_normal((n, N))
            logs = -((x**2).sum(axis=1)[:, None] + (X**2).sum(axis=1) - 2 * x @ X.T) / (2 * t)
            row.append(np.exp(logs[np.arange(n), np.arange(n)] - np.logaddexp.reduce(logs, axis=1)).mean())
        rows.append(row)
    rows = np.array(rows)
    means = [rows.mean(axis=0)] + [np.delete(rows, i, axis=0).mean(axis=0) for i in range(sets)]
    at, *without = (np.exp(np.interp(-0.5, -mean, np.log(grid))) * D / N for mean in means)
    return at, np.std(without) * np.sqrt(sets - 1)


fig, axis = plt.subplots(figsize=(6.5, 4.2), constrained_layout=True)
for k, alpha_D in enumerate((1.0, 0.5, 0.1, 0.02)):
    axis.loglog(
        kappa,
        alpha_D * collapse_time(LinearManifold(alpha_D), kappa * alpha_D),
        f"C{k}",
        label=rf"$\alpha_D={alpha_D}$",
    )
axis.loglog(kappa, 1 / np.expm1(2 * kappa), "k--", label=r"$1/(e^{2\kappa}-1)$")
loads, measured = np.array([0.25, 0.4, 0.55]), {}
for N, colour, marker in ((24, "C1", "o"), (240, "k", "s")):
    points = np.array([crossing(N, k) for k in loads])
    measured[N] = points[:, 0]
    found = [finite_collapse_time(LinearManifold(D / N), P=round(np.exp(k * D)), N=N, samples=16) for k in loads]
    exact, error = (np.array([getattr(e, name) for e in found]) * D / N for name in ("value", "error"))
    axis.errorbar(
        loads, points[:, 0], points[:, 1], fmt=marker, ms=5, color=colour, mfc="w", label=f"simulation, D = 12, N = {N}"
    )
    axis.fill_between(loads, exact - error, exact + error, color=colour, alpha=0.25, lw=0)
    print(
        f"N = {N}: measured over exact theory at this size",
        (points[:, 0] / exact).round(2),
        "over the limit",
        (points[:, 0] * np.expm1(2 * loads)).round(2),
    )
axis.set(xlabel=r"$\kappa=\log P/D$", ylabel=r"collapse noise $\alpha_D\,t_c$ [data units²]")
axis.set_title("bands: exact theory at the size of the simulation", loc="left", fontsize=10)
axis.legend(fontsize=8)
plt.show()
print("alpha_D t_c at N = 240 over that at N = 24:", (measured[240] / measured[24]).round(2), "at kappa =", loads)

# %%
# **What survives**: ten times the ambient dimension moves the collapse by a quarter at most, as the curves of the two
# :math:`\alpha_D` do. At D = 12 it is not yet at its limit,
# and lies where the exact theory has it at this size (bands, one error): what is asymptotic is D, not N.
