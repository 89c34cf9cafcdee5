"""
Phase diagram of the linear manifold
====================================

The four times over load and latent dimension. They keep their order everywhere: best generalisation, condensation,
collapse, trap emergence.
"""

import matplotlib.pyplot as plt
import numpy as np

from theory.phase_diagram import phase_diagram

diagram = phase_diagram(alpha=np.geomspace(1e-3, 1, 80), alpha_D=[0.05, 0.5])

fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, constrained_layout=True)
for axis, alpha_D in zip(axes, diagram.alpha_D.values, strict=True):
    for kind in ("onset", "collapse", "condensation", "generalization"):
        t = np.exp(diagram[f"log_t_{kind}"].sel(alpha_D=alpha_D))
        axis.loglog(diagram.alpha, t, label=kind)
    axis.set(xlabel=r"load $\alpha=\log P/N$", title=rf"$\alpha_D={alpha_D}$", ylim=(1e-8, None))
axes[0].set_ylabel(r"noise variance $t=\sigma^2$ [data units²]")
axes[0].legend()
plt.show()

# %%
# At small load :math:`t_o\to\langle r\rangle/\alpha` and :math:`t_c\to\langle r\rangle/2\alpha`; at large load both fall as
# :math:`e^{-2\alpha/\alpha_D}` and :math:`t_o/t_c\to e`. The limits are derived in :mod:`theory.rem.asymptotics`:

from theory.rem.asymptotics import large_load, small_load

print(small_load("collapse").equation)
print(large_load("onset").equation)
