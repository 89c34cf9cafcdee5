"""
Basins of the training points
=============================

A training point starts to attract at :math:`t_o`; its basin grows as the noise falls, and stops growing at collapse,
where it is the point's Voronoi cell.
"""

import matplotlib.pyplot as plt
import numpy as np

from theory import LinearManifold, basin_radius, collapse_time, onset_time

alpha = 0.2
t = np.geomspace(0.03, 6, 400)
fig, axis = plt.subplots(figsize=(6, 3.8), constrained_layout=True)
for alpha_D in (0.1, 0.3, 0.5, 1.0):
    model = LinearManifold(alpha_D)
    (line,) = axis.semilogx(t, basin_radius(model, alpha, t), label=rf"$\alpha_D={alpha_D}$")
    axis.plot(
        collapse_time(model, alpha),
        basin_radius(model, alpha, collapse_time(model, alpha)),
        "o",
        color=line.get_color(),
    )
axis.set(xlabel=r"noise variance $t=\sigma^2$ [data units²]", ylabel=r"basin radius / $\sqrt{N}$ [data units]")
axis.set_title(r"dots: collapse; each curve ends at trap emergence ($\alpha=0.2$)", loc="left", fontsize=10)
axis.legend()
plt.show()

# %%
print(
    f"alpha_D = 0.5: t_o = {onset_time(LinearManifold(0.5), alpha):.4f}, t_c = {collapse_time(LinearManifold(0.5), alpha):.4f}"
)
