r"""
Phase diagram of the linear manifold
====================================

**The figure** [AALMV25]: the noise levels of a training set against its load :math:`\alpha=\log P/N`, for two latent
dimensions. From large noise to small: traps emerge (:math:`t_o`), a typical point collapses (:math:`t_c`), a fresh point
sees few training points (:math:`t_\mathrm{cond}`), the empirical density is best (:math:`t_g`). They keep this order
everywhere.

**Our curve**: the four times in the limit, and dotted :math:`t_o`, :math:`t_c` and :math:`t_g` at N = 48.

**The simulation**: random manifolds in N = 48. :math:`t_o` and :math:`t_c` are read where the mean weight of a training
point passes ½, seen from itself and from a noisy copy of it; :math:`t_g` where the mean log-likelihood of fresh points is
largest.
"""

import os
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np

from theory import LinearManifold
from theory.finite_size import finite_size_value
from theory.phase_diagram import phase_diagram
from validation.simulation import Grids, crossing, jackknife, minimum, simulate

full = os.environ.get("GEOMEM_GALLERY") == "full"
N, loads = 48, np.array([0.1, 0.14, 0.18])
points, replicas = (200, 400) if full else (60, 40)
colours = {"onset": "C0", "collapse": "C1", "condensation": "C2", "generalization": "C3"}

diagram = phase_diagram(alpha=np.geomspace(1e-3, 1, points), alpha_D=[0.125, 0.5])


def simulated(model, alpha):
    """Each time over its value in theory at this size, where they were looked for, and their errors over manifolds."""
    P = round(np.exp(alpha * N))
    exact = {
        "onset": finite_size_value("onset", model, np.log(P - 1) / N, N),
        "collapse": finite_size_value("collapse", model, np.log(P - 1) / N, N),
        "generalization": finite_size_value("generalization", model, np.log(P) / N, N),
    }
    around = {kind: np.log(t) + np.linspace(-0.7, 0.7, 7) for kind, t in exact.items()}
    grids = Grids(noisy=around["collapse"], clean=around["onset"], heldout=around["generalization"])
    run = simulate(model, N, P, grids=grids, replicas=replicas)
    found = {
        "onset": jackknife(grids.clean, run.clean, crossing),
        "collapse": jackknife(grids.noisy, run.noisy, crossing),
        "generalization": jackknife(grids.heldout, run.heldout, minimum),
    }
    return exact, found


fig, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, constrained_layout=True)
for axis, alpha_D in zip(axes, diagram.alpha_D.values, strict=True):
    model = LinearManifold(float(alpha_D))
    for kind, colour in colours.items():
        axis.loglog(diagram.alpha, np.exp(diagram[f"log_t_{kind}"].sel(alpha_D=alpha_D)), colour, label=kind)
    worst = dict.fromkeys(("onset", "collapse", "generalization"), (1.0, 0.0))
    dotted = {kind: [] for kind in worst}
    for alpha in loads:
        exact, found = simulated(model, alpha)
        for kind, estimate in found.items():
            t, error = np.exp(estimate.value), np.exp(estimate.value) * estimate.error
            axis.errorbar(alpha, t, error, fmt="o", ms=4, color=colours[kind])
            dotted[kind].append(exact[kind])
            worst[kind] = max(worst[kind], (t / exact[kind], error / exact[kind]), key=lambda pair: abs(pair[0] - 1))
    for kind, values in dotted.items():
        axis.loglog(loads, values, ":", color=colours[kind], lw=1.2)
    axis.set(xlabel=r"load $\alpha=\log P/N$", title=rf"$\alpha_D={alpha_D}$", ylim=(1e-8, None))
    farthest = ", ".join(f"{kind} {ratio:.3f} +- {error:.3f}" for kind, (ratio, error) in worst.items())
    print(f"alpha_D = {alpha_D}: simulation over theory at N = {N}, farthest from 1: {farthest}")
axes[0].set_ylabel(r"noise variance $t=\sigma^2$ [data units²]")
axes[0].legend(fontsize=8)
plt.show()

order = [diagram[f"log_t_{kind}"] for kind in ("onset", "collapse", "condensation", "generalization")]
gaps = [float((upper - lower).min()) for upper, lower in pairwise(order)]
print("least t_o/t_c, t_c/t_cond, t_cond/t_g:", ", ".join(f"{np.exp(gap):.3f}" for gap in gaps))

# %%
# **What survives**: the order, at every load and both dimensions. :math:`t_o` is at least 2.00 :math:`t_c`, and
# :math:`t_\mathrm{cond}` 2.00 :math:`t_g`; :math:`t_c` and :math:`t_\mathrm{cond}` meet at large load (ratio 1.000). The
# simulated times lie on the theory at their size within 2 % where the manifold has 24 dimensions, within 7 % where it has
# 6. :math:`t_\mathrm{cond}` is not simulated here: no mean weight crosses ½ there.
#
# The limits of small and large load are derived in :mod:`theory.rem.asymptotics`:

from theory.rem.asymptotics import large_load, small_load

print(small_load("collapse").equation)
print(large_load("onset").equation)
