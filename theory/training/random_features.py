r"""Random-feature score networks: the exactly solvable model of when training learns and when it memorises.

The score :math:`A\,s(Wx/\sqrt N)/\sqrt p` at one noise level, W frozen and Gaussian, A trained from zero by gradient flow
on n samples with the noise averaged out. Training times are inverse eigenvalues of the features' second moments U: a mode
of eigenvalue :math:`\lambda` is fitted at rate :math:`2\Delta\lambda/\psi_p`. Sources: [BUBM25], [GVM25], [U26];
docs/derivations/training_time.md says where we differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from numerics.display import Shown
from numerics.domain import DomainError, finite, nonnegative, positive, times
from theory.models import GaussianModel, HiddenManifold, LinearManifold, covariance_law
from theory.rem import covariance_nodes
from theory.training.end_of_training import end_losses
from theory.training.gram_spectrum import GramSpectrum
from theory.training.learning_curves import ContourLosses, LearningCurve
from theory.training.limits import bulk_edges, learning_eigenvalue, memorization_eigenvalue
from theory.training.moments import FeatureMoments, feature_moments
from theory.training.noise_draws import final_losses
from theory.training.resolvent import Resolvent

__all__ = ["RandomFeatures"]

_NODES = 60  # quadrature nodes of a bulk of the data's covariance
_MOST_NODES = 3840  # of them, for its bulks to be bulks
_RIDGE = 1e-9  # of the largest eigenvalue's scale, in place of none
_RISE = 1e-9  # of the least test loss that is more than rounding


@dataclass(frozen=True, eq=False)
class RandomFeatures(Shown):
    r"""A random-feature score network at one noise level, in the limit of large N at fixed p/N and n/N.

    Parameters
    ----------
    model : Isotropic, LinearManifold, Subspaces, Spectrum or HiddenManifold
        The data, about their mean. Of a curved manifold random features see the covariance (Gaussian equivalence): losses are
        exact, and `distance` is that to the best linear score.
    psi_p, psi_n : numbers > 0
        Features and training samples over the dimension, p/N and n/N.
    t : number > 0
        VE time. Features see :math:`x/\sqrt{1+t}`; :math:`\Delta=t/(1+t)`, :math:`e^{-2t_{OU}}=1/(1+t)`.
    activation : name, sympy expression or callable

    Attributes
    ----------
    edges : (B, 2) float64 array
        The memorisation bulk of [BUBM25] at leading order, :math:`s^2+v^2(1\mp\sqrt{\psi_p/\psi_n})^2`, then the exact
        edges of the generalisation bulk (one or more intervals), in increasing order. Where the two have merged, and where
        psi_p <= 1 or psi_n <= 1: `support`.
    support : (B, 2) float64 array
        Exact edges of every bulk. There is one more than in `edges`: see Notes.
    masses : (B,) float64 array
        Fractions of the p eigenvalues, bulk by bulk of `support`. With the atom they add up to 1.
    atom : (position, mass)
        Directions of feature space that no sample and no weight reaches.
    generalization_time : float
        :math:`\tau_{gen}=1/\Delta`, in units of training time: a scale, see `direction_times`.
    memorization_time : float
        :math:`\tau_{mem}=\psi_p/(\Delta\lambda_{min})` with the lower edge of the memorisation bulk [BUBM25]; where psi_p <= 1
        or psi_n <= 1, which have no such bulk, with that of `support`. Infinite where it is 0 (a linear activation).
    window : (generalization_time, memorization_time)
        Opens where psi_n >> 1 and psi_p >> 1; with fewer features than dimensions it may be empty.

    Raises
    ------
    DomainError
        An argument outside its domain, a model with symbolic parameters, or an activation without a linear part (a = 0):
        its features carry nothing of the score at these sizes.

    Notes
    -----
    The failure that looks normal: [BUBM25] counts n small eigenvalues in one bulk. There are two bulks: n - N eigenvalues
    in the one, and below it N that carry the memorisation, near
    :math:`s^2+\frac{\psi_p}{\psi_n}v^2\frac\Delta{e^{-2t}r+\Delta}` for a direction of variance r. `memorization_time`
    underestimates by a factor of up to :math:`1/\Delta` when the noise is small; `direction_times` and `learning_curve` are
    right. Sources: [BUBM25], [U26], [ours: docs/derivations/training_time.md].

    >>> import numpy as np
    >>> from theory import Isotropic
    >>> rf = RandomFeatures(Isotropic(1.0), psi_p=64, psi_n=8, t=np.expm1(0.02), activation="tanh")
    >>> rf.edges.round(4).tolist()
    [[0.0873, 0.3762], [9.8359, 44.693]]
    >>> (rf.masses * 64).round(6).tolist()
    [1.0, 7.0, 1.0]
    """

    model: GaussianModel | HiddenManifold
    psi_p: float
    psi_n: float
    t: float
    activation: Any = "tanh"

    def __post_init__(self):
        for name in ("psi_p", "psi_n", "t"):
            object.__setattr__(self, name, _number(name, positive(name, getattr(self, name))))
        _ = self._spectrum  # refuses other models, and symbolic parameters
        if abs(self.moments.a) < 1e-12:
            raise DomainError(
                "activation", self.activation, "one with a linear part, E s'(h) != 0", "even functions have none"
            )

    @cached_property
    def moments(self) -> FeatureMoments:
        """a, b, v^2, s^2 of the activation at this noise."""
        return feature_moments(self.activation, self.t, float(np.dot(*self._spectrum)))

    def _nodes(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        weights, values = covariance_nodes(self.model, count)
        values, label = np.unique(values, return_inverse=True)
        return np.bincount(label, weights=weights), values

    @cached_property
    def _spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        return self._nodes(_NODES)

    @cached_property
    def parameters(self) -> tuple[float, ...]:
        """(psi_p, psi_n, A, b^2, v^2, s^2) of `theory.training.action`."""
        m = self.moments
        return self.psi_p, self.psi_n, m.a**2 * m.decay, m.b**2, m.v2, m.s2

    @cached_property
    def _resolvent(self) -> Resolvent:
        return Resolvent(self.parameters, *self._spectrum)

    def _gram_of(self, resolvent: Resolvent) -> GramSpectrum:
        above = (*self.parameters[:5], 0.0)  # s^2 only shifts
        values = resolvent.values
        lines = np.concatenate([memorization_eigenvalue(values, above), learning_eigenvalue(values, above)])
        return GramSpectrum(resolvent, np.unique(lines[lines > 0]))

    @cached_property
    def _coarse(self) -> GramSpectrum:
        """With the nodes of the losses: integrals converge long before the lines of the nodes have merged into bulks."""
        return self._gram_of(self._resolvent)

    @cached_property
    def _gram(self) -> GramSpectrum:
        """With so many nodes that a bulk of the data's covariance is none of the lines it was made of."""
        most, found, count = self._most_bulks, self._coarse, _NODES
        while most and len(found.support) > most and count < _MOST_NODES:
            count *= 4
            found = self._gram_of(Resolvent(self.parameters, *self._nodes(count)))
        return found

    @property
    def _most_bulks(self) -> int:
        """Bulks that U can have: two for each part of the data's covariance, and that of the samples; 0 where all are points."""
        model = self.model
        if isinstance(model, HiddenManifold):
            model = LinearManifold(model.alpha_D, model.variances, model.fractions)
        law = covariance_law(model)
        return 2 * (len(law.bulks) + len(law.atom_masses)) + 1 if len(law.bulks) else 0

    def density(self, values: Any) -> Any:
        """Density of the eigenvalues of U per feature, the atom left out.

        Parameters
        ----------
        values : number or array

        Returns
        -------
        float or array; 0 outside `support`. Integrates to 1 less the mass of the atom.
        """
        values = finite("values", values)
        rho = self._gram.density(values.ravel()).reshape(values.shape)
        return float(rho) if rho.ndim == 0 else rho

    @property
    def support(self) -> np.ndarray:
        return self._gram.support

    @property
    def masses(self) -> np.ndarray:
        return self._gram.masses

    @property
    def atom(self) -> tuple[float, float]:
        return self._gram.atom

    @property
    def _has_bulk(self) -> bool:
        """Whether there is a bulk of samples' eigenvalues beside those of the N directions."""
        return self.psi_p > 1 and self.psi_n > 1

    @cached_property
    def edges(self) -> np.ndarray:
        low, high = bulk_edges(self.parameters)
        above = self.support[self.support[:, 0] > high]
        if not self._has_bulk or not len(above) or not high > low:
            return self.support
        return np.concatenate([[(low, high)], above])

    @property
    def generalization_time(self) -> float:
        return 1 / self.moments.Delta

    @property
    def memorization_time(self) -> float:
        lowest = bulk_edges(self.parameters)[0] if self._has_bulk else float(self.support[0, 0])
        return self.psi_p / (self.moments.Delta * lowest) if lowest > 0 else np.inf

    @property
    def window(self) -> tuple[float, float]:
        return self.generalization_time, self.memorization_time

    def direction_times(self, variance: Any) -> tuple[Any, Any]:
        r"""When directions of a given variance are learned, and when they are memorised, at leading order in psi_p >> psi_n >> 1.

        .. math:: \tau_{gen}(r)=\frac1{2\Delta a^2(e^{-2t}r+\Delta)},\qquad
           \tau_{mem}(r)=\frac{\psi_p}{2\Delta\lambda_{mem}(r)},\quad
           \lambda_{mem}=s^2+\frac{\psi_p}{\psi_n}v^2\frac\Delta{e^{-2t}r+\Delta}.

        The first falls, the second grows with r: high variance is learned first, low variance memorised first. Both are times at
        which the error has fallen to 1/e. Domain: :math:`\psi_n\gg v^2/[a^2(e^{-2t}r+\Delta)]` and :math:`\psi_p\gg\psi_n`.
        Rates only: what is left to memorise is :math:`e^{-2t}r/(e^{-2t}r+\Delta)` of training loss, nothing at r = 0.

        Parameters
        ----------
        variance : number or array >= 0, squared data units

        Returns
        -------
        (learning, memorization) : floats or arrays

        Source: [U26] for kernels, [ours: docs/derivations/training_time.md] for random features.
        """
        r = nonnegative("variance", variance)
        rate = 2 * self.moments.Delta / self.psi_p
        with np.errstate(divide="ignore"):  # a linear activation memorises nothing
            found = tuple(
                1 / (rate * eigenvalue(r, self.parameters))
                for eigenvalue in (learning_eigenvalue, memorization_eigenvalue)
            )
        return tuple(float(x) for x in found) if r.ndim == 0 else found

    @cached_property
    def _losses(self) -> ContourLosses:
        if not self._coarse.support[0, 0] > 0:
            raise DomainError(
                "psi_p", self.psi_p, "other than 1 for a linear activation, whose eigenvalues then reach 0"
            )
        return ContourLosses(
            self._resolvent,
            float(self._coarse.support[0, 0]),
            float(self._coarse.support[-1, 1]),
            self.moments.Delta,
            self.moments.decay,
        )

    def learning_curve(self, tau: Any, variance: float | None = None) -> LearningCurve:
        r"""Training loss, test loss and distance to the exact score against training time, exact in the limit.

        Parameters
        ----------
        tau : number or array >= 0; infinity is allowed
            Training time, :math:`\dot A=-N^2\nabla L`.
        variance : number >= 0, optional
            Look at the score's components along directions of this variance only (default: all).

        Returns
        -------
        LearningCurve, arrays of the shape of tau

        Raises
        ------
        DomainError
            tau < 0 or NaN, or a linear activation at psi_p = 1, whose slowest rates reach 0.

        Notes
        -----
        The failure that looks normal: with the noise averaged out there is no interpolation peak at p = n; test loss rises
        there to a plateau ([U26] finds the peak at p = n times the noise draws per sample).
        Source: [ours: docs/derivations/training_time.md].
        """
        tau = times("tau", tau)
        r = None if variance is None else _number("variance", nonnegative("variance", variance))
        return self._losses.curve(tau, r)

    def final_losses(self, draws: float = np.inf, ridge: float = 0.0) -> tuple[float, float]:
        """Training and test loss per dimension at the end of training, with finitely many draws of the noise a sample.

        Test loss has its interpolation peak at p = n times `draws`, where training loss reaches 0; with the noise averaged out
        there is no peak.

        Parameters
        ----------
        draws : number >= 1; infinity: the noise averaged out
        ridge : number >= 0
            Added to U; 0 is done at 1e-9 of U's scale for finite `draws`.

        Returns
        -------
        (train, test) : floats

        Raises
        ------
        DomainError
            draws < 1 or ridge < 0, or a ridge with infinite `draws` (take a large number of them).

        Source: peak [U26]; equations [ours: docs/derivations/training_time.md].

        >>> from theory import Isotropic
        >>> [round(RandomFeatures(Isotropic(1.0), psi_p=p, psi_n=3, t=0.2).final_losses(2, 1e-5)[1], 1) for p in (2, 6, 30)]
        [1.4, 25.5, 1.5]
        """
        draws = _number("draws", times("draws", draws, allowed="a number >= 1, infinity for averaged noise"))
        if not draws >= 1:
            raise DomainError("draws", draws, "a number >= 1, infinity for averaged noise")
        ridge = _number("ridge", nonnegative("ridge", ridge))
        if np.isinf(draws):
            if ridge > 0:
                raise DomainError(
                    "ridge", ridge, "0 where the noise is averaged out", "draws = 1e6 is close to infinity"
                )
            found = end_losses(self._resolvent)
            if found is None:
                curve = self.learning_curve(np.inf)
                found = float(curve.train), float(curve.test)
            return found
        least = _RIDGE * float(np.sum(self.parameters[2:]))
        return final_losses(self.parameters, float(draws), *self._spectrum, max(ridge, least))

    @cached_property
    def stopping_time(self) -> float:
        """Training time at which the test loss is least; infinite where it never rises again (by more than a part in 10^9)."""
        rate, losses = 2 * self.moments.Delta / self.psi_p, self._losses
        slow, fast = 1 / (rate * losses.lowest), 1 / (rate * losses.highest)
        grid = np.geomspace(0.1 * fast, 30 * slow, 200)
        test = self.learning_curve(grid).test
        i = int(np.argmin(test))
        if i == grid.size - 1 or self.final_losses()[1] <= test[i] * (1 + _RISE):
            return np.inf
        found = minimize_scalar(
            lambda u: float(self.learning_curve(np.exp(u)).test),
            bounds=(np.log(grid[max(i - 1, 0)]), np.log(grid[i + 1])),
            method="bounded",
        )
        return float(np.exp(found.x))


def _number(name: str, value: np.ndarray) -> float:
    """The one number in `value`."""
    if value.ndim:
        raise DomainError(name, value, "one number")
    return float(value)
