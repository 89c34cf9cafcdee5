r"""Well-separated mixtures: :math:`P_0=\sum_k\pi_kP_k`, each class a random energy model of its own.

A noisy point of class k competes with the :math:`P\pi_k` points of its class; those of the others are too far to count. Source:
[BBBM24] for two Gaussian classes; loads by class [ours: docs/derivations/mixtures.md].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numerics.display import Shown
from numerics.domain import DomainError, finite, positive
from theory.models.gaussian import GaussianModel, Isotropic, Spectrum, Subspaces
from theory.models.hidden import HiddenManifold
from theory.models.power_law import PowerLaw

__all__ = ["Mixture"]


@dataclass(frozen=True, eq=False)
class Mixture(Shown):
    r"""Data in K well-separated classes, class k with weight :math:`\pi_k` and a data model of its own about its mean.

    Class k has the load :math:`\alpha_k=\alpha+\log(\pi_k)/N`, so that its times are those of its model at :math:`P\pi_k` points.
    Every time, and free energy, basin, critical load and data-set size, is an array whose *last axis is the class*.

    Parameters
    ----------
    weights : (K,) numbers > 0 with sum 1
        :math:`\pi_k`.
    models : K data models
        Isotropic, LinearManifold, Subspaces, Spectrum, PowerLaw or HiddenManifold: the law of a class about its mean.
    means : (K, N) numbers, optional
        Centres of the classes in data units, in the coordinates in which Subspaces and spectra are diagonal (their
        variances in the order held, those of a spectrum decreasing). For `speciation_time` and `cloning_probability`; the
        memorisation times do not depend on them.
    N : number > 0, optional
        Ambient dimension. Known from `means` or from a Spectrum among the models; otherwise given here or in each call.

    Raises
    ------
    DomainError
        Weights that do not sum to 1 (to 1e-9) or do not match the models, a model that is none of ours, contradicting dimensions.

    Notes
    -----
    The failure that looks normal: classes that overlap at the noise in question. Near and above `speciation_time` the points
    of other classes compete too, and the loads by class are too small. Times well below it are safe.
    Source: [BBBM24]; [ours: docs/derivations/mixtures.md].

    >>> from theory import collapse_time
    >>> two = Mixture([0.9, 0.1], [Isotropic(1.0), Isotropic(0.5)])
    >>> collapse_time(two, P=1000, N=20).round(4)
    array([1.0263, 0.8549])
    """

    weights: Any
    models: Any
    means: Any = None
    N: Any = None

    _law = r"P_0=\sum_k\pi_kP_k"

    def __post_init__(self):
        weights = np.atleast_1d(positive("weights", self.weights, allowed="numbers > 0 with sum 1"))
        if weights.ndim != 1 or abs(weights.sum() - 1) > 1e-9:
            raise DomainError("weights", self.weights, "numbers > 0 with sum 1")
        models = tuple(self.models) if isinstance(self.models, Sequence) else (self.models,)
        if len(models) != weights.size:
            raise DomainError("models", models, f"{weights.size} models, one for each weight")
        for model in models:
            if not isinstance(model, (GaussianModel, HiddenManifold)):
                kinds = "Isotropic, LinearManifold, Subspaces, Spectrum, PowerLaw or HiddenManifold"
                raise DomainError("models", model, kinds)
        means, sizes = self.means, {}
        if means is not None:
            means = np.array(finite("means", means))
            if means.ndim != 2 or len(means) != weights.size or means.shape[1] == 0:
                raise DomainError("means", means.shape, f"an array of shape ({weights.size}, N)")
            means.setflags(write=False)
            sizes["means"] = means.shape[1]
        sizes |= {f"models[{k}]": m.N for k, m in enumerate(models) if isinstance(m, Spectrum) and m.N is not None}
        if self.N is not None:
            sizes["N"] = float(positive("N", self.N)) if np.ndim(self.N) == 0 else self.N
            if np.ndim(self.N):
                raise DomainError("N", self.N, "one number > 0", "An array of N goes into the call")
        if len(set(sizes.values())) > 1:
            raise DomainError("N", sizes, "the same for means, spectra and N")
        for name, value in (
            ("weights", tuple((weights / weights.sum()).tolist())),
            ("models", models),
            ("means", means),
        ):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "N", next(iter(sizes.values()), None))

    def dimension(self, N: Any = None) -> Any:
        """The ambient dimension: that of the call, checked against the mixture's own, or the mixture's own."""
        if N is None:
            if self.N is None:
                raise DomainError("N", None, "a number > 0", "The loads of the classes, alpha + log(pi_k)/N, need it")
            return self.N
        N = positive("N", N)
        if self.N is not None and (self.N != N).any():
            raise DomainError("N", N.tolist(), f"{self.N:g}, the dimension of the mixture", "Leave N out")
        return N

    def class_loads(self, alpha: Any, N: Any = None) -> np.ndarray:
        r"""Loads by class, :math:`\alpha_k=\alpha+\log(\pi_k)/N`, shape (..., K).

        Raises
        ------
        DomainError
            A class of fewer than two points, :math:`P\pi_k<2`, or N unknown.

        >>> Mixture([0.5, 0.5], [Isotropic(1.0)] * 2).class_loads(0.5, N=20).round(4)
        array([0.4653, 0.4653])
        """
        N = np.asarray(self.dimension(N))[..., None]
        loads = positive("alpha", alpha)[..., None] + np.log(self.weights) / N
        # 1e-9: the rounding of log(P)/N times N
        small = loads * N < np.log(2) - 1e-9
        if small.any():
            points = np.exp((loads * N)[small].min())
            raise DomainError("P", f"{points:.3g} points in a class", "so large that every class has two, P pi_k >= 2")
        return loads

    @property
    def within_variance(self) -> float:
        r"""Mean variance about the class means, :math:`\sum_k\pi_k\langle r\rangle_k`."""
        return float(np.dot(self.weights, [model.mean_variance for model in self.models]))

    def covariance(self) -> np.ndarray:
        r"""Between classes plus within, :math:`\sum_k\pi_k[(\mu_k-\bar\mu)(\mu_k-\bar\mu)^\top+\Sigma_k]`, (N, N).

        Manifolds have no preferred axes: their :math:`\Sigma_k` is its average over F, the mean variance times the identity.

        Raises
        ------
        DomainError
            The mixture has no means.
        """
        offsets = self._offsets()
        matrix = (offsets.T * self.weights) @ offsets
        matrix[np.diag_indices_from(matrix)] += sum(w * v for w, v in zip(self.weights, self.variances(), strict=True))
        return matrix

    def largest_eigenvalue(self) -> float:
        r"""Of `covariance`, :math:`\Lambda`; from a K x K matrix where the covariance within is a multiple of the identity."""
        offsets, within = self._offsets(), sum(w * v for w, v in zip(self.weights, self.variances(), strict=True))
        if np.ptp(within) > 1e-12 * within.max():
            return float(np.linalg.eigvalsh(self.covariance())[-1])
        rows = offsets * np.sqrt(self.weights)[:, None]
        return float(np.linalg.eigvalsh(rows @ rows.T)[-1] + within[0])

    def variances(self) -> np.ndarray:
        """Variances of each class along the coordinates of `means`, (K, N)."""
        self._offsets()
        return np.array([_diagonal(model, self.means.shape[1]) for model in self.models])

    def _offsets(self) -> np.ndarray:
        if self.means is None:
            raise DomainError("means", None, "given, (K, N)", "Build Mixture(weights, models, means=...)")
        return self.means - np.asarray(self.weights) @ self.means


def _diagonal(model: Any, N: int) -> np.ndarray:
    """Variances along N coordinates, as a sampler of the model has them."""
    if isinstance(model, PowerLaw) and model.N is None:
        return PowerLaw(model.exponent, N, model.mean).eigenvalues
    if isinstance(model, Spectrum):
        return model.eigenvalues
    if isinstance(model, Subspaces):
        ends = np.rint(np.cumsum(model.fractions) * N).astype(int)
        counts = np.diff(ends, prepend=0, append=N)
        return np.repeat([*model.variances, 0.0], counts)
    if isinstance(model, Isotropic) and not isinstance(model.variance, float):
        raise DomainError("variance", model.variance, "a number")
    return np.full(N, model.mean_variance)
