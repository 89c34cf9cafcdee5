r"""
Where the best noise lies, over load and latent dimension
=========================================================

**The figure** [AALMV25]: the noise of best generalisation :math:`t_g` against the load, for several latent dimensions.

**Our curve**: :math:`t_g=\int\rho\,[\frac r{1+\beta_*r}+\frac r{(1+\beta_*r)^2}]`, and dotted the same at N = 48 with
the drift that theory knows.

**The simulation**: mean squared distance per dimension from a fresh point to its nearest training point, on random
manifolds at N = 48. The theory says that it *is*
:math:`t_g`.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter

from theory import LinearManifold, collapse_time, generalization_time
from theory.finite_size import finite_size_value

full = os.environ.get("GEOMEM_GALLERY") == "full"
alpha, N = np.geomspace(0.02, 0.6, 60), 48
sets, fresh = (160, 200) if full else (16, 60)


def nearest(alpha_D, a):
    """Mean squared distance to the nearest of exp(aN) points, per dimension, and its error over manifolds."""
    found, D = [], round(alpha_D * N)
    for seed in range(sets):
        rng = np.random.default_rng(seed)
        F = rng.standard_normal((N, D)) / np.sqrt(D)
        X, x = (rng.standard_normal((n, D)) @ F.T for n in (round(np.exp(a * N)), fresh))
        square = (x**2).sum(axis=1)[:, None] + (X**2).sum(axis=1) - 2 * x @ X.T
        found.append(square.min(axis=1).mean() / N)
    return np.mean(found), np.std(found, ddof=1) / np.sqrt(sets)


fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.9), constrained_layout=True)
for k, alpha_D in enumerate((0.125, 0.25, 0.5, 1.0)):
    model = LinearManifold(alpha_D)
    t_g = generalization_time(model, alpha)
    left.loglog(alpha, t_g, f"C{k}", label=rf"$\alpha_D={alpha_D}$")
    right.semilogx(alpha, t_g / collapse_time(model, alpha), f"C{k}")
    loads = np.array([0.06, 0.1, 0.15, 0.2])
    drifted = [finite_size_value("generalization", model, a, N) for a in loads]
    left.loglog(loads, drifted, f"C{k}:", lw=1.2)
    points = np.array([nearest(alpha_D, a) for a in loads])
    left.errorbar(loads, points[:, 0], points[:, 1], fmt="o", ms=4, color=f"C{k}")
    print(f"alpha_D = {alpha_D}: nearest distance over theory at N = 48:", (points[:, 0] / drifted).round(3))
left.set(xlabel=r"load $\alpha=\log P/N$", ylabel=r"$t_g$ [data units²]", ylim=(1e-5, 3))
left.set_title("dots: distance to the nearest point; dotted: N = 48", loc="left", fontsize=10)
right.set(xlabel=r"load $\alpha=\log P/N$", ylabel=r"$t_g/t_c$", ylim=(0, 1))
right.set_title(r"below collapse everywhere; tends to $\alpha_D$ at large load", loc="left", fontsize=10)
for axis in (left, right):
    axis.xaxis.set_minor_formatter(NullFormatter())
left.legend(fontsize=8)
plt.show()

# %%
# **What survives**: the curves and the law of the nearest neighbour. At N = 48 the distance differs from :math:`t_g`
# by the drift, a correction in 1/N.
