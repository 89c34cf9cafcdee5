r"""Fluctuations of :math:`\log M_x` on a nonlinear hidden manifold: cumulants of order N, and the O(1) of its mean.

:math:`\log E\,M_x(\beta)^ne^{n\beta E_{true}}=N\phi(n)+c(n)+O(1/N)` for real n: the replica action with n replicas instead of
none. Its derivatives at n = 0 are the cumulants of :math:`\Delta=\log P+\log M_x+\beta E_{true}`, c'(0) the one-loop shift of its
mean. Variances at two temperatures follow from the action at order :math:`n_1n_2`, in closed form.
Source: [ours: docs/derivations/replica_drift.md].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from numerics.channel import Averages, ReplicatedChannel
from numerics.domain import DomainError
from numerics.solvers import FixedPoint, Status
from theory.models import HiddenManifold
from theory.replica.engine import ReplicaEngine
from theory.replica.loop import one_loop, rs_inverse, rs_log_det

__all__ = ["Fluctuations"]

_REPLICAS = 0.1  # and twice as many, of both signs: for the derivatives at n = 0
_BETA_STEP = 2e-3  # in log beta
_FIRST = np.array([1, -8, 8, -1]) / (12 * _REPLICAS)
_ONE = np.array([1.0, 0.0, 1.0, 0.0])
_TOLERANCE = 1e-10
_AGREE = 1e-6  # the two quadratures of g
_RESOLVED = "a noise that the product grid resolves (about t > 1e-3)"


@dataclass(frozen=True)
class _Saddle:
    """Overlaps, conjugates and channel without replicas (n = 0)."""

    beta: float
    overlaps: tuple[float, float, float, float]  # Q00, m, Q, q
    conjugates: tuple[float, float, float]  # c_hat, m_hat, q_hat
    u: np.ndarray  # s_k/(1 + c_hat s_k)
    g: float
    g_beta: float
    averages: Averages


class Fluctuations:
    r"""Of one model, at any temperature and distance.

    Parameters
    ----------
    model : HiddenManifold with one alpha_D

    Raises
    ------
    DomainError
        If alpha_D is an array, or where the rule on the product grid does not resolve the channel (t below about 1e-3).
    """

    def __init__(self, model: HiddenManifold):
        if not isinstance(model, HiddenManifold) or np.ndim(model.alpha_D):
            raise DomainError("model", model, "a HiddenManifold with one alpha_D")
        self.model, self.alpha_D = model, float(model.alpha_D)
        self.engine = ReplicaEngine(model)
        self.f, self.s = np.array(model.fractions), np.array(model.variances)
        self.channel = ReplicatedChannel(model.s.function, model.s.breakpoints)

    # --- without replicas ---------------------------------------------------------------------------------------------

    def saddle(self, beta: float, delta: float) -> _Saddle:
        """The dominant saddle at n = 0, on the product grid."""
        found = self.engine.free_entropy(beta, delta)
        if not found.ok:
            raise DomainError("t", 1 / beta, "a noise at which the replica saddle is found")
        overlaps = (self.engine.rho, *(float(getattr(found, name)) for name in ("m", "Q", "q")))
        conjugates = tuple(float(getattr(found, name)) for name in ("c_hat", "m_hat", "q_hat"))
        try:
            averages = self.channel(*overlaps, beta, delta)
        except DomainError as error:
            raise DomainError("t", 1 / beta, _RESOLVED, str(error)) from error
        energetic = float((averages.weight() * averages.log_i).sum())
        entropic = float(self.engine.entropic(*(np.array(c) for c in conjugates), self.model.fractions, self.s))
        if not abs(energetic + self.alpha_D * entropic - float(found.g)) < _AGREE:
            raise DomainError("t", 1 / beta, _RESOLVED)
        u = self.s / (1 + conjugates[0] * self.s)
        return _Saddle(beta, overlaps, conjugates, u, float(found.g), float(found.g_beta), averages)

    def _norm_response(self, at: _Saddle) -> np.ndarray:
        r"""Derivatives of the action per replica by the norms :math:`|z^*_k|^2/D_k` of the point's own latents, over
        :math:`f_k`: they fluctuate by :math:`2s_k^2/f_kD`."""
        rho = at.overlaps[1] / at.overlaps[0]
        a, (r1, r2) = at.averages, at.averages.ratios[1:3]
        teacher = (
            a.weight(hermite=2) * a.log_i - 2 * rho * a.weight(hermite=1) * r1 + rho**2 * a.weight() * (r2 - r1**2)
        )
        return self.alpha_D * at.conjugates[1] ** 2 * at.u / 2 + float(teacher.sum()) / 2

    def variance(self, at: _Saddle, true: float = 1.0) -> float:
        r"""Variance of :math:`\log M_x+\beta E_{true}` over N (of :math:`\log M_x` alone with ``true=0``)."""
        a, b = at.averages, true * at.beta / 2
        w = [a.weight(noise=k) for k in (0, 2, 4)]
        mean = float((w[0] * a.log_i + b * w[1]).sum())
        square = float((w[0] * a.log_i**2 + 2 * b * w[1] * a.log_i + b**2 * w[2]).sum())
        return square - mean**2 + self._beyond_channel(at)

    def _beyond_channel(self, at: _Saddle) -> float:
        response = self._norm_response(at)
        overlap = -(at.conjugates[2] ** 2) * self.alpha_D / 2 * float(self.f @ at.u**2)
        return overlap + 2 / self.alpha_D * float(self.f @ (self.s * response) ** 2)

    def slope_variance(self, at: _Saddle, rate: dict[str, np.ndarray], true: float = 1.0) -> float:
        r"""Variance of :math:`\partial_\beta` of the same, over N: the mixed derivative of the covariance at two temperatures.

        `rate` holds the saddle's derivatives by beta. The mean field is a Gaussian process in beta, whose derivative given
        (h0, mu) has a mean linear in both and a variance; kappa, its covariance with itself, follows from the overlap's equation.
        """
        Q00, m, _, q = at.overlaps
        _, m_hat, q_hat = at.conjugates
        a, (r1, r2, r3) = at.averages, at.averages.ratios[1:4]
        f1, f2, f3 = r1, r2 - r1**2, r3 - 3 * r1 * r2 + 2 * r1**3
        dV, dq, dm, dq_hat, dm_hat, du = (rate[k] for k in ("V", "q", "m", "q_hat", "m_hat", "u"))
        A, B = np.linalg.solve([[q, m], [m, Q00]], [dq / 2, dm])
        L0, L1 = a.log_i_beta + f1 * A * a.mu + (f2 + f1**2) / 2 * dV, f1 * B  # constant and linear in h0
        F0, F1 = a.ratio_beta + f2 * A * a.mu + (f3 / 2 + f1 * f2) * dV, f2 * B

        def square(constant, linear, extra=0.0):
            total = constant**2 * a.weight() + 2 * constant * linear * a.weight(field=1) + linear**2 * a.weight(field=2)
            if extra:
                total = total + 2 * extra * (constant * a.weight(noise=2) + linear * a.weight(noise=2, field=1))
                total = total + extra**2 * a.weight(noise=4)
            return float(total.sum())

        # q_12 = sum_k f_k u_1 u_2 (m_hat_1 m_hat_2 s + E[f_1 f_2]/alpha_D), derived by both temperatures
        u, s, f = at.u, self.s, self.f
        known = du**2 * (m_hat**2 * s + q_hat) + 2 * u * du * (m_hat * dm_hat * s + dq_hat / 2) + u**2 * dm_hat**2 * s
        U = float(f @ u**2)
        mean_f2, mean_f1 = (float((a.weight() * x**2).sum()) for x in (f2, f1))
        explained = A * dq / 2 + B * dm
        slopes = square(F0, F1)
        kappa = (f @ known + U / self.alpha_D * (slopes - explained * mean_f2)) / (1 - U / self.alpha_D * mean_f2)
        q_hat_mixed = (slopes + (kappa - explained) * mean_f2) / self.alpha_D

        mean = float((a.weight() * L0 + a.weight(field=1) * L1 + true / 2 * a.weight(noise=2)).sum())
        channel = square(L0, L1, true / 2) - mean**2 + (kappa - explained) * mean_f1
        overlap = (dq_hat**2 / 2 + 2 * q_hat * q_hat_mixed) * U + 2 * q_hat * dq_hat * float(f @ (u * du))
        overlap += q_hat**2 * float(f @ du**2)
        return channel - self.alpha_D / 2 * overlap + 2 / self.alpha_D * float(f @ (s * rate["response"]) ** 2)

    def rates(self, beta: float, delta: float) -> tuple[_Saddle, dict[str, np.ndarray]]:
        """The saddle, and derivatives by beta at fixed delta of what it consists of and of the variances."""
        below, at, above = (self.saddle(beta * np.exp(k * _BETA_STEP), delta) for k in (-1, 0, 1))

        def parts(x: _Saddle) -> dict[str, np.ndarray]:
            _, m, Q, q = x.overlaps
            c_hat, m_hat, q_hat = x.conjugates
            out = {"m": m, "q": q, "V": Q - q, "c_hat": c_hat, "m_hat": m_hat, "q_hat": q_hat, "u": x.u}
            out |= {"response": self._norm_response(x), "g_beta": x.g_beta}
            return out | {"variance": self.variance(x), "variance_alone": self.variance(x, 0.0)}

        low, high = parts(below), parts(above)
        # the derivative by log beta, over beta
        return at, {name: (high[name] - low[name]) / (2 * _BETA_STEP * beta) for name in low}

    # --- with n replicas ------------------------------------------------------------------------------------------------

    def _latents(self, gradient: np.ndarray, n: float) -> list[np.ndarray]:
        """Covariances over the replicas of latents of each variance, at the channel's first derivatives `gradient`."""
        return [s * rs_inverse(_ONE - s * gradient / self.alpha_D, n) for s in self.s]

    def _overlaps(self, latents: list[np.ndarray]) -> np.ndarray:
        return sum(f * C for f, C in zip(self.f, latents, strict=True))

    def replicated(self, n: float, beta: float, delta: float, start: np.ndarray) -> tuple[float, float, np.ndarray]:
        """phi(n), c(n) and the overlaps (00, 0a, aa, ab) at the saddle, found from the overlaps `start`."""

        def derived(overlaps):
            Q00, m, Q, q = overlaps
            if not (q < Q and Q00 * q >= m * m and Q00 > 0):  # where a step led out of the domain
                return np.full(4, np.nan), np.nan
            return _gradient(self.channel(*overlaps, beta, delta), m / Q00, n)

        def update(y, _):
            new, log_c = derived(self._overlaps(self._latents(np.sinh(y[0]), n)))
            return np.arcsinh(new)[None], np.array([[log_c]])

        found = FixedPoint(_TOLERANCE, plain=3).solve(update, np.arcsinh(derived(start)[0])[None])
        if found.status[0] != Status.OK:
            raise DomainError(
                "t", 1 / beta, f"a noise at which {n} replicas have a saddle (residual {found.residual[0]:.1e})"
            )
        gradient, log_c = np.sinh(found.y[0]), found.payload[0, 0]
        latents = self._latents(gradient, n)
        overlaps = self._overlaps(latents)
        prior = sum(f * rs_log_det(_ONE - s * gradient / self.alpha_D, n) for f, s in zip(self.f, self.s, strict=True))
        pairs = overlaps * gradient * np.array([1, 2 * n, n, n * (n - 1)])
        phi = log_c - (self.alpha_D * prior + pairs.sum()) / 2
        averages = self.channel(*overlaps, beta, delta)
        latents = list(zip(self.f, latents, strict=True))
        return phi, one_loop(averages, overlaps[1] / overlaps[0], n, self.alpha_D, latents), overlaps

    def third_and_loop(self, beta: float, delta: float, at: _Saddle) -> tuple[float, float]:
        r"""Third cumulant over N of :math:`\log M_x+\beta E_{true}`, and c'(0); errors of order 1e-4 of them."""
        phi, loop = np.zeros(4), np.zeros(4)
        for side in ((1, 0), (2, 3)):
            start = np.array(at.overlaps)
            for i in side:
                phi[i], loop[i], start = self.replicated((-2, -1, 1, 2)[i] * _REPLICAS, beta, delta, start)
        # the odd part is (mean) h + (third) h^3/6 + O(h^5), and the mean is known
        odd = (phi[[2, 3]] - phi[[1, 0]]) / 2 - (at.g + beta * delta / 2) * _REPLICAS * np.array([1, 2])
        return float(32 * odd[0] - odd[1]) / (4 * _REPLICAS**3), float(_FIRST @ loop)


def _gradient(averages: Averages, rho: float, n: float) -> tuple[np.ndarray, float]:
    """Derivatives of log C_n by the overlaps (00, 0a, aa, ab; twice those of the diagonal), and log C_n."""
    r1, r2 = averages.ratios[1:3]
    weights = [averages.weight(n, hermite=j) for j in range(3)]
    total = weights[0].sum()
    same, different = (float((weights[0] * x).sum() / total) for x in (r2, r1**2))
    moved = float((weights[1] * r1).sum() / total)
    sums = n * same + n * (n - 1) * different
    teacher = float(weights[2].sum() / total) - 2 * rho * n * moved + rho**2 * sums
    cross = moved - rho * (same + (n - 1) * different)
    return np.array([teacher, cross, same, different]), float(np.log(total))
