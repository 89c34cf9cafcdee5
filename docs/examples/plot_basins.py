r"""
Basins of the training points
=============================

**The figure** [AALMV25]: how far the basin of a training point reaches, against noise. It opens at :math:`t_o`, grows as
the noise falls, and stops growing at collapse, where it is the point's Voronoi cell.

**Our curve**: :math:`\sqrt{\delta_b}`, the distance divided by :math:`\sqrt N` up to which a training point's own weight
rules in a random direction, in the limit, and dotted its growth at N = 40.

**The simulation**: the distance at which a training point's weight in the ideal score, averaged over points and
directions, passes ½, on random manifolds in N = 20 and 40.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

from theory import LinearManifold, basin_radius, collapse_time, onset_time
from theory.finite_size import finite_size_value
from validation.simulation import Grids, crossing, jackknife, simulate
from validation.simulation.replica_groups import Basin

full = os.environ.get("GEOMEM_GALLERY") == "full"
replicas = 400 if full else 20
alpha, N = 0.2, 40
sizes = (20, N, 50) if full else (20, N)

t = np.geomspace(0.01, 6, 400)
fig, axis = plt.subplots(figsize=(7, 4.2), constrained_layout=True)
for k, alpha_D in enumerate((0.1, 0.3, 0.5, 1.0)):
    model = LinearManifold(alpha_D)
    t_c, t_o = collapse_time(model, alpha), onset_time(model, alpha)
    axis.semilogx(t, basin_radius(model, alpha, t), f"C{k}", label=rf"$\alpha_D={alpha_D}$")
    axis.plot(t_c, basin_radius(model, alpha, t_c), "o", color=f"C{k}")
    levels = np.array([0.1 * t_c, 0.3 * t_c, t_c, np.sqrt(t_c * t_o), 0.8 * t_o])
    radii = np.maximum(basin_radius(model, alpha, levels), 0.3 * np.sqrt(t_c))
    factors = np.exp(np.linspace(-1.2, 0.8, 9))
    basins = [Basin(level, tuple((radius * factors) ** 2)) for level, radius in zip(levels, radii, strict=True)]
    print(f"alpha_D = {alpha_D}: t_o = {t_o:.4f}, t_c = {t_c:.4f}")
    for n, marker in zip(sizes, "^sD", strict=False):
        run = simulate(model, n, round(np.exp(alpha * n)), grids=Grids(basins=basins), replicas=replicas)
        found = [jackknife(np.log(b.delta) / 2, weight, crossing) for b, weight in zip(basins, run.basins, strict=True)]
        radius, relative = np.exp([e.value for e in found]), np.array([e.error for e in found])
        axis.errorbar(levels, radius, radius * relative, fmt=marker, ms=4, color=f"C{k}", mfc="w", lw=1)
        over = (radius / basin_radius(model, alpha, levels))[:3]
        print(f"  N = {n}: radius over the limit at 0.1, 0.3, 1 t_c: {over.round(2)} +- {relative[:3].round(2)}")
        if n == N:
            exact = np.sqrt([finite_size_value("basin", model, alpha, n, t=u) for u in levels[3:]])
            print(f"  N = {n}: over theory at N, above t_c: {(radius[3:] / exact).round(2)} +- {relative[3:].round(2)}")
    growing = np.linspace(1.001 * t_c, 0.95 * t_o, 12)
    drifted = [np.sqrt(finite_size_value("basin", model, alpha, N, t=level)) for level in growing]
    axis.semilogx(growing, drifted, f"C{k}:", lw=1.2)
axis.set(ylim=(-0.05, 2.0))
axis.set(xlabel=r"noise variance $t=\sigma^2$ [data units²]", ylabel=r"basin radius / $\sqrt{N}$ [data units]")
axis.set_title(
    f"dots: collapse; open: simulation, N = 20 (triangles) and {N}; dotted: theory at {N}", loc="left", fontsize=10
)
axis.legend(ncol=4, loc="upper center", fontsize=8)
plt.show()

# %%
# **What survives**: the shape. Above :math:`t_c` the simulated radius is that of the theory at N = 40 within its errors, at
# four latent dimensions; below, it hardly depends on t (1.18 and 1.17 of the limit at 0.1 and 0.3 :math:`t_c`,
# :math:`\alpha_D=0.5`). The height of the plateau is a limit that is approached slowly: at :math:`0.1\,t_c` the cell is 1.30
# times as wide at N = 20 and 1.18 times at N = 40. No theory of this drift is known here.
