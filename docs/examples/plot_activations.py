"""
Activations side by side
========================

Collapse times of nonlinear hidden manifolds at matched second moment, and the Gaussian-equivalence shortcut, which puts
noise in all directions where the data have a manifold. The computation takes about a minute.
"""

import matplotlib.pyplot as plt
import numpy as np

from theory.phase_diagram import activation_diagrams

diagrams = activation_diagrams(
    ["identity", "tanh", "relu", "sign"], alpha=np.geomspace(0.03, 1.5, 24), alpha_D=[0.25, 0.5], kinds=("collapse",)
)

fig, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, constrained_layout=True)
for axis, alpha_D in zip(axes, diagrams.alpha_D.values, strict=True):
    cut = diagrams.sel(alpha_D=alpha_D)
    for name in cut.activation.values:
        one = cut.sel(activation=name)
        (line,) = axis.loglog(one.alpha, np.exp(one.log_t_collapse) / one.variance, label=name)
        axis.loglog(
            one.alpha, np.exp(one.log_shortcut_collapse) / one.variance, ls="--", lw=0.8, color=line.get_color()
        )
    axis.set(xlabel=r"load $\alpha=\log P/N$", title=rf"$\alpha_D={alpha_D}$; dashed: shortcut", ylim=(1e-7, None))
axes[0].set_ylabel(r"$t_c\,/\,\mathrm{Var}(s)$")
axes[0].legend()
plt.show()

# %%
# Sign data are discrete: above a load no noise is small enough to tell memorisation from repetition.

from theory import HiddenManifold
from theory.replica.small_noise import discrete_threshold

print(discrete_threshold(HiddenManifold(0.5, "sign")))
