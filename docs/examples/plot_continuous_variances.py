r"""
Continuous variances, and the phases on images
==============================================

**The figure** [VASLA25]: when the latent variances of a manifold are continuous, no gap separates its directions; what is left is
the total gap to the normal ones. The backward process passes three phases: trivial (no direction differs from noise), coverage
(tangent directions have different signals: the data's own law is fitted), consolidation (all tangent directions at full signal).

**Our curves**: left, the spectrum of the exact score for two latent variances and for variances spread evenly in their logarithm
between the same two, from the generalised Marchenko-Pastur law, and one random manifold each (N = 400). Right, handwritten
digits: the share of the 64 directions whose signal :math:`1+t\lambda` is visible (above 0.1) and complete (above 0.9), for the
Gaussian with the covariance of the digits and for their empirical score at noised digits.
"""

import math
import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits

from theory import LinearManifold, Spectrum, collapse_time
from theory.jacobian.phases import phase_times
from theory.jacobian.spectral_gaps import spectral_gaps
from theory.models import covariance_cdf
from validation import EmpiricalScore
from validation.spectra import jacobian_spectrum

full = os.environ.get("GEOMEM_GALLERY") == "full"
N, alpha_D, least, visible = 400, 0.4, 0.01, 0.1
places, steps = (200, 57) if full else (12, 29)
rng = np.random.default_rng(0)
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), constrained_layout=True)

# %%
# Two variances, or all between them
# ----------------------------------

count = 24
spread = np.geomspace(least, 1.0, count)
laws = {
    "two variances": (np.array([1.0, least]), np.array([0.5, 0.5])),
    "continuous": (spread, np.full(count, 1 / count)),
}
D = round(alpha_D * N)
t = 0.03
for (name, (variances, fractions)), colour in zip(laws.items(), ("C0", "C3"), strict=True):
    model = LinearManifold(alpha_D, variances=variances.tolist(), fractions=fractions.tolist())
    r = np.geomspace(1e-5, 20, 6000)
    population = np.interp((np.arange(N) + 0.5) / N, covariance_cdf(model, r), r, left=0.0)
    left.plot(np.arange(1, N + 1), np.sort(t / (t + population)), colour, label=f"{name}: theory")
    latent = np.quantile(variances, (np.arange(D) + 0.5) / D, method="inverted_cdf")
    F = rng.standard_normal((N, D)) / np.sqrt(D)
    sampled = np.linalg.eigvalsh(F * latent @ F.T).clip(0)
    left.plot(np.arange(1, N + 1, 8), np.sort(t / (t + sampled))[::8], f"{colour}o", ms=3, label="one manifold")
    gaps = spectral_gaps(model, t)
    print(name, "gaps at", (gaps.dimension * N).round(), "of size", gaps.size.round(3))
left.set(xlabel=f"direction, sorted, of N = {N}", ylabel=r"eigenvalue of $-tJ$")
left.set_title(f"exact score of a linear manifold, D/N = {alpha_D}, t = {t}", loc="left", fontsize=10)
left.legend(fontsize=8)

# %%
# Digits
# ------

X = torch.from_numpy(load_digits().data / 8 - 1)
X = X - X.mean(dim=0)
P = len(X)
values = torch.linalg.eigvalsh(X.T @ X / P).clamp(min=0).numpy()
tangent = values[values > 1e-9]  # a few pixels at the border are always black
model = Spectrum(values.tolist())
levels = np.geomspace(1e-5, 100, steps)
signal = tangent / (tangent + levels[:, None])
asked = X[torch.from_numpy(rng.integers(P, size=places))]
omega = torch.from_numpy(rng.standard_normal(asked.shape))
E = EmpiricalScore(X, dtype="float64")
measured = np.stack([1 - jacobian_spectrum(E, asked + math.sqrt(level) * omega, level)[0] for level in levels])
for bound, style, name in ((visible, "-", "visible"), (1 - visible, "--", "complete")):
    right.semilogx(levels, (signal > bound).sum(axis=1) / 64, "k" + style, label=f"Gaussian, {name}")
    right.semilogx(
        levels, (measured > bound).sum(axis=2).mean(axis=1) / 64, "C3" + style, label=f"empirical score, {name}"
    )
times = phase_times(model, visible)
t_c = float(collapse_time(model, math.log(P) / 64))
for place, name in ((times.coverage, "coverage"), (t_c, "collapse")):
    right.axvline(place, color="0.5", lw=0.8)
    right.text(place, 1.02, name, ha="center", fontsize=8)
right.set(xlabel=r"noise variance $t=\sigma^2$ [data units²]", ylabel="share of directions", ylim=(0, 1.0))
right.set_title(f"{P} digits of 8 x 8", loc="left", fontsize=10, pad=14)
right.legend(fontsize=8)
complete = tangent.min() * visible / (1 - visible)
print(
    f"digits: coverage below t = {times.coverage:.3g}, collapse at {t_c:.3g}, all {len(tangent)} complete below {complete:.2g}"
)
share = (measured > visible).sum(axis=2).mean(axis=1) / 64
apart = levels[abs(share - (signal > visible).sum(axis=1) / 64) > 0.05].max()
print(f"empirical score of {P} digits: at most {share.max():.0%} of the directions visible, at t = ", end="")
print(f"{levels[np.argmax(share)]:.2g}; off the Gaussian by more than 0.05 first at t = {apart:.2g};", end=" ")
print(f"less than one direction in 200 below t = {levels[share > 0.005].min():.2g}")
plt.show()

# %%
# **What survives.** Left: with two variances an intermediate gap of 0.36 at direction 80 and the total gap at 160; with all
# variances between them only the total gap is left, and the directions come one after another. Right: images are of that kind.
# Coverage of the Gaussian begins at t = 25 and its directions are completed one by one; the last of them below t = 1e-6, so that
# consolidation is never met at any noise in use. The empirical score of 1797 digits stays within 0.05 of that share down to
# t = 3.2, shows 13 % of its directions at most (t = 1.8), and has lost them (less than one in 200) at t = 0.18, soon below
# the collapse time of the Gaussian theory, t = 0.79: it collapses in the middle of coverage. Networks stay
# with the Gaussian for longer (:doc:`../results/trained_images`). For data of one's own: ``geomem spectrum DATA``.
