r"""What is averaged over at finite N: the covariance's eigenvalues, the point x, and the controls that cut the noise.

Given a spectrum, everything depends on :math:`x=\xi+\sqrt t\,\omega` only through three sums per distinct eigenvalue of
multiplicity n: :math:`A=\sum z_i^2,\ B=\sum\omega_i^2,\ C=\sum z_i\omega_i` (:math:`\xi_i=\sqrt r z_i`), drawn exactly:
:math:`A\sim\chi^2_n,\ C=\sqrt A\,g,\ B=g^2+\chi^2_{n-1}`. The same draws serve every t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal
from scipy.optimize import brentq
from scipy.special import expit

from numerics.domain import DomainError, finite, integer
from numerics.quadrature import Inversion
from theory.finite_size.boltzmann_weight import cumulants
from theory.models import GaussianModel, Isotropic, LinearManifold, Spectrum, Subspaces

__all__ = ["Draw", "FiniteSpectrum", "draws", "finite_spectrum"]

_DENSE_LIMIT = 4000  # largest side of the dense eigenproblem for a manifold with several latent variances
_SHARED_ABOVE = 1000  # above this rank a spectrum drawn at random serves several points x


@dataclass(frozen=True, eq=False)
class FiniteSpectrum:
    """The N eigenvalues of a covariance: distinct non-zero ones in decreasing order, multiplicities, number of zeros.

    >>> finite_spectrum(Subspaces([0.3, 0.3], [1.0, 0.09]), 30).multiplicity
    array([9., 9.])
    """

    variance: np.ndarray
    multiplicity: np.ndarray
    zeros: int
    random: bool = False

    @property
    def N(self) -> int:
        return int(self.multiplicity.sum()) + self.zeros


def finite_spectrum(model: GaussianModel, N: int | None = None, seed=0) -> FiniteSpectrum:
    r"""The covariance spectrum of a Gaussian model at a given N.

    Subspaces get :math:`d_k=\operatorname{round}(a_kN)` directions (when rounding up overfills N, the block rounded up
    most gives one back). A linear manifold has :math:`D=\max(1,\operatorname{round}(\alpha_DN))` and a random spectrum:
    with one latent variance it is drawn from the bidiagonal form of the Gaussian matrix F, which has exactly the law of
    the eigenvalues of :math:`FF^\top/D` at a cost of order N (Dumitriu and Edelman, J. Math. Phys. 43, 2002); with
    several, from F itself, N and D up to 4000.

    Parameters
    ----------
    model : Isotropic, LinearManifold, Subspaces or Spectrum, with numbers and not symbols
    N : int >= 1
        Ambient dimension; may be left out for a Spectrum, which knows it.
    seed : int or numpy Generator

    Raises
    ------
    DomainError
        If the model is not Gaussian or is symbolic, or if N is missing, not the Spectrum's own, or too small to hold a
        direction of non-zero variance.
    """
    if not isinstance(model, GaussianModel):
        raise DomainError(
            "model",
            model,
            "a Gaussian model",
            "for nonlinear hidden manifolds the coordinates of x - xi are coupled through z and M(b) has no closed form; "
            "use the asymptotic times, theory.finite_size.drift.finite_size_value for their drift with N, and simulation",
        )
    if isinstance(model, Spectrum):
        if N is not None and integer("N", N, minimum=1, maximum=1 << 53) != model.N:
            raise DomainError("N", N, f"{model.N}, the number of eigenvalues of the Spectrum", "Leave N out")
        return _grouped(model.eigenvalues, model.N)
    if N is None:
        raise DomainError("N", "missing", "an integer >= 1")
    N = integer("N", N, minimum=1, maximum=1 << 53)
    if isinstance(model, Isotropic):
        return _grouped(np.array([_number("variance", model.variance)]), N, np.array([N]))
    if isinstance(model, Subspaces):
        counts = _block_sizes(np.array(model.fractions), N)
        return _grouped(np.array(model.variances), N, counts)
    if isinstance(model, LinearManifold):
        alpha_D = _number("alpha_D", model.alpha_D)
        D = max(1, math.floor(alpha_D * N + 0.5))
        rng = np.random.default_rng(seed)
        if len(set(model.variances)) == 1:
            values = model.variances[0] / D * _wishart_eigenvalues(min(N, D), max(N, D), rng)
        else:
            if max(N, D) > _DENSE_LIMIT:
                raise DomainError("N", N, f"such that N and D are <= {_DENSE_LIMIT} with several latent variances")
            scale = np.sqrt(np.repeat(model.variances, _block_sizes(np.array(model.fractions), D)) / D)
            values = np.linalg.svd(rng.standard_normal((N, scale.size)) * scale, compute_uv=False) ** 2
        spectrum = _grouped(np.maximum(values, 0.0), N)
        return FiniteSpectrum(spectrum.variance, spectrum.multiplicity, spectrum.zeros, random=True)
    raise DomainError("model", model, "Isotropic, LinearManifold, Subspaces or Spectrum")


def _number(name, value) -> float:
    try:
        return float(value)
    except TypeError as error:
        raise DomainError(name, value, "one number (neither an array nor a symbol) at finite size") from error


def _block_sizes(fractions: np.ndarray, N: int) -> np.ndarray:
    exact = fractions * N
    counts = np.floor(exact + 0.5).astype(int)
    full = fractions.sum() > 1 - 1e-12  # the blocks fill the space: so must their sizes
    while counts.sum() > N or (full and counts.sum() < N):
        step = -1 if counts.sum() > N else 1
        counts[np.argmax(step * (exact - counts))] += step
    return counts


def _wishart_eigenvalues(small: int, large: int, rng) -> np.ndarray:
    """Squared singular values of a (large x small) standard Gaussian matrix, by its bidiagonal form of chi variables."""
    a = np.sqrt(rng.chisquare(large - np.arange(small)))
    b = np.sqrt(rng.chisquare(np.arange(small - 1, 0, -1))) if small > 1 else np.empty(0)
    diagonal = a**2
    diagonal[1:] += b**2
    return eigvalsh_tridiagonal(diagonal, a[:-1] * b) if small > 1 else diagonal


def _grouped(values: np.ndarray, N: int, counts: np.ndarray | None = None) -> FiniteSpectrum:
    counts = np.ones(values.size) if counts is None else counts
    keep = (values > 0) & (counts > 0)
    distinct, which = np.unique(-values[keep], return_inverse=True)
    if distinct.size == 0:
        raise DomainError("N", N, "large enough for one direction of non-zero variance", "Every block rounds to size 0")
    multiplicity = np.bincount(which, weights=counts[keep].astype(float))
    return FiniteSpectrum(-distinct, multiplicity, N - int(multiplicity.sum()))


@dataclass(frozen=True, eq=False)
class Draw:
    """One spectrum and one x: the sums A, B, C per distinct eigenvalue, and the part of x in directions of variance 0.

    With `fixed` set, x is given: `A` then holds the sums of x_i^2 themselves, `offset_square` those of the zero
    directions, and `B` is drawn from the law of the noise given x when it is asked for.
    """

    spectrum: FiniteSpectrum
    group: int  # which spectrum draw it belongs to
    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    fixed: bool = False
    offset_square: float = 0.0
    gauss: np.ndarray | None = None  # for fixed x: standard normals of the noise given x, one a direction
    x: np.ndarray | None = None

    def point(self, t: float, noisy: bool) -> tuple[np.ndarray, float, float]:
        """(beta sum x_i^2 per eigenvalue; -beta/2 times that of the zero directions; log a of the planted point).

        The last is relative to the zero directions' factor, which the planted point shares on a noisy x.
        """
        r, n = self.spectrum.variance, self.spectrum.multiplicity
        if self.fixed:
            p, offset = self.A / t, -0.5 * self.offset_square / t
            if not noisy:
                return p, offset, -offset
            each = np.repeat(r, n.astype(int))
            omega = math.sqrt(t) * self.x / (each + t) + np.sqrt(each / (each + t)) * self.gauss
            return p, offset, -0.5 * float(omega @ omega)
        p = r / t * self.A
        if not noisy:
            return p, 0.0, 0.0
        return p + self.B + 2 * np.sqrt(r / t) * self.C, -0.5 * self.spectrum.zeros, -0.5 * float(self.B.sum())


def draws(model, N, *, seed, samples: int, x=None) -> list[Draw]:
    """`samples` draws of (spectrum, x); with `x` given, of the noise alone.

    A random spectrum is drawn anew for each sample up to rank 1000, else for at most four groups of samples.
    """
    samples = integer("samples", samples, minimum=1, maximum=1_000_000)
    rng = np.random.default_rng(integer("seed", seed, minimum=0))
    spectrum = finite_spectrum(model, N, rng)
    out = []
    if x is not None:
        x = finite("x", x)
        if x.ndim != 1 or x.size != spectrum.N:
            raise DomainError("x", x.shape, f"an array of shape ({spectrum.N},), coordinates in the eigenbasis")
        rank = spectrum.N - spectrum.zeros
        square = np.add.reduceat(
            x[:rank] ** 2, np.concatenate([[0], np.cumsum(spectrum.multiplicity)[:-1]]).astype(int)
        )
        for i in range(samples):
            gauss = rng.standard_normal(rank)
            out.append(Draw(spectrum, i, square, square, square, True, float(x[rank:] @ x[rank:]), gauss, x[:rank]))
        return out
    fresh = samples if spectrum.variance.size <= _SHARED_ABOVE else min(samples, 4)
    for i in range(samples):
        if spectrum.random and i and i * fresh // samples != (i - 1) * fresh // samples:
            spectrum = finite_spectrum(model, N, rng)
        n = spectrum.multiplicity
        A, g = rng.chisquare(n), rng.standard_normal(n.size)
        rest = np.where(n > 1, rng.chisquare(np.maximum(n - 1, 1)), 0.0)
        group = i * fresh // samples if spectrum.random else i
        out.append(Draw(spectrum, group, A, g**2 + rest, np.sqrt(A) * g))
    return out


# --- controls: functions of x with a known mean, close to what is averaged -----------------------------------------


def typical_lambda(spectrum: FiniteSpectrum, t: float, noisy: bool, log_P: float) -> float:
    """The REM's lambda_* <= 1 at the mean of x_i^2: log P + L - lambda L' = 0, where the linear control is exact."""
    r, n = spectrum.variance, spectrum.multiplicity
    s, p = r / t, n * (r + (t if noisy else 0.0)) / t

    def entropy(log_lam):
        lam = math.exp(log_lam)
        L, L1, _, _ = cumulants(lam, s, n, p)
        return log_P + L - lam * L1

    if entropy(0.0) >= 0 or entropy(-300.0) <= 0:
        return 1.0
    return math.exp(brentq(entropy, -300.0, 0.0, xtol=1e-14))


def linear_control(spectrum: FiniteSpectrum, t: float, noisy: bool, lam: float, p: np.ndarray) -> float:
    r"""Part of :math:`\mathcal L_x(\lambda)/\lambda` linear in :math:`x_i^2-E x_i^2`: mean 0 given the spectrum."""
    r, n = spectrum.variance, spectrum.multiplicity
    mean = n * (r + (t if noisy else 0.0)) / t
    return float(-0.5 * np.sum((p - mean) / (1 + lam * r / t)))


def annealed_slack(drawn: list[Draw], t: float, noisy: bool, log_P: float, *, want: str) -> np.ndarray:
    """The planted point's weight, or log(1 + Z/a), with E_xi Z in the place of Z, less its mean over x: one a draw."""
    means, out = {}, []
    for draw in drawn:
        r, n = draw.spectrum.variance, draw.spectrum.multiplicity
        p, _, log_a = draw.point(t, noisy)
        delta = log_P - 0.5 * float(n @ np.log1p(r / t)) - 0.5 * float(np.sum(p / (1 + r / t))) - log_a
        key = id(draw.spectrum)
        if key not in means:
            means[key] = annealed_mean(draw.spectrum, t, noisy, log_P, want=want)
        out.append((expit(-delta) if want == "weight" else np.logaddexp(0.0, delta)) - means[key])
    return np.array(out)


def annealed_mean(spectrum: FiniteSpectrum, t: float, noisy: bool, log_P: float, *, want: str) -> float:
    r"""Mean over x of the planted point's weight, or of log(1 + Z/a), with E_xi Z in the place of Z, exactly.

    :math:`\Delta=\log P+\mathcal L_x(1)-\log a` is a quadratic form in Gaussian variables, and

    .. math:: E\frac1{1+e^{\Delta}}=\frac1{2\pi i}\int\frac{\pi}{\sin\pi s}E e^{-s\Delta}ds,\qquad
              E\log(1+e^\Delta)=\frac1{2\pi i}\int\frac{\pi}{s\sin\pi s}E e^{s\Delta}ds,\qquad 0<\operatorname{Re}s<1,

    with :math:`E e^{s\Delta}=e^{s\Delta_0}\prod_i(1-s^2m_i)^{-1/2}` on a noisy x, :math:`\prod_i(1+sm_i)^{-1/2}` on a
    clean one, :math:`m_i=r_i/(r_i+t),\ \Delta_0=\log P-\frac12\sum_i\log(1+r_i/t)`.

    Parameters
    ----------
    want : "weight" or "log"
    """
    r, n = spectrum.variance, spectrum.multiplicity
    constant = log_P - 0.5 * float(n @ np.log1p(r / t))
    sign = -1.0 if want == "weight" else 1.0
    # -log prod (1 - s c)^(n/2) over these c
    m = r / (r + t)
    c, power = (np.concatenate([np.sqrt(m), -np.sqrt(m)]), np.concatenate([n, n])) if noisy else (-sign * m, n)

    def log_transform(s):
        # log(pi/sin(pi s)) in the upper half plane, without the overflow of sin
        kernel = np.log(2 * np.pi) + 1j * np.pi * (s - 0.5) - np.log1p(-np.exp(2j * np.pi * s))
        if want == "log":
            kernel -= np.log(s)
        return kernel - 0.5 * (np.log1p(-np.multiply.outer(s, c)) @ power)

    def derivatives(s):
        cot, y = 1 / math.tan(math.pi * s), c / (1 - s * c)
        f0 = math.log(math.pi / math.sin(math.pi * s)) - 0.5 * float(power @ np.log1p(-s * c))
        f1 = -math.pi * cot + 0.5 * float(power @ y)
        f2 = math.pi**2 * (1 + cot**2) + 0.5 * float(power @ y**2)
        f3 = -2 * math.pi**3 * cot * (1 + cot**2) + float(power @ y**3)
        if want == "log":
            f0, f1, f2, f3 = f0 - math.log(s), f1 - 1 / s, f2 + 1 / s**2, f3 - 2 / s**3
        return f0, f1, f2, f3

    inverse = Inversion(log_transform, derivatives, low=0.0, high=1.0)
    mantissa, exponent, _ = inverse(np.array([sign * constant]))
    return float(mantissa[0] * np.exp(exponent[0]))
