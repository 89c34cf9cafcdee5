r"""Conversions of noise level: variance-exploding time, EDM sigma, Ornstein-Uhlenbeck time, DDPM alpha-bar, log-SNR.

The house speaks variance-exploding time :math:`t=\sigma^2`, :math:`x=\xi+\sqrt t\,\omega`. All others are a change of variable
(and a rescaling of x, which leaves the physics alone). Every function takes numbers, arrays or sympy expressions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from numerics.domain import DomainError, finite, nonnegative

__all__ = [
    "t_from_alpha_bar",
    "t_from_flow",
    "t_from_log_snr",
    "t_from_ou",
    "t_from_sigma",
    "t_to_alpha_bar",
    "t_to_flow",
    "t_to_log_snr",
    "t_to_ou",
    "t_to_sigma",
]


def _checked(name: str, value: Any, *, strict: bool = False) -> Any:
    if isinstance(value, sp.Basic):
        return value, sp
    array = nonnegative(name, value)
    if strict and (array == 0).any():
        raise DomainError(name, 0.0, "finite and > 0")
    return array, np


def _plain(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 and not isinstance(value, sp.Basic) else value


def t_from_sigma(sigma: Any) -> Any:
    r"""VE time from the noise standard deviation of EDM, :math:`t=\sigma^2`, :math:`\sigma\ge0` in data units.

    >>> t_from_sigma(0.5)
    0.25
    """
    sigma, _ = _checked("sigma", sigma)
    return _plain(sigma**2)


def t_to_sigma(t: Any) -> Any:
    r"""Noise standard deviation :math:`\sigma=\sqrt t`.

    >>> t_to_sigma(0.25)
    0.5
    """
    t, lib = _checked("t", t)
    return _plain(lib.sqrt(t))


def t_from_ou(tau: Any) -> Any:
    r"""VE time from Ornstein-Uhlenbeck (variance-preserving) time, :math:`t=e^{2\tau}-1`, :math:`\tau\ge0`.

    There :math:`x=e^{-\tau}\xi+\sqrt{1-e^{-2\tau}}\,\omega`; divide x by :math:`e^{-\tau}`.

    >>> round(t_from_ou(0.5), 12)
    1.718281828459
    """
    tau, lib = _checked("tau", tau)
    return sp.exp(2 * tau) - 1 if lib is sp else _plain(np.expm1(2 * tau))


def t_to_ou(t: Any) -> Any:
    r"""Ornstein-Uhlenbeck time :math:`\tau=\frac12\log(1+t)`.

    >>> t_to_ou(0.0)
    0.0
    """
    t, lib = _checked("t", t)
    return sp.log(1 + t) / 2 if lib is sp else _plain(0.5 * np.log1p(t))


def t_from_alpha_bar(alpha_bar: Any) -> Any:
    r"""VE time from DDPM's cumulative signal fraction, :math:`t=(1-\bar\alpha)/\bar\alpha`, :math:`0<\bar\alpha\le1`.

    There :math:`x=\sqrt{\bar\alpha}\,\xi+\sqrt{1-\bar\alpha}\,\omega`; divide x by :math:`\sqrt{\bar\alpha}`.

    >>> t_from_alpha_bar(0.5)
    1.0
    """
    if not isinstance(alpha_bar, sp.Basic):
        alpha_bar = finite("alpha_bar", alpha_bar)
        bad = (alpha_bar <= 0) | (alpha_bar > 1)
        if bad.any():
            raise DomainError("alpha_bar", float(alpha_bar[bad].flat[0]), "in (0, 1]")
    return _plain((1 - alpha_bar) / alpha_bar)


def t_to_alpha_bar(t: Any) -> Any:
    r"""DDPM's :math:`\bar\alpha=1/(1+t)`.

    >>> t_to_alpha_bar(0.25)
    0.8
    """
    t, _ = _checked("t", t)
    return _plain(1 / (1 + t))


def t_from_flow(s: Any) -> Any:
    r"""VE time from the time of linear flow matching, :math:`t=(s/(1-s))^2`, :math:`0\le s<1`.

    There :math:`x=(1-s)\,\xi+s\,\omega`; divide x by :math:`1-s`. A shifted schedule changes which s are visited, not this.

    >>> t_from_flow(0.5)
    1.0
    """
    s, lib = _checked("s", s)
    if lib is np and (s >= 1).any():
        raise DomainError("s", float(s[s >= 1].flat[0]), "in [0, 1)")
    return _plain((s / (1 - s)) ** 2)


def t_to_flow(t: Any) -> Any:
    r"""Time of linear flow matching :math:`s=\sqrt t/(1+\sqrt t)`.

    >>> t_to_flow(1.0)
    0.5
    """
    t, lib = _checked("t", t)
    return _plain(lib.sqrt(t) / (1 + lib.sqrt(t)))


def t_from_log_snr(log_snr: Any) -> Any:
    r"""VE time from the logarithm of the signal-to-noise ratio, :math:`t=e^{-\lambda}`.

    >>> t_from_log_snr(0.0)
    1.0
    """
    if isinstance(log_snr, sp.Basic):
        return sp.exp(-log_snr)
    return _plain(np.exp(-finite("log_snr", log_snr)))


def t_to_log_snr(t: Any) -> Any:
    r"""Logarithm of the signal-to-noise ratio :math:`\lambda=-\log t`, :math:`t>0`.

    >>> t_to_log_snr(1.0)
    -0.0
    """
    t, lib = _checked("t", t, strict=True)
    return _plain(-lib.log(t))
