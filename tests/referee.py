r"""The referee: the linear theory derived a second time, in mpmath alone, by two routes that share no formula.

*From definitions* (`*_by_definition`, slow): the Marchenko-Pastur density is integrated numerically, the random energy
model's cumulant generating function is that integral, its :math:`\beta`-derivatives are taken numerically, and each
time is the root of its definition. *By the explicit curve* (`time`, `log_time`, fast): every latent spectrum gives
:math:`t`, :math:`\mathcal L` and the times' right-hand sides as explicit functions of one real parameter
:math:`\chi=\int\rho/(\alpha_D(r+t))\,dr`, and one monotone scalar equation is solved in :math:`\log\chi`.

Nothing here is imported from `theory`. Results are `mpmath.mpf` of at least 40 correct digits (fast route) and 28
(definitions). A float argument means the binary number it is; pass a string for a decimal one.
Source: [AALMV25], [D81]; the curve and the contour are [ours: docs/derivations/asymptotics.md].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpmath import mp

from numerics.domain import DomainError

KINDS = ("onset", "collapse", "condensation", "generalization")
DIGITS = 60  # working digits of the fast route
SLOW_DIGITS = 34  # working digits of the definitions

Spectrum = tuple[list, list]  # weights and values; what the weights miss of 1 is an atom at r = 0

# ---------------------------------------------------------------------------------------------------------------------
# Arguments


def _number(name: str, value: Any, *, zero: bool = False):
    allowed = "a finite real number >= 0" if zero else "a finite real number > 0"
    try:
        number = mp.convert(value if isinstance(value, str) or hasattr(value, "_mpf_") else float(value))
    except (TypeError, ValueError) as error:
        raise DomainError(name, value, allowed) from error
    if not mp.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise DomainError(name, value, allowed)
    return number


def _numbers(name: str, values: Sequence, *, zero: bool = False) -> list:
    if isinstance(values, str) or not hasattr(values, "__len__") or len(values) == 0:
        raise DomainError(name, values, "a non-empty sequence of numbers")
    return [_number(name, value, zero=zero) for value in values]


def _pair(names: tuple[str, str], first: Sequence, second: Sequence) -> tuple[list, list]:
    f, s = _numbers(names[0], first), _numbers(names[1], second, zero=True)
    if len(f) != len(s):
        raise DomainError(", ".join(names), (first, second), "two sequences of equal length")
    if max(s) == 0:
        raise DomainError(names[1], second, "numbers >= 0 of which at least one is > 0")
    if mp.fsum(f) > 1 + mp.mpf("1e-12"):
        raise DomainError(names[0], first, "numbers > 0 with a sum <= 1")
    return f, s


def _digits(small) -> int:
    """Working digits of the fast route: at small alpha or large t its integrals cancel to second order."""
    return DIGITS + max(0, int(-2 * mp.log10(small)))


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise DomainError("kind", kind, "one of " + ", ".join(KINDS))
    return kind


def _monotone_root(function: Callable, start=0, step=1):
    """The root of an increasing function on the real line, to working precision: a bracket, then Anderson-Bjorck."""
    low = high = mp.mpf(start)
    step = mp.mpf(step)
    while function(low) > 0 and low > -(10**6):
        low, high, step = low - step, low, 2 * step
    while function(high) < 0 and high < 10**6:
        low, high, step = high, high + step, 2 * step
    if max(abs(low), abs(high)) > 10**6:
        raise ArithmeticError("the function keeps its sign")
    f_low, f_high = function(low), function(high)
    root, bisect = high, f_low == 0 or f_high == 0
    for _ in range(400):
        weight = mp.mpf(1) / 2 if bisect else f_high / (f_high - f_low)
        previous, root = root, high + weight * (low - high)
        value = function(root)
        # Anderson-Bjorck: the end that stays is scaled down, so that neither end stays for ever
        if value >= 0:
            f_low *= (1 - value / f_high) if value < f_high else mp.mpf(1) / 2
            high, f_high = root, value
        else:
            f_high *= (1 - value / f_low) if value > f_low else mp.mpf(1) / 2
            low, f_low = root, value
        # a short step is not yet a root: the root of an increasing function is where the sign changes
        bisect = value == 0 or abs(root - previous) <= 64 * mp.eps * (1 + abs(root))
        margin = mp.mpf(10) ** (8 - mp.dps) * (1 + abs(root))
        if bisect and function(root - margin) < 0 < function(root + margin):
            return root
    raise ArithmeticError(f"no sign change around {mp.nstr(root, 20)}")


# ---------------------------------------------------------------------------------------------------------------------
# Route 1: from definitions


def marchenko_pastur(alpha_D) -> Spectrum:
    r"""Nodes and weights that integrate against the Marchenko-Pastur law of :math:`FF^\top/D`, for every noise level.

    With :math:`c=1/\alpha_D`, :math:`r=1+c-2\sqrt c\cos u` and :math:`\rho\,dr=\frac{2}{\pi}\frac{\sin^2u}{r}\,du`
    on :math:`0<u<\pi`. Put :math:`\tan(u/2)=e^v`:

    .. math:: r=\frac{a^2+b^2w^2}{1+w^2},\quad \rho\,dr=\frac{16}{\pi}\frac{w^3\,dv}{(1+w^2)^2(a^2+b^2w^2)},\quad
              w=e^v,\ a=|1-\sqrt c|,\ b=1+\sqrt c .

    All singularities, also those of :math:`\log(1+r/t)` and :math:`1/(r+t)` for any :math:`t>0`, lie at imaginary part
    :math:`\pm\pi/2` of :math:`v`, so the trapezoid rule of step :math:`h` errs by :math:`e^{-\pi^2/h}` uniformly in
    :math:`t` and :math:`\alpha_D`, the edge case :math:`\alpha_D=1` included.

    >>> weights, values = marchenko_pastur(2)
    >>> mp.nstr(mp.fdot(weights, values), 15), mp.nstr(mp.fdot(weights, [r * r for r in values]), 15)
    ('1.0', '1.5')
    """
    c = 1 / _number("alpha_D", alpha_D)
    a2, b2 = (1 - mp.sqrt(c)) ** 2, (1 + mp.sqrt(c)) ** 2
    h = mp.pi**2 / ((mp.dps + 6) * mp.log(10))
    weights, values = [], []

    def add(j: int) -> bool:
        w2 = mp.exp(2 * h * j)
        denominator = (1 + w2) * (a2 + b2 * w2)
        weight = 16 * h / mp.pi * w2 * mp.sqrt(w2) / (denominator * (1 + w2))
        weights.append(weight)
        values.append((a2 + b2 * w2) / (1 + w2))
        return weight > mp.eps / 1000

    for sign in (1, -1):
        j = 0 if sign == 1 else -1
        while add(j):
            j += sign
    return weights, values


def stieltjes(z, alpha_D, fractions, variances, guess=None):
    r"""Stieltjes transform :math:`m(z)=\int\rho(r)\,dr/(r-z)` of :math:`FSF^\top/D` from its fixed point.

    Removing one row of :math:`F` (a rank-one change) gives :math:`m=1/(-z+V)`,
    :math:`V=\sum_kf_ks_k/(1+s_km/\alpha_D)`; Newton's iteration on it, started from the neighbouring `guess`.
    """
    m = -1 / z if guess is None else guess
    for _ in range(200):
        parts = [f * s / (1 + s * m / alpha_D) for f, s in zip(fractions, variances, strict=True)]
        slope = [p * s / (alpha_D + s * m) for p, s in zip(parts, variances, strict=True)]
        step = (m * (mp.fsum(parts) - z) - 1) / (mp.fsum(parts) - z - m * mp.fsum(slope))
        m -= step
        if abs(step) <= 16 * mp.eps * abs(m):
            return m
    raise ArithmeticError(f"the Stieltjes fixed point did not converge at z = {mp.nstr(z, 10)}")


def generalised_marchenko_pastur(t_min, alpha_D, variances: Sequence = (1,), fractions: Sequence = (1,)) -> Spectrum:
    r"""Complex nodes and weights that integrate against the law of :math:`FSF^\top/D`, for every :math:`t\ge t_{min}`.

    For :math:`f(0)=0`, :math:`\int\rho f=\frac{1}{2\pi i}\int f(z)\,[m(z)+1/z]\,dz` up the line
    :math:`z=-\frac{t_{min}}2(1-i\sinh v)`, which separates the support from the singularities of :math:`f` at
    :math:`r\le-t`; again all singularities lie at imaginary part :math:`\pm\pi/2`. The fixed point is continued along
    the line from the far end, where :math:`m\simeq-1/z` selects the branch; the value at 0 has the weight missing to 1.
    For functions real on the axis: take the real part of the sum. A root search must not go below :math:`t_{min}`.
    """
    t_min, alpha_D = _number("t_min", t_min), _number("alpha_D", alpha_D)
    f, s = _pair(("fractions", "variances"), fractions, variances)
    h = mp.pi**2 / ((mp.dps + 6) * mp.log(10))
    mean = mp.fdot(f, s)
    j = int(mp.ceil((mp.log(1 / mp.eps) + mp.log(1 + mean / t_min) + 12) / h))
    weights, values, m = [], [], None
    while j >= 0:
        v = (j + mp.mpf(1) / 2) * h
        z = t_min / 2 * mp.mpc(-1, mp.sinh(v))
        m = stieltjes(z, alpha_D, f, s, m)
        if m.imag <= 0:
            raise ArithmeticError("the Stieltjes transform left the upper half plane")
        # the halves of the line are complex conjugates: twice the real part of one; dz/dv = i t cosh(v)/2
        # V m / z = m + 1/z without the cancellation at large |z|
        V = mp.fsum(fk * sk / (1 + sk * m / alpha_D) for fk, sk in zip(f, s, strict=True))
        weights.append(h * t_min / 2 * mp.cosh(v) / mp.pi * V * m / z)
        values.append(z)
        j -= 1
    return weights, values


def cumulant(beta, delta, spectrum: Spectrum):
    r"""Generating function :math:`g(\beta;\delta)=-\frac12\int\rho\,[\log(1+\beta r)+\beta\frac{r+\delta}{1+\beta r}]`."""
    weights, values = spectrum
    logs = (w * mp.log(1 + beta * r) for w, r in zip(weights, values, strict=True))
    ratios = (w * beta * (r + delta) / (1 + beta * r) for w, r in zip(weights, values, strict=True))
    atom = 1 - mp.re(mp.fsum(weights))
    return -(mp.re(mp.fsum(logs) + mp.fsum(ratios)) + atom * beta * delta) / 2


def energy(beta, delta, spectrum: Spectrum):
    r"""Mean energy :math:`-g'(\beta;\delta)` per dimension, by numerical differentiation at doubled precision."""
    return -mp.diff(lambda b: cumulant(b, delta, spectrum), beta, h=beta * mp.mpf(2) ** (-3 * mp.prec // 4))


def entropy(alpha, beta, delta, spectrum: Spectrum):
    r"""Entropy of levels :math:`\alpha+g-\beta g'` at inverse temperature :math:`\beta`."""
    return alpha + cumulant(beta, delta, spectrum) + beta * energy(beta, delta, spectrum)


def condensation_beta(alpha, delta, spectrum: Spectrum):
    r""":math:`\beta_*(\alpha;\delta)`, where the entropy vanishes."""
    return mp.exp(_monotone_root(lambda x: -entropy(alpha, mp.exp(x), delta, spectrum)))


def free_energy(alpha, beta, delta, spectrum: Spectrum):
    r""":math:`\phi(\beta)=\alpha+g(\beta)` for :math:`\beta\le\beta_*` and :math:`\beta g'(\beta_*)` beyond."""
    beta_star = condensation_beta(alpha, delta, spectrum)
    if beta <= beta_star:
        return alpha + cumulant(beta, delta, spectrum)
    return -beta * energy(beta_star, delta, spectrum)


def divergence(alpha, t, spectrum: Spectrum):
    r""":math:`C(t)=\frac12\log t-\phi_{\delta=0}(1/t)`, the divergence :math:`KL(P_0\|P_t)/N` up to a constant."""
    return mp.log(t) / 2 - free_energy(alpha, 1 / t, 0, spectrum)


def residual(kind: str, alpha, t, spectrum: Spectrum):
    """Left-hand side of a time's definition in the random energy model; it grows with `t` and vanishes at the time."""
    if kind == "onset":
        return alpha + cumulant(1 / t, 0, spectrum)
    if kind == "collapse":
        return alpha + cumulant(1 / t, t, spectrum) + mp.mpf(1) / 2
    if kind == "condensation":
        return entropy(alpha, 1 / t, 0, spectrum)
    raise DomainError("kind", kind, "one of onset, collapse, condensation")


def time_by_definition(kind: str, alpha, spectrum: Spectrum):
    r"""A time as the root of its definition, for nodes and weights of any spectrum.

    The generalization optimum is the stationary point of `divergence` on its condensed branch, where
    :math:`\frac{d}{d\log t}C=\frac12-e/t` with :math:`e` the energy at :math:`\beta_*(\alpha;0)`.

    >>> mp.nstr(time_by_definition("collapse", mp.log(2) / 2, ([1], [3])), 12)
    '3.0'
    """
    alpha = _number("alpha", alpha)
    if _kind(kind) == "generalization":
        return 2 * energy(condensation_beta(alpha, mp.mpf(0), spectrum), mp.mpf(0), spectrum)
    return mp.exp(_monotone_root(lambda x: residual(kind, alpha, mp.exp(x), spectrum)))


def basin_squared_by_definition(alpha, t, spectrum: Spectrum):
    r"""Squared radius :math:`\delta_b` where :math:`\phi(1/t;\delta)=-\delta/2t`, condensed branch included, or 0."""
    alpha, t = _number("alpha", alpha), _number("t", t)

    def excess(delta):
        return free_energy(alpha, 1 / t, delta, spectrum) + delta / (2 * t)

    return mp.mpf(0) if excess(mp.mpf(0)) >= 0 else mp.exp(_monotone_root(lambda x: excess(mp.exp(x))))


# ---------------------------------------------------------------------------------------------------------------------
# Route 2: explicit curves


class _Curve:
    r"""The linear manifold as a curve in :math:`\chi`.

    It gives :math:`t`, :math:`\mathcal L`, :math:`y=\int\rho\frac r{r+t}` and :math:`K=\int\rho\frac{rt}{(r+t)^2}`:
    :math:`V=\sum_kf_ks_k/(1+s_k\chi)`, :math:`y=\alpha_D\chi V`, :math:`t=(1-y)/(\alpha_D\chi)`,
    :math:`\mathcal L=-\log(1-y)-y+\alpha_D\sum_kf_k\log(1+s_k\chi)`, :math:`K=-t\,\frac{dy/d\chi}{dt/d\chi}`.
    The parameter `x` runs over the real line and decreases with `t`: :math:`x=\log\chi`, or
    :math:`\chi=\chi_{max}/(1+e^{-x})` when the latent rank exceeds N and :math:`t` reaches 0 at finite :math:`\chi`.
    """

    def __init__(self, alpha_D, variances, fractions):
        self.alpha_D = _number("alpha_D", alpha_D)
        f, s = _pair(("fractions", "variances"), fractions, variances)
        if abs(mp.fsum(f) - 1) > mp.mpf("1e-12"):
            raise DomainError("fractions", fractions, "numbers > 0 with a sum = 1")
        self.modes = [(self.alpha_D * fk, sk) for fk, sk in zip(f, s, strict=True) if sk > 0]
        self.rank = mp.fsum(d for d, _ in self.modes)  # non-zero latent directions per ambient dimension
        self.chi_max = None
        if self.rank > 1:
            if len(self.modes) == 1:
                self.chi_max = 1 / (self.modes[0][1] * (self.rank - 1))
            else:
                self.chi_max = mp.exp(_monotone_root(lambda x: self._y(mp.exp(x)) - 1))

    def _y(self, chi):
        return mp.fsum(d * s * chi / (1 + s * chi) for d, s in self.modes)

    def point(self, x):
        if self.chi_max is None:
            chi = mp.exp(x)
            one_minus_y = (1 - self.rank) + mp.fsum(d / (1 + s * chi) for d, s in self.modes)
        else:
            chi = self.chi_max / (1 + mp.exp(-x))
            gap = self.chi_max / (1 + mp.exp(x))  # chi_max - chi, and 1 - y, without cancellation
            one_minus_y = gap * mp.fsum(d * s / ((1 + s * self.chi_max) * (1 + s * chi)) for d, s in self.modes)
        y = self._y(chi)
        t = one_minus_y / (self.alpha_D * chi)
        L = -mp.log(one_minus_y) - y + mp.fsum(d * mp.log(1 + s * chi) for d, s in self.modes)
        dy = mp.fsum(d * s / (1 + s * chi) ** 2 for d, s in self.modes)
        squares = mp.fsum(d * (s / (1 + s * chi)) ** 2 for d, s in self.modes)
        minus_dt = (1 / chi**2 - squares) / self.alpha_D
        return t, L, y, t * dy / minus_dt


class _Discrete:
    """A discrete spectrum as a curve in `x = -log t`."""

    def __init__(self, weights, values):
        f, s = _pair(("weights", "values"), weights, values)
        self.modes = [(fk, sk) for fk, sk in zip(f, s, strict=True) if sk > 0]

    def point(self, x):
        t = mp.exp(-x)
        L = mp.fsum(f * mp.log1p(r / t) for f, r in self.modes)
        y = mp.fsum(f * r / (r + t) for f, r in self.modes)
        return t, L, y, mp.fsum(f * r * t / (r + t) ** 2 for f, r in self.modes)


def _curve_time(kind: str, alpha, curve):
    def excess(x):
        _, L, y, K = curve.point(x)
        right = L + {"onset": y, "collapse": 0, "condensation": -K, "generalization": -K}[kind]
        return mp.log(right / (2 * alpha))

    t, _, y, K = curve.point(_monotone_root(excess))
    return t * (y + K) if kind == "generalization" else t


def time(kind: str, alpha, *, alpha_D, variances: Sequence = (1,), fractions: Sequence = (1,)):
    r"""A time of the linear hidden manifold by the explicit curve, to 40 digits.

    Parameters
    ----------
    kind : "onset", "collapse", "condensation" or "generalization"
    alpha, alpha_D : numbers > 0 (or decimal strings)
    variances, fractions : latent variances and their fractions of D, with sum 1

    Returns
    -------
    mpf, in squared data units (VE time); its exponent is unlimited, so no underflow: 1e-261 is a value.

    >>> mp.nstr(time("collapse", "0.2", alpha_D="0.5"), 12)
    '1.4096127638'
    """
    with mp.workdps(_digits(_number("alpha", alpha))):
        return _curve_time(_kind(kind), _number("alpha", alpha), _Curve(alpha_D, variances, fractions))


def log_time(kind: str, alpha, *, alpha_D, variances: Sequence = (1,), fractions: Sequence = (1,)):
    """Natural logarithm of `time`, for comparison with solvers that work in log-time."""
    with mp.workdps(_digits(_number("alpha", alpha))):
        return mp.log(time(kind, alpha, alpha_D=alpha_D, variances=variances, fractions=fractions))


def spectrum_time(kind: str, alpha, weights: Sequence, values: Sequence):
    """A time of a discrete spectrum (atom at 0 implied by weights with a sum below 1), to 40 digits.

    >>> mp.nstr(spectrum_time("collapse", mp.log(2) / 2, [1], [3]), 12)
    '3.0'
    """
    with mp.workdps(_digits(_number("alpha", alpha))):
        return _curve_time(_kind(kind), _number("alpha", alpha), _Discrete(weights, values))


def isotropic_time(kind: str, alpha, variance=1):
    r"""A time of isotropic data.

    Collapse is :math:`\sigma^2/(e^{2\alpha}-1)`, onset :math:`\sigma^2u/(1-u)` with :math:`u=W_0(e^{1-2\alpha})`.
    Condensation and generalization have no elementary form; they come from the one-atom spectrum.
    """
    with mp.workdps(DIGITS):
        alpha, variance = _number("alpha", alpha), _number("variance", variance)
        if _kind(kind) == "collapse":
            return variance / mp.expm1(2 * alpha)
        if kind == "onset":
            u = mp.re(mp.lambertw(mp.exp(1 - 2 * alpha)))
            return variance * u / (1 - u)
        return variance * spectrum_time(kind, alpha, [1], [1])


def _basin(alpha, t, curve):
    alpha, t = _number("alpha", alpha), _number("t", t)
    t_collapse = _curve_time("collapse", alpha, curve)
    if t <= t_collapse:
        return t_collapse
    x = _monotone_root(lambda x: -curve.point(x)[0] + t)
    _, L, y, _ = curve.point(x)
    return max(mp.mpf(0), t * (1 - (2 * alpha - L) / y))


def basin_squared(alpha, t, *, alpha_D, variances: Sequence = (1,), fractions: Sequence = (1,)):
    r"""Squared radius :math:`\delta_b` of a trap's basin at noise `t`, per dimension, to 40 digits.

    >>> mp.nstr(basin_squared("0.2", 2, alpha_D="0.5"), 12)
    '1.24066197078'
    """
    with mp.workdps(_digits(_number("alpha", alpha))):
        return _basin(alpha, t, _Curve(alpha_D, variances, fractions))


def spectrum_basin_squared(alpha, t, weights: Sequence, values: Sequence):
    """`basin_squared` of a discrete spectrum."""
    with mp.workdps(_digits(_number("alpha", alpha))):
        return _basin(alpha, t, _Discrete(weights, values))


def mutual_information(t, *, alpha_D, variances: Sequence = (1,), fractions: Sequence = (1,)):
    r"""The integrals :math:`\mathcal L`, :math:`\int\rho\frac r{r+t}` and :math:`\int\rho\frac{rt}{(r+t)^2}` at `t`."""
    with mp.workdps(_digits(1 / _number("t", t))):
        t, curve = _number("t", t), _Curve(alpha_D, variances, fractions)
        return curve.point(_monotone_root(lambda x: mp.log(t) - mp.log(curve.point(x)[0])))[1:]
