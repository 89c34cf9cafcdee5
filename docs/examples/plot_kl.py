r"""
The best noise lies inside the memorisation phase
=================================================

**The figure** [AALMV25]: :math:`KL(P_0\|P_t)` between the law of the data and the training set blurred by noise t,
against t. It is smallest at
:math:`t_g`, below the noise at which a fresh point sees only a few training points, and far below collapse.

**Our curve**: :math:`KL=\frac12\log t-\varphi(1/t)` per dimension, up to a constant, with the free energy seen from a
clean point. Below :math:`t_{cond}` it is
:math:`\frac12\log t+e/t`: e is half the mean squared distance to the nearest training point.

**The simulation**: fresh points against P training points on random linear manifolds; dotted the exact theory at its
N and P.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

from theory import LinearManifold, collapse_time, condensation_time, free_energy, generalization_time, onset_time
from theory.finite_size.curves import held_out_cross_entropy

full = os.environ.get("GEOMEM_GALLERY") == "full"
model, alpha = LinearManifold(alpha_D=0.5), 0.2
sets, fresh = (300, 100) if full else (30, 40)
t = np.geomspace(0.05, 8, 300)
kl = np.log(t) / 2 - free_energy(model, alpha, t, delta=0.0)
best = generalization_time(model, alpha)
least = np.log(best) / 2 - free_energy(model, alpha, best, delta=0.0)


def simulated(N, levels):
    """Cross-entropy of the empirical density on fresh points, less log(2 pi)/2 and log(P)/N; mean, error over training sets."""
    found = []
    for seed in range(sets):
        rng = np.random.default_rng(seed)
        F = rng.standard_normal((N, N // 2)) / np.sqrt(N // 2)
        X, x = (rng.standard_normal((n, N // 2)) @ F.T for n in (round(np.exp(alpha * N)), fresh))
        square = (x**2).sum(axis=1)[:, None] + (X**2).sum(axis=1) - 2 * x @ X.T
        found.append([np.log(s) / 2 - np.logaddexp.reduce(-square / (2 * s), axis=1).mean() / N for s in levels])
    return np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(sets)


levels = np.geomspace(0.08, 6, 14)
fig, axis = plt.subplots(figsize=(7, 4), constrained_layout=True)
axis.semilogx(t, kl - least, color="k", label="theory, N → ∞")
fine, minima = np.geomspace(0.12, 8, 24), {}
for N, colour in ((20, "C0"), (40, "C1")):
    P = round(np.exp(alpha * N))
    exact = held_out_cross_entropy(model, P=P, N=N, t=fine, samples=12).value - np.log(P) / N - np.log(2 * np.pi) / 2
    axis.semilogx(fine, exact - exact.min(), f"{colour}:", lw=1.2)
    mean, error = simulated(N, levels)
    minima[N] = levels[np.argmin(mean)], fine[np.argmin(exact)]
    axis.errorbar(levels, mean - exact.min(), error, fmt="o", ms=4, color=colour, label=f"simulation, N = {N}, P = {P}")
for time, name in (
    (best, "$t_g$"),
    (condensation_time(model, alpha), r"$t_\mathrm{cond}$"),
    (collapse_time(model, alpha), "$t_c$"),
    (onset_time(model, alpha), "$t_o$"),
):
    axis.axvline(time, color="0.6", lw=0.8, ls="--")
    axis.text(time, 1.01, name, ha="center", transform=axis.get_xaxis_transform())
axis.set(
    xlabel=r"noise variance $t=\sigma^2$ [data units²]",
    ylabel=r"$KL(P_0\|P_t)/N$ above its least value [nats]",
    ylim=(-0.02, 0.6),
)
axis.set_title(
    rf"$\alpha_D=0.5$, $\alpha=0.2$: $t_g={best:.3f}$; dotted: exact theory at N, P",
    fontsize=10,
    pad=18,
)
axis.legend()
plt.show()
cond, t_c = condensation_time(model, alpha), collapse_time(model, alpha)
print(
    f"t_g = {best:.4f}, t_cond = {cond:.4f}, t_c = {t_c:.4f}: t_g / t_c = {best / t_c:.3f}, t_g / t_cond = {best / cond:.3f}"
)
for N, lowest in minima.items():
    print(
        f"N = {N}: minimum of the simulation at t = {lowest[0]:.2f}, of the exact theory at its N and P at {lowest[1]:.2f}"
    )

# %%
# **What survives**: all of it. :math:`t_g` is 0.275 of :math:`t_c` and 0.399 of :math:`t_\mathrm{cond}`; the minimum lies in
# the condensed phase at both sizes, and moves to :math:`t_g` as N
# grows. On images it lies deeper still: see the nearest-neighbour law, ``geomem validate --full --only generalization_law``.
