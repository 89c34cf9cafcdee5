"""Conversions between noise conventions: inverse to each other, right against the processes, for numbers, arrays, sympy."""

import numpy as np
import pytest
import sympy as sp

from numerics.domain import DomainError
from theory import noise

PAIRS = [
    (noise.t_from_sigma, noise.t_to_sigma),
    (noise.t_from_ou, noise.t_to_ou),
    (noise.t_from_alpha_bar, noise.t_to_alpha_bar),
    (noise.t_from_flow, noise.t_to_flow),
    (noise.t_from_log_snr, noise.t_to_log_snr),
]


@pytest.mark.parametrize(("forth", "back"), PAIRS, ids=lambda f: f.__name__)
def test_conversions_are_inverse(forth, back):
    t = np.geomspace(1e-6, 1e4, 9)
    assert forth(back(t)) == pytest.approx(t, rel=1e-9)
    assert isinstance(forth(back(0.3)), float)
    symbol = sp.Symbol("t", positive=True)
    assert sp.simplify(forth(back(symbol)) - symbol) == 0


def test_small_times_keep_their_digits():
    assert noise.t_from_ou(1e-12) == pytest.approx(2e-12, rel=1e-11)
    assert noise.t_to_ou(2e-12) == pytest.approx(1e-12, rel=1e-11)


def test_signal_to_noise_is_that_of_each_process():
    """The variance of the noise over the squared factor of the data is t."""
    tau, alpha_bar, s = 0.7, 0.3, 0.8
    assert noise.t_from_ou(tau) == pytest.approx((1 - np.exp(-2 * tau)) / np.exp(-tau) ** 2)
    assert noise.t_from_alpha_bar(alpha_bar) == pytest.approx((1 - alpha_bar) / np.sqrt(alpha_bar) ** 2)
    assert noise.t_from_flow(s) == pytest.approx(s**2 / (1 - s) ** 2)
    assert noise.t_from_log_snr(np.log(4.0)) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: noise.t_from_sigma(-1.0), "sigma"),
        (lambda: noise.t_from_ou(-0.1), "tau"),
        (lambda: noise.t_from_alpha_bar(0.0), "alpha_bar"),
        (lambda: noise.t_from_alpha_bar([0.5, 1.2]), "alpha_bar = 1.2"),
        (lambda: noise.t_to_log_snr(0.0), "t = 0.0"),
        (lambda: noise.t_to_sigma(np.nan), "t = nan"),
    ],
)
def test_outside_the_domain(call, name):
    with pytest.raises(DomainError, match=name):
        call()
