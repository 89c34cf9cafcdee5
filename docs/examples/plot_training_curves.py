"""
Low variance is memorised first
===============================

Gap between test and training loss along directions of two variances, in the limit (lines) and by exact gradient flow of
networks of N = 48 (points, means of six draws, with the noise averaged exactly).
"""

import matplotlib.pyplot as plt
import numpy as np

from theory import RandomFeatures, Subspaces
from validation.experiments.training_time import draw, flow

model, t, N = Subspaces([0.5, 0.5], [1.6, 0.4]), 0.2, 48
features = RandomFeatures(model, psi_p=8, psi_n=4, t=t, activation="erf")
tau = np.geomspace(0.1, 2e4, 40)
r = np.repeat([1.6, 0.4], N // 2)
groups = {f"{value:g}": np.flatnonzero(r == value) for value in (1.6, 0.4)}
runs = [flow(draw(r, 8 * N, 4 * N, t, "erf", np.random.default_rng(i)), tau, groups) for i in range(6)]

fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), constrained_layout=True)
for colour, variance in zip(("C5", "C4"), (1.6, 0.4), strict=True):
    curve = features.learning_curve(tau, variance)
    test, train = (np.mean([run[f"{kind} {variance:g}"] for run in runs], axis=0) for kind in ("test", "train"))
    distance = np.mean([run[f"distance {variance:g}"] for run in runs], axis=0)
    left.loglog(tau, curve.distance, color=colour, label=f"r = {variance:g}")
    left.loglog(tau, distance, "o", ms=3, color=colour)
    final = float(features.learning_curve(np.inf, variance).gap)
    right.semilogx(tau, curve.gap / final, color=colour, label=f"r = {variance:g}")
    right.semilogx(tau, (test - train) / final, "o", ms=3, color=colour)
left.set(xlabel=r"training time $\tau$", ylabel="distance to the exact score", title="high variance is learned first")
right.set(xlabel=r"training time $\tau$", ylabel="gap over its final value", title="low variance is memorised first")
left.legend()
plt.show()
