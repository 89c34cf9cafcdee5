r"""
Losing dimensions against the number of points
==============================================

**The figure** [AVSP24]: the spectra of the score at the centre of the data for P = 250, 500, ... 20 000 points and for larger
manifolds, d = 5 + 10. The claim: fewer points lose more dimensions, and those of high variance first.

**Our curves**: how much of each tangent subspace the empirical score keeps (the part of it that lies in right singular vectors
with a singular value below half of the largest), at the centre (their frame of displacements) and at noised training points
(the symmetrised frame: away from a maximum of the density the plain one sees the slope), beside the exact score of the same law.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
import torch

from theory.subspaces import normalised_posterior
from validation import EmpiricalScore
from validation.spectra import frame_columns

full = os.environ.get("GEOMEM_GALLERY") == "full"
N, probes = 30, (16 if full else 4)
t = np.geomspace(1e-3, 1, 33 if full else 9)
some = slice(
    None, None, 1 if full else 3
)  # levels at which the exact score, which costs most, is asked at noised points
quadrature = {} if full else {"radii": 24, "nodes": 64}  # its posterior mean then has errors up to 4e-6
sizes = (250, 500, 1000, 20_000)
manifolds = {"2 + 5": (2, 5), "5 + 10": (5, 10)}


def law(high, low):
    return np.array([1.0] * high + [0.09] * low + [1e-4] * (N - high - low))


def points(variances, P, seed=0):
    """P points with these variances, each divided by its norm."""
    X = np.random.default_rng(seed).standard_normal((P, N)) * np.sqrt(variances)
    return torch.from_numpy(X / np.linalg.norm(X, axis=1, keepdims=True))


def kept(score, levels, x, dims, symmetric):
    """Share of the subspaces of high and of low variance that is kept at every noise level, mean over x (T, B, N)."""
    shares = []
    for level, at in zip(levels, x, strict=True):
        _, singular, right = torch.linalg.svd(frame_columns(score, at, level, symmetric=symmetric))
        below = (singular < singular[:, :1] / 2).double()[:, :, None]
        parts = (right.square() * below).sum(dim=1).mean(dim=0).split([*dims, N - sum(dims)])  # of every coordinate
        shares.append([float(part.mean()) for part in parts[:2]])
    return np.array(shares)


centre = torch.zeros(len(t), 1, N, dtype=torch.float64)
omega = torch.from_numpy(np.random.default_rng(1).standard_normal((probes, N)))
fig, axes = plt.subplots(2, 4, figsize=(12, 5.6), sharex=True, constrained_layout=True)
for row, (name, dims) in zip(axes, manifolds.items(), strict=True):
    variances = law(*dims)

    def exact(x, level, variances=variances):
        """The score of the law that the points are drawn from."""
        mean, _ = normalised_posterior(variances, x.numpy(), float(level), norm=1.0, **quadrature)
        return (torch.from_numpy(mean) - x) / level

    found, control = {}, {}
    for column, place in ((0, "centre"), (2, "noised training points")):
        symmetric = place != "centre"
        for P, colour in zip(sizes, ("C0", "C1", "C2", "C3"), strict=True):
            X = points(variances, P)
            x = torch.stack([X[:probes] + np.sqrt(level) * omega for level in t]) if symmetric else centre
            found[P, place] = kept(EmpiricalScore(X), t, x, dims, symmetric)
            for k in (0, 1):
                row[column + k].semilogx(t, found[P, place][:, k], color=colour, label=f"P = {P}")
        levels = t[some] if symmetric else t
        fresh = points(variances, probes, 9)
        x = torch.stack([fresh + np.sqrt(level) * omega for level in levels]) if symmetric else centre
        control[place] = kept(exact, levels, x, dims, symmetric)
        for k, part in enumerate(("high", "low")):
            row[column + k].semilogx(levels, control[place][:, k], "ks--", ms=3, label="exact score")
            row[column + k].set(ylim=(-0.05, 1.05))
            row[column + k].set_title(f"d = {name}, {part} variance,\n{place}", loc="left", fontsize=9)
    row[0].set_ylabel("share of the subspace kept")
    at = int(np.argmin(abs(t - 0.013)))
    own, truth = found[20_000, place][at], control[place][int(np.argmin(abs(levels - t[at])))]
    print(f"d = {name}, noised training points, t = {t[at]:.3f}: share of high and low variance kept")
    print("  " + "; ".join(f"P = {P}: {found[P, place][at].round(2)}" for P in sizes), end="; ")
    print(f"exact {truth.round(2)}; P = 20000 over exact {(own / truth).round(2)}")
    print(f"  low variance below t = 0.01, at most: {max(found[P, place][t < 0.01, 1].max() for P in sizes):.2f}")
    print(
        f"d = {name}, centre, below t = 0.1, at most: exact {control['centre'][t < 0.1].max(axis=0).round(2)};",
        end=" ",
    )
    print("; ".join(f"P = {P}: {found[P, 'centre'][t < 0.1].max(axis=0).round(2)}" for P in sizes))
for axis in axes[1]:
    axis.set_xlabel(r"noise variance $t=\sigma^2$ [norm²]")
axes[0, 0].legend(fontsize=7)
plt.show()

# %%
# **What survives**: at noised training points, where the score is used, both subspaces fall below the exact score (dashed; at
# three levels in the small setting) from large noise to small, and fewer points lose more. At t = 0.013 and d = 2 + 5, 20 000
# points keep 0.39 of the high variance and 0.64 of the low, 0.58 and 0.68 of what the exact score keeps. At the centre, the
# authors' probe, the order is reversed: the exact score of data of norm 1 keeps nothing of the high variance below t = 0.1,
# nor do 20 000 points, and it is the *fewest* that keep something (250 points up to 0.31), because their score is not yet
# that of a ring. Of the larger manifold, 5 + 10, four probe points are too few to order the sizes above t = 0.013, and below
# t = 0.01 none keeps the low variance. Many points and errors: ``geomem validate --full --only losing_dimensions``.
