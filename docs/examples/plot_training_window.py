"""
When to stop training
=====================

Distance of a random-feature network from the exact score, against training time and size of the training set. White: the
best stopping time. Dashed: the time at which a direction is memorised, proportional to the size of the set.
"""

import matplotlib.pyplot as plt
import numpy as np

from theory import Isotropic, RandomFeatures

t, tau, sizes = np.expm1(0.2), np.geomspace(0.3, 3e5, 120), np.geomspace(2, 60, 24)
models = [RandomFeatures(Isotropic(1.0), psi_p=256, psi_n=n, t=t, activation="tanh") for n in sizes]
distance = np.array([model.learning_curve(tau).distance for model in models])

fig, axis = plt.subplots(figsize=(7, 4), constrained_layout=True)
mesh = axis.pcolormesh(tau, sizes, np.log10(distance), cmap="viridis_r", shading="nearest")
fig.colorbar(mesh, label=r"$\log_{10}$ distance to the exact score, per dimension")
axis.plot([model.stopping_time for model in models], sizes, "w", lw=1.8, label="best stopping time")
axis.plot(
    [model.direction_times(1.0)[1] for model in models], sizes, "k--", lw=1.2, label="memorisation, leading order"
)
axis.axvline(models[0].generalization_time, color="w", lw=0.8, ls=":")
axis.set(
    xscale="log", yscale="log", xlabel=r"training time $\tau$", ylabel=r"training samples over dimension, $\psi_n$"
)
axis.set_title(r"tanh features, $p=256N$; dotted: $1/\Delta$", loc="left", fontsize=10)
axis.legend(loc="lower right", fontsize=8, labelcolor="k", facecolor="0.85", framealpha=1)
plt.show()
