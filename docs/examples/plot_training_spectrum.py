"""
Three bulks of a random-feature network
=======================================

Training times are inverse eigenvalues of the features' second moments. Of the small eigenvalues, N lie in a bulk of their
own, below the one of the samples: these memorise. The line is the limit, the histogram one draw of the equivalent linear
features.
"""

import matplotlib.pyplot as plt
import numpy as np

from theory import Isotropic, RandomFeatures

features = RandomFeatures(Isotropic(1.0), psi_p=32, psi_n=6, t=np.expm1(0.02), activation="tanh")
psi_p, psi_n, A, b2, v2, s2 = features.parameters

rng, N = np.random.default_rng(0), 80
W, X = rng.standard_normal((int(psi_p * N), N)), rng.standard_normal((N, int(psi_n * N)))
G = np.sqrt(A / N) * (W @ X) + np.sqrt(v2) * rng.standard_normal((W.shape[0], X.shape[1]))
B = np.concatenate([G / np.sqrt(X.shape[1]), np.sqrt(b2 / N) * W], axis=1)
values = np.linalg.eigvalsh(B.T @ B) + s2

fig, axis = plt.subplots(figsize=(7.5, 3.8), constrained_layout=True)
bins = np.geomspace(values.min() / 1.2, values.max() * 1.2, 90)
weights = np.full(values.size, 1 / (W.shape[0] * np.log(bins[1] / bins[0])))
axis.hist(values, bins, weights=weights, color="0.8", label=f"one draw, N = {N}")
for k, (low, high) in enumerate(features.support):
    z = np.geomspace(low, high, 400)
    name = ("memorisation", "samples", "generalisation")[k] if len(features.support) == 3 else f"bulk {k}"
    axis.plot(z, z * features.density(z), lw=1.8, label=f"{name}: {features.masses[k] * psi_p:.2f} N eigenvalues")
for edge in features.edges[0]:
    axis.axvline(edge, color="k", lw=0.7, ls=":")
axis.set(xscale="log", xlabel=r"eigenvalue $\lambda$ of U", ylabel=r"$\lambda\,\rho(\lambda)$ per feature")
axis.set_title("dotted: edges of the published memorisation bulk", loc="left", fontsize=10)
axis.legend(fontsize=8, loc="upper left")
plt.show()
