"""The policy: what the processor decides, forced every way, with plain twins as referees and bounds that hold."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
import torch
from test_empirical_score import SCORE, brute, noisy, relative, training_set

from numerics.domain import DomainError
from validation import EmpiricalScore
from validation.score.engine import POLICIES, Block, Policy, choose_policy, decision
from validation.score.engine.policy import multiplies_bfloat16
from validation.score.engine.reduced import Reduced

CPU = torch.device("cpu")
EAGER = replace(POLICIES["float32"], reduced_work=0)


@pytest.mark.parametrize("name", list(POLICIES))
def test_the_environment_forces_a_policy_and_statistics_show_it(name, monkeypatch):
    monkeypatch.setenv("GEOMEM_POLICY", name)
    X = training_set("isotropic", 300, 6)
    E = EmpiricalScore(X)
    x, _ = noisy(X, 4, 0.1)
    assert relative(E.score(x, 0.1), brute(X, x, 0.1)[2]) < SCORE["float32"]
    assert E.statistics["policy"] == name
    assert E.statistics["threads"] == torch.get_num_threads()
    other = "plain" if name != "plain" else "float32"
    assert EmpiricalScore(X, policy=other)._data.policy.name == other  # the caller's word goes first


@pytest.mark.parametrize(("has", "name"), [(True, "bfloat16"), (False, "float32")])
def test_without_a_word_the_processor_decides(has, name, monkeypatch):
    monkeypatch.delenv("GEOMEM_POLICY", raising=False)
    for feature in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{feature}_supported", lambda: has, raising=False)
    assert multiplies_bfloat16(CPU) is has
    assert choose_policy(CPU).name == name
    assert choose_policy(torch.device("cuda")).name == "bfloat16"


def test_unknown_policies_are_refused(monkeypatch):
    with pytest.raises(DomainError, match=r"policy = fast.*bfloat16, float32, plain"):
        EmpiricalScore(np.eye(2), policy="fast")
    monkeypatch.setenv("GEOMEM_POLICY", "quick")
    with pytest.raises(DomainError, match="GEOMEM_POLICY = quick"):
        EmpiricalScore(np.eye(2))


def test_a_policy_is_frozen_and_says_what_each_constant_is():
    with pytest.raises(FrozenInstanceError):
        POLICIES["float32"].share = 0.5
    named = Policy.__doc__.replace(",", " ").split()
    assert [f.name for f in fields(Policy) if f.name not in named and f.name != "name"] == []


def test_compiled_code_is_not_interpreted():
    code = (
        "from validation.score.engine import POLICIES, choose_policy; import torch\n"
        "assert not any(choose_policy(torch.device('cpu'), name).compiled for name in POLICIES)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=os.environ | {"NUMBA_DISABLE_JIT": "1"})


@pytest.mark.parametrize("kind", ["isotropic", "plane", "clumps"])
@pytest.mark.parametrize(("P", "N"), [(900, 40), (300, 1100)])
def test_bounds_from_few_coordinates_hold(kind, P, N):
    """Axes are orthonormal (also where the data fill a plane only), and no product exceeds what it bounds."""
    E = EmpiricalScore(training_set(kind, P, N), dtype="float64", policy=EAGER)
    data = E._data
    reduced = data.derived(Reduced)
    assert data.derived(Reduced) is reduced
    axes = reduced.axes
    assert (axes.T @ axes - torch.eye(axes.shape[1], dtype=torch.float64)).abs().max() < 1e-12
    x, _ = noisy(training_set(kind, P, N), 20, 0.3)
    block = Block(data, torch.from_numpy(x), torch.full((20,), 0.3, dtype=torch.float64))
    exact = block.centred @ data.tile(0, P, torch.float64).T - data.half_norms
    tightness = []
    for m in reduced.sizes():
        factors = reduced.factors(block, m)
        v = (factors.left @ factors.tile(0, P).T - factors.norms(0, P)).double()
        assert bool((v >= exact - block.error(torch.float32, m + 1)[:, None]).all()), m
        tightness.append(float((v - exact).mean()))
    assert tightness == sorted(tightness, reverse=True)
    assert tightness[0] > 0 or kind == "plane"


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_screens_of_few_coordinates_find_every_weight(dtype, compiled):
    """Noised patterns, clean ones, strangers (whose nearest pattern is far: a second pass) and mixtures of all."""
    X = training_set("isotropic", 6000, 32)
    E, used = EmpiricalScore(X, dtype=dtype, policy=replace(EAGER, compiled=compiled)), set()
    stranger = np.random.default_rng(8).standard_normal((20, 32))
    for t in (1e-6, 1e-3, 0.03, 0.1):
        noised, _ = noisy(X, 20, t)
        clean = X[:20].astype(np.float64)
        for x in (noised, clean, stranger, np.concatenate([noised[:7], clean[:7], stranger[:7]])):
            _, weights, score = brute(X, x, t)
            # at a pattern itself the score is below its own cut: errors are seen on the scale 1/sqrt(t)
            assert np.abs(E.score(x, t) - score).max() <= SCORE[dtype] * max(np.abs(score).max(), t**-0.5)
            assert np.abs(E.participation(x, t) * (weights**2).sum(1) - 1).max() < SCORE[dtype]
            used.add(E.statistics["method"][0])
    assert len([name for name in used if "coordinate" in name]) >= 2


def test_a_bound_that_does_not_hold_is_seen(monkeypatch):
    """Negative control: pairs that weigh, screened out, show in the weights."""
    X = training_set("isotropic", 6000, 32)
    t = 1.2
    x, _ = noisy(X, 20, t)
    _, weights, _ = brute(X, x, t)
    monkeypatch.setattr(decision, "coordinates_to_screen", lambda block, cut: (16, 4.0))
    policy, bounded, missing = replace(EAGER, reduced_share=1.0), decision._bounded, 0.0
    monkeypatch.setattr(
        decision, "_bounded", lambda block, energy, *rest: bounded(block, energy - missing * block.t, *rest)
    )
    errors = []
    for missing in (0.0, 40.0):  # noqa: B007  (about 43 are left above the mean distance of the own pattern)
        E = EmpiricalScore(X, policy=policy)
        errors.append(np.abs(E.weights(x, t) - weights).max())
        assert E.statistics["method"] == ["16-coordinate screen"]
    assert errors[0] < 1e-6 < 1e-3 < errors[1]


@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_policy_gives_the_same_numbers(dtype, policy):
    X = training_set("clumps", 5000, 24)
    E = EmpiricalScore(X, dtype=dtype, policy=policy)
    grid = np.array([1e-4, 0.01, 1.0])
    for t in (1e-5, 0.02, 1.0, 50.0):
        x, own = noisy(X, 8, t)
        _, weights, score = brute(X, x, t)
        assert relative(E.score(x, t), score) < SCORE[dtype]
        assert np.abs(E.weights(x, t) - weights).max() < SCORE[dtype]
        assert E.nearest(x).index.tolist() == weights.argmax(1).tolist()
        profile = E.noisy_profile(X[own], np.ones((8, 24)), grid, own=own)
        assert np.isfinite(profile["own_log_weight"]).all()
