"""Two derivations of the finite-N drift, made apart, agree: `theory.finite_size.drift` and `theory.finite_size.corrections`."""

import math

import numpy as np
import pytest

from theory import Isotropic, Subspaces, collapse_time, onset_time
from theory.finite_size.corrections import collapse_time_first_order, onset_time_first_order
from theory.finite_size.drift import finite_size_value

KINDS = {
    # kind: (limit, first order, order in 1/N by which N log t may still differ)
    "onset": (onset_time, onset_time_first_order, 1.0),
    "collapse": (collapse_time, collapse_time_first_order, 0.5),
}


def drifts(kind, model, alpha, N):
    """N log(t(N)/t) of both, at the same log(P - 1) = alpha N."""
    limit, first, _ = KINDS[kind]
    log_P = alpha * N + math.log1p(math.exp(-alpha * N))
    t = limit(model, alpha)
    return tuple(
        N * math.log(value / t) for value in (finite_size_value(kind, model, alpha, N), first(model, log_P=log_P, N=N))
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", [Isotropic(1.0), Subspaces([0.3, 0.3], [1.0, 0.09])], ids=["isotropic", "subspaces"])
@pytest.mark.parametrize("alpha", [0.2, 0.5])
def test_both_derivations_have_the_same_drift(kind, model, alpha):
    """The coefficients of 1/N meet, at the order that each derivation says it leaves out: 1/N at onset, N^(-1/2) at collapse."""
    sizes = np.array([1600, 6400, 25_600])
    numeric, closed = np.array([drifts(kind, model, alpha, N) for N in sizes]).T
    gap = np.abs(numeric - closed)
    assert gap[-1] < 0.02 * abs(closed[-1])
    slopes = np.diff(np.log(gap)) / np.log(4)
    assert slopes == pytest.approx(-KINDS[kind][2], abs=0.12)


def test_a_drift_without_its_correction_would_be_seen():
    """Without the skewness (onset) or the condensed half (collapse) the drift of isotropic data would be 0."""
    for kind in KINDS:
        numeric, closed = drifts(kind, Isotropic(1.0), 0.2, 25_600)
        assert abs(numeric) > 20 * abs(numeric - closed)
