r"""Saddle points of the replica action on arrays of (beta, delta, alpha_D): order parameters, free entropy, branches.

`ReplicaEngine` joins the lowered action (`theory.replica`) with the channel kernel and the fixed-point solver of the ground
floor. The conjugates are iterated, on the Nishimori line one number, else three; the branch is the one of largest
free entropy among those reached from an informative and an uninformative start.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from numerics.channel import CLEAN, MATCHED, NOISY, Channel, Moments, Rule
from numerics.domain import DomainError, finite, nonnegative, positive
from numerics.solvers import FixedPoint, FixedPoints, Solution, StableFixedPoint
from theory.models import HiddenManifold
from theory.replica import basins
from theory.replica.action import action
from theory.replica.saddle import Saddle, dominant
from theory.replica.times import KINDS, Times, alpha_and_slope

__all__ = ["ReplicaEngine"]

INFORMATIVE, UNINFORMATIVE = 1, 0


class ReplicaEngine:
    """Free entropies and times of a hidden manifold model.

    Parameters
    ----------
    model : HiddenManifold
    rule : Rule, quadrature spacings
    tolerance : float, of the fixed point's residual
    """

    def __init__(self, model: HiddenManifold, *, rule: Rule | None = None, tolerance: float = 1e-11):
        if not isinstance(model, HiddenManifold):
            raise DomainError("model", model, "a HiddenManifold")
        self.model = model
        self.tolerance = tolerance
        self.rho = model.field_variance
        self._f, self._s = list(model.fractions), list(model.variances)
        self._overlaps, self.entropic = action(len(self._f)).functions()
        self.channel: Channel = model.s.channel(16.0 * np.sqrt(self.rho), rule)
        self.times = Times(self, np.unique(np.asarray(model.alpha_D, dtype=float)))
        _, self._linear, self._rest = model.s.linear_and_noise(self.rho)

    # --- one evaluation -----------------------------------------------------------------------------------------------

    def _moments(self, hats, beta, delta, mode) -> tuple[Moments, tuple]:
        c, m_hat, q_hat = hats
        with np.errstate(invalid="ignore"):  # sigma is 0/0 at the trivial saddle, set right below
            V, m, q, sigma = self._overlaps(c, m_hat, q_hat, self._f, self._s)
        q_safe = np.maximum(q, 1e-13 * self.rho)  # the trivial saddle of even activations has q = 0
        slope = np.where(q > 1e-13 * self.rho, m / q_safe, 0.0)
        if mode == MATCHED:
            slope, sigma = np.ones_like(V), V
        sigma = np.where(q > 1e-13 * self.rho, sigma, self.rho)
        moments = self.channel.moments(q_safe, slope, sigma, V, beta, delta, mode)
        return moments, (V, m, q, sigma)

    def _new(self, moments, alpha_D, mode):
        """The iterated variables after one update. Off the Nishimori line they are ``c_hat, c_hat - m_hat, q_hat``: for
        small noise the first two conjugates are large and nearly equal, and the teacher's variance hangs on their difference."""
        if mode == MATCHED:
            return self._encode((moments.f_square / alpha_D,))
        c = np.maximum(-moments.f_slope / alpha_D, -0.999 / max(self._s))
        return self._encode((c, -(moments.f_slope + moments.f_star) / alpha_D, moments.f_square / alpha_D))

    def _encode(self, hats):
        return np.arcsinh(np.stack(hats, axis=1) * self.rho)

    def _decode(self, y, mode):
        parts = np.sinh(np.clip(y, -60, 60)).T / self.rho
        if mode == MATCHED:
            return (parts[0],) * 3
        # an extrapolated step may leave the domain: 1 + c_hat s > 0 and q_hat, a mean square, >= 0
        c = np.maximum(parts[0], -0.999 / max(self._s))
        return c, c - parts[1], np.abs(parts[2])

    def iterate(self, beta, delta, alpha_D, mode, start) -> FixedPoints:
        """Iterate from `start`, (B, 1) on the Nishimori line and (B, 3) off it; the payload's columns are `PAYLOAD`."""

        def function(y, cells):
            hats = self._decode(y, mode)
            moments, (V, m, q, sigma) = self._moments(hats, beta[cells], delta[cells], mode)
            a = alpha_D[cells]
            new = self._new(moments, a, mode)
            g = a * self.entropic(*hats, self._f, self._s) + moments.log_i
            g_delta = 0.5 * beta[cells] * (beta[cells] * moments.variance - 1.0)
            payload = [g, -0.5 * moments.square, g_delta, m, q, q + V, V, sigma, *hats, moments.exps]
            return new, np.stack([np.broadcast_to(p, g.shape) for p in payload], axis=1)

        if mode == MATCHED:
            return StableFixedPoint(self.tolerance, lower=0.0).solve(function, start)

        def floor(y):
            # for small noise 1 - m/q is as small as t while m and q are rounded at 1e-16; measured amplification into the
            # three variables. g is stationary, so this costs it nothing; g' inherits it (about 1e-7 at t = 1e-6)
            c = np.abs(np.sinh(np.clip(y[:, 0], -60, 60)))
            return c[:, None] * np.array([1e-16, 4e-13, 2e-13]) / np.cosh(np.clip(y * [0.0, 1.0, 1.0], -60, 60))

        return FixedPoint(self.tolerance).solve(function, start, floor)

    def start(self, beta, delta, alpha_D, mode, kind) -> np.ndarray:
        """Conjugates of a student that knows everything (`V` small) or nothing (a trace of overlap)."""
        if kind == INFORMATIVE:
            size = (self._linear**2 + self._rest / self.rho + 1e-3) * beta / alpha_D + 10.0 / self.rho
        else:
            size = np.full(beta.shape, 1e-3 / self.rho)
        if mode == MATCHED:
            return self._encode((size,))
        noise = np.minimum(1.0, beta * delta) * size + 1.0 / self.rho if kind == INFORMATIVE else size
        # an even activation has the trivial saddle m = q = 0; off the Nishimori line it is a branch of its own
        trivial = kind == UNINFORMATIVE and self.channel.parity == 1
        return self._encode((size, size, 0 * size) if trivial else (size, 0 * size, noise))

    # --- saddles with branch choice -----------------------------------------------------------------------------------

    def _at(self, beta, delta, alpha_D, mode) -> Saddle:
        """Dominant saddles at flat arrays of one length, from both starts."""
        ends = []
        for kind in (UNINFORMATIVE, INFORMATIVE):
            found = self.iterate(beta, delta, alpha_D, mode, self.start(beta, delta, alpha_D, mode, kind))
            zeros = np.zeros(beta.size)
            ends.append(
                Saddle(
                    *found.payload.T[:-1],
                    found.residual,
                    found.iterations,
                    found.status,
                    zeros.astype(np.int8),
                    zeros,
                    found.payload[:, -1] * found.iterations,
                )
            )
        return dominant(*ends)

    def saddles(self, beta, delta, alpha_D, mode: int | None = None) -> Saddle:
        """Dominant saddles at flat arrays of one length; the channel's mode is chosen cell by cell unless given."""
        if mode is not None:
            return self._at(beta, delta, alpha_D, mode)
        modes = _modes(beta, delta)
        out = None
        for kind in np.unique(modes):
            cells = np.flatnonzero(modes == kind)
            part = self._at(beta[cells], delta[cells], alpha_D[cells], kind)
            if out is None:
                out = Saddle(*(np.empty(beta.size, getattr(part, f.name).dtype) for f in fields(part)))
            out = out.replaced(cells, part)
        return out

    def free_entropy(self, beta, delta) -> Saddle:
        r"""Free entropy :math:`g(\beta;\delta)` with order parameters, broadcasting over beta, delta and alpha_D.

        Parameters
        ----------
        beta : array > 0, inverse temperature ``1/t``
        delta : array >= 0, squared distance per dimension from the data point

        Returns
        -------
        Saddle, NaN in `g` where `status` is not OK
        """
        beta, delta, alpha_D = np.broadcast_arrays(
            positive("beta", beta), nonnegative("delta", delta), np.asarray(self.model.alpha_D, dtype=float)
        )
        shape = beta.shape
        beta, delta, alpha_D = (np.ascontiguousarray(a, dtype=float).ravel() for a in (beta, delta, alpha_D))
        out = self.saddles(beta, delta, alpha_D)
        bad = ~out.ok
        for f in ("g", "g_beta", "g_delta", "m", "q", "Q", "V", "sigma"):
            getattr(out, f)[bad] = np.nan
        return out.reshape(shape)

    def quadrature_error(self, beta, delta, alpha_D, saddle: Saddle, factor: float = 1.5) -> np.ndarray:
        """Change of `g` at the saddle when every quadrature spacing is divided by `factor`; flat arrays.

        The rules converge exponentially, so this estimates the error of the coarser one: measured, not assumed.
        """
        finer = ReplicaEngine(self.model, rule=self.channel.rule.refined(factor), tolerance=self.tolerance)
        out = np.full(beta.shape, np.nan)
        modes = _modes(beta, delta)
        for mode in np.unique(modes):
            c = np.flatnonzero(modes == mode)
            hats = saddle.c_hat[c], saddle.m_hat[c], saddle.q_hat[c]
            coarse, fine = (engine._moments(hats, beta[c], delta[c], mode)[0].log_i for engine in (self, finer))
            out[c] = np.abs(fine - coarse)
        return out

    # --- times ----------------------------------------------------------------------------------------------------------

    def critical_alpha(self, kind: str, log_t) -> Solution:
        """The alpha at which the time `kind` is t: one saddle per (t, alpha_D), no search (except for generalization).

        Parameters
        ----------
        kind : "onset", "collapse", "condensation" or "generalization"
        log_t : array, broadcasts with the model's alpha_D
        """
        _check_kind(kind)
        log_t, alpha_D = np.broadcast_arrays(finite("log_t", log_t), np.asarray(self.model.alpha_D, dtype=float))
        x, a = log_t.ravel(), np.ascontiguousarray(alpha_D, dtype=float).ravel()
        if kind == "generalization":
            found, payload = self.times.log_condensation_of_minimum(x, self.row(a))
            value, _ = alpha_and_slope("condensation", np.nan_to_num(found.value), payload)
            value = np.where(found.ok, value, np.nan)
            solution = Solution(value, found.status, found.residual, found.iterations, found.branch)
        else:
            beta = np.exp(-x)
            matched = kind == "collapse"
            saddle = self._at(beta, 1 / beta if matched else 0 * beta, a, MATCHED if matched else CLEAN)
            value, _ = alpha_and_slope(kind, x, np.stack([saddle.g, saddle.g_beta, saddle.g_delta], axis=1))
            value = np.where(saddle.ok, value, np.nan)
            solution = Solution(value, saddle.status, saddle.residual, saddle.iterations, saddle.branch)
        return _reshape(solution, log_t.shape)

    def log_time(self, kind: str, alpha) -> Solution:
        """log t of the time `kind`: the inverse of `critical_alpha`, continued along log t from sampled branches.

        Parameters
        ----------
        kind : "onset", "collapse", "condensation" or "generalization"
        alpha : array > 0, broadcasts with the model's alpha_D
        """
        _check_kind(kind)
        alpha, alpha_D = np.broadcast_arrays(positive("alpha", alpha), np.asarray(self.model.alpha_D, dtype=float))
        flat = np.ascontiguousarray(alpha, dtype=float).ravel()
        found = self.times.log_time(kind, flat, self.row(alpha_D.ravel()))
        return _reshape(found, alpha.shape)

    def free_energy(self, alpha, t, delta) -> Solution:
        r"""Free energy per dimension :math:`\varphi=\lim\frac1N\log Z` of the REM at ``beta = 1/t``, condensed branch included.

        Parameters
        ----------
        alpha, t : arrays > 0
        delta : array >= 0; all broadcast with the model's alpha_D

        Returns
        -------
        Solution; branch 1 marks condensed cells
        """
        return basins.free_energy(self, *self._flat(alpha=alpha, t=t, delta=delta))

    def basin_squared(self, alpha, t) -> Solution:
        r"""Squared radius over N of a training point's basin: 0 above onset, ``t_c`` below collapse, else the smallest
        :math:`\delta` with :math:`\varphi(1/t;\delta)=-\delta/2t`. Arguments as in `free_energy`.
        """
        return basins.basin_squared(self, *self._flat(alpha=alpha, t=t))

    def _flat(self, **arguments):
        """Checked, broadcast with alpha_D, flattened; and the shape."""
        arrays = [(nonnegative if name == "delta" else positive)(name, value) for name, value in arguments.items()]
        arrays = np.broadcast_arrays(*arrays, np.asarray(self.model.alpha_D, dtype=float))
        return *(np.ascontiguousarray(a, dtype=float).ravel() for a in arrays), arrays[0].shape

    def row(self, alpha_D):
        return np.searchsorted(self.times.rows, alpha_D)


def _modes(beta, delta) -> np.ndarray:
    """The channel's mode, cell by cell: without noise, with the noise of the student's own temperature, or with another."""
    return np.where(delta == 0, CLEAN, np.where(np.abs(delta * beta - 1) < 4e-16, MATCHED, NOISY))


def _check_kind(kind):
    if kind not in KINDS:
        raise DomainError("kind", kind, "one of " + ", ".join(KINDS))


def _reshape(solution: Solution, shape) -> Solution:
    return Solution(*(getattr(solution, f.name).reshape(shape) for f in fields(solution)))
