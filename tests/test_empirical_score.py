"""The empirical score against float64 brute force by direct differences, in every precision, method and storage."""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch

from numerics.domain import DomainError
from validation.score.empirical_score import EmpiricalScore
from validation.score.engine import POLICIES, Block, decision, workers
from validation.score.engine.copies import Copies
from validation.score.engine.products import add_product, multiply
from validation.score.engine.pruning import Clusters
from validation.score.kernels import tile_kernels, vector_math

SCORE = {"float32": 1e-4, "float64": 1e-10}
LEVELS = (1e-6, 1e-4, 1e-2, 0.3, 3.0, 30.0, 1000.0)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def training_set(kind, P, N, seed=0):
    """float32-representable rows: isotropic, a plane in R^N, or tight clumps where plain float32 sees nothing."""
    rng = np.random.default_rng(seed)
    if kind == "isotropic":
        X = rng.standard_normal((P, N))
    elif kind == "plane":
        X = rng.standard_normal((P, 2)) @ rng.standard_normal((2, N))
    else:
        X = rng.standard_normal((12, N))[rng.integers(12, size=P)] + 1e-3 * rng.standard_normal((P, N))
    return X.astype(np.float32)


def noisy(X, B, t, seed=1):
    rng = np.random.default_rng(seed)
    own = rng.integers(len(X), size=B)
    return X[own] + np.sqrt(t) * rng.standard_normal((B, X.shape[1])), own


def brute(X, x, t):
    """(log Z, weights, score) by direct differences in float64."""
    log_z, weights, score = [], [], []
    for q in x:
        d = X.astype(np.float64) - q
        exponent = -(d * d).sum(1) / (2 * t)
        top = exponent.max()
        w = np.exp(exponent - top)
        log_z.append(top + np.log(w.sum()))
        weights.append(w / w.sum())
        score.append(weights[-1] @ d / t)
    return np.array(log_z), np.array(weights), np.array(score)


def relative(found, exact):
    return (np.linalg.norm(found - exact, axis=-1) / np.linalg.norm(exact, axis=-1)).max()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["isotropic", "plane", "clumps"])
@pytest.mark.parametrize(("P", "N"), [(5000, 64), (700, 784), (300, 3072)])
def test_score_matches_brute_force_at_every_noise_level(P, N, kind, dtype):
    X = training_set(kind, P, N)
    E = EmpiricalScore(X, dtype=dtype)
    for t in LEVELS:
        x, _ = noisy(X, 6, t)
        log_z, weights, score = brute(X, x, t)
        assert relative(E.score(x, t), score) < SCORE[dtype], t
        scale = np.maximum(1.0, np.abs(log_z))
        assert (np.abs(E.log_partition(x, t) - log_z) / scale).max() < SCORE[dtype], t
        assert np.abs(E.participation(x, t) * (weights**2).sum(1) - 1).max() < SCORE[dtype], t
        mean = weights @ X.astype(np.float64)
        assert relative(E.denoise(x, t), mean) < SCORE[dtype], t


def test_plain_float32_distances_fail_that_test():
    # negative control: what the two stages are for
    X = training_set("isotropic", 700, 784)
    errors = []
    for t in (1e-4, 1e-2, 30.0):
        x, _ = noisy(X, 6, t)
        log_z, _, _ = brute(X, x, t)
        squared = torch.cdist(torch.from_numpy(x).float(), torch.from_numpy(X)).double().square()
        errors.append(np.abs(torch.logsumexp(-squared / (2 * t), 1).numpy() - log_z).max())
    assert max(errors) > 1e-2


@pytest.mark.parametrize(
    ("policy", "dtype", "expected"),
    [
        ("bfloat16", "float32", {"bfloat16 screen", "float32 sums"}),
        ("bfloat16", "float64", {"bfloat16 screen", "float64 sums"}),
        ("float32", "float32", {"float32 sums"}),
        ("float32", "float64", {"float32 screen", "float64 sums"}),
        ("reduced", "float32", {"8-coordinate screen", "float32 sums"}),
        ("reduced", "float64", {"8-coordinate screen", "float64 sums"}),
    ],
)
def test_each_method_is_used_and_plain_torch_agrees(policy, dtype, expected):
    """Whatever the processor: a policy is forced, and its plain twin (no compiled kernels) beside it."""
    X = training_set("isotropic", 5000, 64)
    chosen = POLICIES[policy.replace("reduced", "float32")]
    chosen = replace(chosen, reduced_work=0) if policy == "reduced" else replace(chosen, reduced=False)
    methods = set()
    for t in (1e-6, 1e-2, 2.0, 30.0):
        x, _ = noisy(X, 9, t)
        results = []
        for compiled in (True, False):
            E = EmpiricalScore(X, dtype=dtype, policy=replace(chosen, compiled=compiled))
            results.append((E.score(x, t), E.log_partition(x, t), E.participation(x, t)))
            assert E.statistics["policy"] == chosen.name
            methods.add(E.statistics["method"][0])
        tolerance = 2e-6 if dtype == "float32" else 1e-12
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())
    assert methods == expected


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_largest_weight_found_first_changes_no_number(dtype, compiled, monkeypatch):
    """Below collapse, in screens and in sums, on any processor; a "largest" above the true one is seen (negative control)."""
    X = training_set("isotropic", 5000, 64)
    collapse, used = 1 / (5000 ** (2 / 64) - 1), set()
    monkeypatch.setattr(decision, "largest_is_near", lambda *_: True)
    screen, weigh, wrong = decision.screen, decision.weigh, 0.0

    def seen_screen(block, factors, most, window=None, limit=None):
        used.update([] if limit is None or not most else ["screen"])
        return screen(block, factors, most, window, limit)

    def seen_weigh(block, dtype, cut, reach, depth, most, floor=None):
        used.update([] if floor is None else ["sums"])
        return weigh(block, dtype, cut, reach, depth, most, None if floor is None else floor + wrong * block.t)

    monkeypatch.setattr(decision, "screen", seen_screen)
    monkeypatch.setattr(decision, "weigh", seen_weigh)
    for share in (0.2, 0.0):  # of candidates that are settled one by one
        policy = replace(
            POLICIES["bfloat16"],
            compiled=compiled,
            reduced=False,
            worthwhile=(0.9, 0.9),
            known_share=(share, share),
        )
        E = EmpiricalScore(X, dtype=dtype, policy=policy)
        for t in collapse * np.array([0.1, 0.2, 0.3, 0.4]):
            x, _ = noisy(X, 64, t)
            _, weights, score = brute(X, x, t)
            before = used.copy()
            assert relative(E.score(x, t), score) < SCORE[dtype], t
            if "sums" in used - before:
                control = x, t
            assert np.abs(E.participation(x, t) * (weights**2).sum(1) - 1).max() < SCORE[dtype], t
    assert used == {"screen", "sums"}
    wrong, (x, t) = 100.0, control
    with pytest.raises(DomainError, match="not finite"):
        E.score(x, t)


def test_rungs_of_the_ladder_agree(monkeypatch):
    # the same answer when screening, float32 sums or only float64 sums are allowed
    X = training_set("isotropic", 5000, 64)
    x, _ = noisy(X, 10, 1e-3)
    _, _, exact = brute(X, x, 1e-3)
    E = EmpiricalScore(X, policy="bfloat16")
    assert relative(E.score(x, 1e-3), exact) < 1e-6
    assert E.statistics["method"] == ["bfloat16 screen"]
    E = EmpiricalScore(X, policy="float32")
    assert relative(E.score(x, 1e-3), exact) < 1e-6
    assert E.statistics["method"] == ["float32 sums"]
    weigh = decision.weigh

    def refuse(block, dtype, *rest):
        return None if dtype == torch.float32 else weigh(block, dtype, *rest)

    monkeypatch.setattr(decision, "weigh", refuse)
    assert relative(E.score(x, 1e-3), exact) < 1e-6
    assert E.statistics["method"] == ["float64 sums"]


def test_threads_do_not_matter():
    X = training_set("plane", 5000, 64) + training_set("isotropic", 5000, 64, seed=2)
    own = np.arange(70)
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-11)):
        E = EmpiricalScore(X, dtype=dtype)
        for t in (1e-4, 1.0, 10.0, 300.0):
            x, _ = noisy(X, 600, t)
            torch.set_num_threads(1)
            one = E.score(x, t), E.score(x[:5], t), E.noisy_profile(X[own], x[own] - X[own], [t])["participation"]
            torch.set_num_threads(3)
            many = E.score(x, t), E.score(x[:5], t), E.noisy_profile(X[own], x[own] - X[own], [t])["participation"]
            assert torch.get_num_threads() == 3
            for a, b in zip(one, many, strict=True):
                assert np.abs(a - b).max() < tolerance * np.abs(a).max()


def test_alone_leaves_the_number_of_threads_as_it_was():
    device = torch.device("cpu")
    torch.set_num_threads(3)
    with workers.alone(device):
        with workers.alone(device):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
        assert workers.thread_count(device) == 3
        assert workers.in_threads(lambda _: workers.thread_count(device), range(4), device) == [1] * 4
    assert torch.get_num_threads() == workers.thread_count(device) == 3
    with pytest.raises(ZeroDivisionError), workers.alone(device):
        1 / 0  # noqa: B018
    assert torch.get_num_threads() == 3


def test_numpys_blas_has_one_thread_inside_and_its_own_number_afterwards():
    libraries, device = workers._libraries(), torch.device("cpu")
    if not libraries.lib_controllers:
        pytest.skip("a BLAS that does not tell its threads")
    inside, leave = threading.Event(), threading.Event()

    def count():
        return {library.get_num_threads() for library in libraries.lib_controllers}

    def overlapping():
        with workers.alone(device):
            inside.set()
            assert leave.wait(10)

    with libraries.limit(limits=2), ThreadPoolExecutor(1) as pool:
        with workers.alone(device), workers.alone(device):
            assert count() == {1}
            later = pool.submit(overlapping)
            assert inside.wait(10)
        assert count() == {2}
        leave.set()
        later.result()
        assert count() == {2}  # whoever leaves last found one thread, and does not set that for good
        torch.set_num_threads(2)
        assert workers.in_threads(lambda _: count(), range(2), device) == [{1}] * 2
        assert count() == {2}


@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize(("B", "N", "near"), [(3, 8, 0.03), (24, 24, 0.03), (3, 8, 0.6)])
def test_equal_weights_of_millions_of_patterns(B, N, near, policy, monkeypatch):
    """Where most of them are copies (patches of digits are) no sum of theirs may be rounded once a pattern.

    near : share of the patterns that weigh: those of a tile are added one by one, or (0.6) by a product of few rows
    """
    monkeypatch.setattr(decision, "COMMON", 1.0)  # float64 would hide it
    P, t = 1_000_000, 0.25
    x, X, mean = _copies(P, N, B, t, near, far=1.0 + 3 / N)
    E = EmpiricalScore(X, policy=policy)
    np.testing.assert_allclose(E.denoise(x, t), mean, rtol=4e-5)
    assert E.statistics["method"] == ["float32 sums"]


@pytest.mark.parametrize(
    ("N", "far", "t", "jitter"),
    [(4, 3.0, 0.1, 0.0), (3, 8.0, 0.6, 0.0), (2, 8.0, 0.5, 0.0), (8, 8.0, 0.1, 1e-5), (64, 8.0, 0.3, 1e-6)],
)
def test_copies_share_their_rounding(N, far, t, jitter, monkeypatch):
    """A product's rounding is that of all copies of a pattern, or nearly: it does not average out, and float64 has to do it."""
    x, X, _ = _copies(20_000, N, 64, t, 0.6, far)
    X = X + np.float32(jitter) * np.random.default_rng(0).standard_normal(X.shape).astype(np.float32)
    exact = EmpiricalScore(X, dtype="float64").score(x, t)

    def error():
        return (np.linalg.norm(EmpiricalScore(X).score(x, t) - exact, axis=1) / np.linalg.norm(exact, axis=1)).max()

    assert error() < SCORE["float32"]
    monkeypatch.setattr(decision, "COMMON", math.inf)
    assert error() > 5e-5  # what is not alike has less than half of that (next test)


def test_what_is_not_alike_does_not_count_as_copies():
    x, X, _ = _copies(20_000, 8, 64, 0.1, 0.6, far=8.0)
    rng = np.random.default_rng(0)
    unlike = X + 1e-3 * rng.standard_normal(X.shape).astype(np.float32)
    E, exact = EmpiricalScore(unlike), EmpiricalScore(unlike, dtype="float64").score(x, 0.1)
    error = np.linalg.norm(E.score(x, 0.1) - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert error.max() < 2e-5
    assert E.statistics["method"] == ["float32 sums"]
    corners = rng.choice([-1.0, 1.0], size=(2000, 64))
    corners = np.concatenate([corners, -corners])  # all of one norm about a centre at zero, and no two alike
    for rows, many in ((corners, False), (X, True), (X[:63], False)):
        assert (EmpiricalScore(rows.astype(np.float32))._data.derived(Copies).radius > 0) == many


def _copies(P: int, N: int, B: int, t: float, near: float, far: float):
    """(queries, patterns, exact posterior means): two groups of copies near the queries, a third far away."""
    kinds = np.repeat(np.array([[0.5], [0.25], [far]]), N, axis=1)
    counts = np.array([near * P / 2, near * P / 2, (1 - near) * P]).round().astype(int)
    X = np.repeat(kinds.astype(np.float32), counts, axis=0)[np.random.default_rng(0).permutation(counts.sum())]
    x = np.random.default_rng(1).normal(0.4, np.sqrt(t), (B, N))
    energy = ((x[:, None] - kinds.astype(np.float32)) ** 2).sum(2) / 2
    w = counts * np.exp(-(energy - energy.min(1, keepdims=True)) / t)
    return x, X, w @ kinds.astype(np.float32).astype(float) / w.sum(1, keepdims=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("policy", list(POLICIES))
def test_patterns_that_come_nearer_from_tile_to_tile(policy, dtype):
    """The reference rises in every tile, before and after what was summed went into the float64 total."""
    rng = np.random.default_rng(0)
    P, N, t = 200_000, 6, 3.0
    X = rng.standard_normal((P, N)).astype(np.float32)
    x = np.full((5, N), 2.0) + 0.1 * rng.standard_normal((5, N))
    X = X[np.argsort(-((X - 2.0) ** 2).sum(1))]
    exponent = -((x[:, None] - X) ** 2).sum(2) / (2 * t)
    w = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    E = EmpiricalScore(X, dtype=dtype, policy=policy)
    np.testing.assert_allclose(
        E.denoise(x, t), w @ X / w.sum(1, keepdims=True), rtol=4e-5 if dtype == "float32" else 1e-10
    )
    assert E.statistics["method"] == [f"{dtype} sums"]


def test_a_training_set_is_freed_with_its_last_reference():
    """At once: its arrays are large, and a circle would hold them until Python looks for circles."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40_000, 64)).astype(np.float32)
    E = EmpiricalScore(X, policy="float32")  # which has principal axes, and they the set
    gc.disable()
    try:
        x = X[:64] + 0.1 * rng.standard_normal((64, 64))
        E.score(x, 0.01)
        assert "coordinate" in E.statistics["method"][0]
        E.jacobian_eigenvalues(x[:2], 0.01), E.nearest(x), E.noisy_profile(x, x, [0.1]), E.weights(x[:2], 1.0)
        data = weakref.ref(E._data)
        del E
        assert data() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_are_exact_for_integers(dtype, policy):
    rng = np.random.default_rng(0)
    a, b, total = (torch.from_numpy(rng.integers(-8, 9, size=s)).to(dtype) for s in ((5, 40), (40, 7), (5, 7)))
    exact = (a[:, :, None] * b).sum(1)  # integers: no rounding in any order
    out = torch.empty_like(total)
    for right in (b, b.T.contiguous().T):
        multiply(a, right, out, POLICIES[policy])
        assert torch.equal(out, exact)
        added = total.clone()
        add_product(a, right, added, torch.full_like(total, torch.nan), POLICIES[policy])
        assert torch.equal(added, total + exact)


def test_noise_level_may_differ_from_query_to_query_and_blocks_do_not_matter():
    X = training_set("isotropic", 900, 20)
    rng = np.random.default_rng(5)
    t = 10.0 ** rng.uniform(-4, 2, size=600)
    x = X[rng.integers(len(X), size=600)] + np.sqrt(t)[:, None] * rng.standard_normal((600, 20))
    E = EmpiricalScore(X, dtype="float64")
    together = E.score(x, t)
    some = [0, 17, 599]
    for k in some:
        np.testing.assert_allclose(together[k], E.score(x[k], t[k]), rtol=1e-11, atol=1e-11)


def test_score_is_the_gradient_and_jacobian_its_derivative():
    X = training_set("isotropic", 300, 7)
    E, t, h = EmpiricalScore(X, dtype="float64"), 0.4, 1e-5
    x, _ = noisy(X, 3, t)
    step = h * np.eye(7)
    gradient = np.stack([(E.log_partition(x + e, t) - E.log_partition(x - e, t)) / (2 * h) for e in step], 1)
    np.testing.assert_allclose(E.score(x, t), gradient, atol=1e-8)
    derivative = np.stack([(E.score(x + e, t) - E.score(x - e, t)) / (2 * h) for e in step], 2)
    np.testing.assert_allclose(E.jacobian(x, t), derivative, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("P", "N"), [(4500, 20), (150, 200)])
def test_jacobian_in_every_representation(P, N, dtype):
    X = training_set("plane", P, N) + 0.05 * training_set("isotropic", P, N, seed=3)
    E = EmpiricalScore(X, dtype=dtype)
    tolerance = 2e-5 if dtype == "float32" else 1e-10
    rng = np.random.default_rng(2)
    U = np.linalg.qr(rng.standard_normal((N, 3)))[0]
    V = rng.standard_normal((4, 2, N))
    for t in (1e-6, 1e-3, 0.3, 30.0):
        x, _ = noisy(X, 4, t)
        _, weights, score = brute(X, x, t)
        exact = np.empty((4, N, N))
        for b in range(4):
            Y = (X - (x[b] + t * score[b])) * np.sqrt(weights[b])[:, None]
            exact[b] = Y.T @ Y / t**2 - np.eye(N) / t
        scale = np.abs(exact).max()
        J = E.jacobian_operator(x, t)
        assert np.abs(J.matrix() - exact).max() < tolerance * scale
        assert np.abs(J.eigenvalues() - np.linalg.eigvalsh(exact)).max() < tolerance * scale
        assert np.abs(J(V) - np.einsum("bij,bkj->bki", exact, V)).max() < 10 * tolerance * scale
        assert np.abs(E.jvp(x, t, V[:, 0]) - np.einsum("bij,bj->bi", exact, V[:, 0])).max() < 10 * tolerance * scale
        restricted = U.T @ exact @ U
        assert np.abs(E.jacobian(x, t, basis=U) - restricted).max() < tolerance * scale
        assert np.abs(E.jacobian_eigenvalues(x, t, basis=U) - np.linalg.eigvalsh(restricted)).max() < tolerance * scale
        assert np.abs(E.weights(x, t) - weights).max() < tolerance


def profile_by_brute_force(X, base, noise, t, leave_out=None):
    d = base[:, None, :] - X[None].astype(np.float64)
    squared, cross = (d * d).sum(-1), (d * noise[:, None, :]).sum(-1)
    exponent = -squared / (2 * t[:, None, None]) - cross / np.sqrt(t)[:, None, None]
    exponent = exponent - (noise**2).sum(1)[None, :, None] / 2
    if leave_out is not None:
        exponent[:, np.arange(len(base)), leave_out] = -np.inf
    top = exponent.max(2, keepdims=True)
    w = np.exp(exponent - top)
    return exponent, top[..., 0] + np.log(w.sum(2)), w.sum(2) ** 2 / (w**2).sum(2)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "P", "N"), [("isotropic", 3000, 64), ("plane", 900, 784), ("clumps", 900, 64)])
def test_profiles_match_brute_force(kind, P, N, dtype, compiled):
    X = training_set(kind, P, N)
    rng, t = np.random.default_rng(4), np.geomspace(1e-6, 1e3, 19)
    own = rng.integers(P, size=9)
    base, noise = X[own].astype(np.float64), rng.standard_normal((9, N))
    E = EmpiricalScore(X, dtype=dtype, policy="float32" if compiled else "plain")
    exponent, log_z, participation = profile_by_brute_force(X, base, noise, t)
    found = E.noisy_profile(base, noise, t, own=own)
    absolute = 3e-4 if dtype == "float32" else 1e-9
    assert np.abs(found["log_partition"] - log_z).max() < absolute
    assert np.abs(found["own_log_weight"] - (exponent[:, np.arange(9), own] - log_z)).max() < absolute
    assert np.abs(found["participation"] / participation - 1).max() < 2 * absolute
    # agrees with the general engine at x = base + sqrt(t) noise, own pattern included
    x = base + np.sqrt(t[9]) * noise
    np.testing.assert_allclose(found["log_partition"][9], E.log_partition(x, t[9]), rtol=1e-6)
    np.testing.assert_allclose(found["own_log_weight"][9], E.log_weight(x, t[9], own), atol=absolute)
    # a clean point, its own pattern left out; exponents reach 1e9 here, so errors are relative
    still = np.zeros_like(noise)
    _, log_z, participation = profile_by_brute_force(X, base, still, t, leave_out=own)
    clean = E.clean_profile(base, t, exclude=own)
    assert (np.abs(clean["log_partition"] - log_z) / (1 + np.abs(log_z))).max() < absolute
    assert np.abs(clean["participation"] / participation - 1).max() < 2 * absolute
    assert "own_log_weight" not in E.noisy_profile(base, noise, t)


def test_profile_notices_a_wrong_formula():
    # negative control: the cross term forgotten
    X = training_set("isotropic", 500, 8)
    base, noise, t = X[:5].astype(float), np.random.default_rng(0).standard_normal((5, 8)), np.array([0.5])
    _, right, _ = profile_by_brute_force(X, base, noise, t)
    _, wrong, _ = profile_by_brute_force(X, base, 0 * noise, t)
    found = EmpiricalScore(X).noisy_profile(base, noise, t)["log_partition"]
    assert np.abs(found - right).max() < 1e-4 < np.abs(found - wrong).max()


def test_nearest_with_ties_duplicates_and_exclusion():
    X = training_set("isotropic", 5000, 30)
    X[4000] = X[7]
    x = np.vstack([X[7], X[100] + 1e-5, np.full(30, 0.3)])
    exact = ((X[None].astype(np.float64) - x[:, None]) ** 2).sum(-1)
    for dtype in ("float32", "float64"):
        for clusters in (None, 40):
            E = EmpiricalScore(X, dtype=dtype, clusters=clusters)
            found = E.nearest(x)
            assert found.index.tolist() == [7, 100, int(exact[2].argmin())]
            np.testing.assert_allclose(found.squared_distance, exact.min(1), rtol=1e-12)
            other = E.nearest(x, exclude=found.index)
            exact_other = exact.copy()
            exact_other[np.arange(3), found.index] = np.inf
            assert other.index.tolist() == exact_other.argmin(1).tolist()
            assert other.index[0] == 4000
            assert other.squared_distance[0] == 0


def test_clusters_bound_what_they_leave_out():
    X = training_set("plane", 6000, 40) + 0.01 * training_set("isotropic", 6000, 40, seed=9)
    plain, pruned = EmpiricalScore(X, dtype="float64"), EmpiricalScore(X, dtype="float64", clusters="auto")
    used = 0
    for t in (1e-5, 1e-3, 1e-2, 1.0):
        x, _ = noisy(X, 64, t)
        np.testing.assert_allclose(pruned.score(x, t), plain.score(x, t), rtol=1e-9, atol=1e-9)
        used += pruned.statistics["method"] == ["clusters"]
        assert pruned.statistics["visited"] <= 0.05 or pruned.statistics["method"] != ["clusters"]
        assert 0 <= pruned.statistics["left_out"] < 1e-13
        np.testing.assert_allclose(
            pruned.jacobian_eigenvalues(x[:2], t), plain.jacobian_eigenvalues(x[:2], t), rtol=1e-8
        )
        engine = pruned._clusters
        points = torch.from_numpy(x)
        bound, _ = engine.bounds(points)
        rows = torch.from_numpy(X[pruned._data.order].astype(np.float64))
        energy = torch.cdist(points, rows, compute_mode="donot_use_mm_for_euclid_dist").square() / 2
        least = torch.stack([energy[:, a:b].amin(1) for a, b in zip(engine.edges, engine.edges[1:], strict=False)], 1)
        assert bool((bound <= least).all())
        assert bool((bound > 0).any())
        # the certificate holds for the weight really left out
        level = torch.full((64,), t, dtype=torch.float64)
        visit = engine.visit(Block(pruned._data, points, level), 8 * level, 500)
        if visit is not None:
            (row, position), left, _ = visit
            weight = torch.softmax(-energy / t, 1)
            missing = (1 - torch.zeros(64, dtype=torch.float64).index_add_(0, row, weight[row, position])).max()
            total = torch.logsumexp(-energy / t, 1)
            assert float(missing) < engine.left_out(left, level, torch.zeros_like(level), total) + len(X) * np.exp(-8)
    assert used >= 2


def test_clusters_with_a_wrong_bound_are_caught(monkeypatch):
    # negative control: bounds too large drop patterns that matter, here the far sides of cluster borders on a line
    X = (np.linspace(0, 60, 6000)[:, None] * np.linspace(0.5, 1, 40)).astype(np.float32)
    E, t = EmpiricalScore(X, dtype="float64", clusters=80), 2e-3
    x, _ = noisy(X, 64, t)
    right, exact = E.log_partition(x, t), brute(X, x, t)[0]
    assert E.statistics["method"] == ["clusters"]
    assert E.participation(x, t).mean() > 1.5
    np.testing.assert_allclose(right, exact, rtol=1e-12)
    bounds = Clusters.bounds
    monkeypatch.setattr(Clusters, "bounds", lambda self, x: (bounds(self, x)[0] + 0.2, bounds(self, x)[1]))
    try:
        off = np.abs(E.log_partition(x, t) - right).max()
    except DomainError:  # where no pattern at all is left of a row
        off = np.inf
    assert off > 1e-6


def test_plain_torch_search_in_clusters_agrees():
    X = training_set("plane", 6000, 40) + 0.01 * training_set("isotropic", 6000, 40, seed=9)
    t, found = 1e-4, []
    x, _ = noisy(X, 64, t)
    for policy in ("float32", "plain"):
        E = EmpiricalScore(X, clusters="auto", policy=policy)
        found.append(E.score(x, t))
        assert E.statistics["method"] == ["clusters"]
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_memory_mapped_training_set_is_streamed(tmp_path):
    X = training_set("isotropic", 5000, 48)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for dtype in ("float32", "float64"):
        E, M = EmpiricalScore(X, dtype=dtype), EmpiricalScore(mapped, dtype=dtype)
        assert M._data.streamed
        assert not M._data._copies
        for t in (1e-5, 1.0, 30.0):
            x, own = noisy(X, 20, t)
            np.testing.assert_allclose(M.score(x, t), E.score(x, t), rtol=1e-12, atol=1e-12)
            assert M.nearest(x).index.tolist() == E.nearest(x).index.tolist()
            profiles = [e.noisy_profile(X[own], x - X[own], [t, 2 * t], own=own) for e in (E, M)]
            np.testing.assert_allclose(profiles[0]["log_partition"], profiles[1]["log_partition"], rtol=1e-12)
    with pytest.raises(DomainError, match="memory-mapped"):
        EmpiricalScore(mapped, clusters=10)


@pytest.mark.parametrize("source", ["uint8", "int64", "float16", "torch", "fortran", "list"])
def test_any_real_source(source):
    X = np.round(40 * np.abs(training_set("isotropic", 60, 12)))
    given = {
        "torch": lambda: torch.from_numpy(X.copy()),
        "fortran": lambda: np.asfortranarray(X),
        "list": lambda: X.tolist(),
    }.get(source, lambda: X.astype(source))()
    E = EmpiricalScore(given, dtype="float64")
    x = X[:3] + 0.5
    np.testing.assert_allclose(E.score(x, 4.0), brute(X, x, 4.0)[2], rtol=1e-11)


def test_results_come_back_as_the_queries_came():
    X = training_set("isotropic", 50, 6)
    E = EmpiricalScore(X)
    for x in (X[:3], X[:3].astype(np.float64), torch.from_numpy(X[:3]), torch.from_numpy(X[:3]).double()):
        for result, shape in (
            (E.score(x, 0.5), (3, 6)),
            (E.denoise(x, [0.5, 1.0, 2.0]), (3, 6)),
            (E.log_partition(x, 0.5), (3,)),
            (E.jacobian(x, 0.5), (3, 6, 6)),
            (E.nearest(x).squared_distance, (3,)),
        ):
            assert type(result) is type(x)
            assert result.dtype == x.dtype
            assert tuple(result.shape) == shape
    point = X[0].astype(np.float64)
    assert E.score(point, 0.5).shape == (6,)
    assert E.jacobian_eigenvalues(point, 0.5).shape == (6,)
    assert E.jvp(point, 0.5, np.ones((2, 6))).shape == (2, 6)
    assert np.ndim(E.log_partition(point, 0.5)) == 0
    assert E.clean_profile(point, [0.5, 1.0])["participation"].shape == (2,)
    assert E.nearest(point).index == 0
    assert E.score(np.zeros(6, dtype=int), 0.5).dtype == np.float64
    assert EmpiricalScore(X[:1]).score(point + 1, 2.0) == pytest.approx(np.full(6, -0.5), rel=1e-6)


NAN, HUGE = np.full((2, 6), np.nan), np.full((2, 6), 1e200)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("X", lambda X, x: EmpiricalScore(np.empty((0, 4)))),
        ("X", lambda X, x: EmpiricalScore(X[0])),
        ("X", lambda X, x: EmpiricalScore(NAN)),
        ("X", lambda X, x: EmpiricalScore(HUGE)),
        ("X", lambda X, x: EmpiricalScore(np.array([["a", "b"]]))),
        ("X", lambda X, x: EmpiricalScore(X + 1j)),
        ("X", lambda X, x: EmpiricalScore([[1.0], [1.0, 2.0]])),
        ("dtype", lambda X, x: EmpiricalScore(X, dtype="float16")),
        ("device", lambda X, x: EmpiricalScore(X, device="nowhere")),
        ("clusters", lambda X, x: EmpiricalScore(X, clusters=0)),
        ("clusters", lambda X, x: EmpiricalScore(X, clusters=10**6)),
        ("group", lambda X, x: EmpiricalScore(X, group=True)),
        ("x", lambda X, x: EmpiricalScore(X).score(x[:, :5], 1.0)),
        ("x", lambda X, x: EmpiricalScore(X).score(x[None], 1.0)),
        ("x", lambda X, x: EmpiricalScore(X).score(x[:0], 1.0)),
        ("x", lambda X, x: EmpiricalScore(X).score(NAN, 1.0)),
        ("x", lambda X, x: EmpiricalScore(X).score(torch.from_numpy(HUGE), 1.0)),
        ("t", lambda X, x: EmpiricalScore(X).score(x, 0.0)),
        ("t", lambda X, x: EmpiricalScore(X).score(x, -1.0)),
        ("t", lambda X, x: EmpiricalScore(X).score(x, np.nan)),
        ("t", lambda X, x: EmpiricalScore(X).score(x, 1e-40)),
        ("t", lambda X, x: EmpiricalScore(X).score(x, [1.0, 2.0, 3.0])),
        ("noise", lambda X, x: EmpiricalScore(X).noisy_profile(x, x[:1], [1.0])),
        ("t_grid", lambda X, x: EmpiricalScore(X).clean_profile(x, [])),
        ("own", lambda X, x: EmpiricalScore(X).noisy_profile(x, x, [1.0], own=[0, 999])),
        ("own", lambda X, x: EmpiricalScore(X).noisy_profile(x, x, [1.0], own=[0.5, 1.0])),
        ("exclude", lambda X, x: EmpiricalScore(X[:1]).clean_profile(x, [1.0], exclude=0)),
        ("exclude", lambda X, x: EmpiricalScore(X).nearest(x, exclude=-1)),
        ("index", lambda X, x: EmpiricalScore(X).log_weight(x, 1.0, None)),
        ("basis", lambda X, x: EmpiricalScore(X).jacobian(x, 1.0, basis=np.ones((6, 2)))),
        ("basis", lambda X, x: EmpiricalScore(X).jacobian(x, 1.0, basis=np.eye(5))),
        ("v", lambda X, x: EmpiricalScore(X).jvp(x, 1.0, x[:1])),
    ],
)
def test_bad_input_is_named(argument, call):
    X = training_set("isotropic", 20, 6)
    with pytest.raises(DomainError) as caught:
        call(X, X[:2].astype(np.float64))
    assert caught.value.argument == argument


def test_vectorised_exponential_against_mpmath():
    from numba import njit

    @njit
    def run(x, out):
        for j in range(x.size):
            out[j] = vector_math.exp(x[j])

    for dtype, low, limit in ((np.float32, -80.0, 2e-7), (np.float64, -700.0, 4e-16)):
        x = np.linspace(low, 80.0, 997).astype(dtype)
        out = np.empty_like(x)
        run(x, out)
        with mpmath.workdps(30):
            worst = max(
                abs(mpmath.mpf(float(o)) / mpmath.exp(mpmath.mpf(float(v))) - 1) for o, v in zip(out, x, strict=True)
            )
        assert worst < limit


def test_vectorised_power_of_two_against_mpmath():
    from numba import njit

    @njit
    def run(x, out):
        for j in range(x.size):
            out[j] = vector_math.exp2(x[j])

    for dtype, low, high, limit in ((np.float32, -120.0, 120.0, 1.5e-7), (np.float64, -1000.0, 1000.0, 5e-16)):
        x = np.linspace(low, high, 997).astype(dtype)
        out = np.empty_like(x)
        run(x, out)
        with mpmath.workdps(30):
            worst = max(abs(mpmath.mpf(float(o)) / mpmath.mpf(2) ** float(v) - 1) for o, v in zip(out, x, strict=True))
        assert worst < limit
    whole = np.arange(-3.0, 4.0)
    run(whole, out[:7])
    assert (out[:7] == 2**whole).all()  # the weight of the reference itself is 1


@pytest.mark.skipif(not vector_math.COMPILED, reason="compares the compiler with the interpreter")
def test_kernels_run_in_the_interpreter_too():
    rng = np.random.default_rng(0)
    products, h = rng.standard_normal((3, 7)), rng.random(7)

    def weigh(kernel):
        state, mean, recent = np.zeros((4, 3)), np.zeros((3, 2)), np.zeros((3, 2))
        state[0] = -np.inf
        kept, counts = np.zeros(3, np.int64), np.zeros(3, np.int64)
        place, value, weights = np.zeros(64, np.int64), np.zeros(64), products.copy()
        limits = np.array([[30.0, 30.0, 30.0], [-1.0, 0.5, 30.0], [-np.inf, -1.0, -np.inf]])
        out = []
        for shift in (0.0, 0.5):  # a second tile, met with what the first left behind
            weights = products + shift
            end = kernel(
                weights,
                h,
                np.full(3, 2.0),
                state,
                mean,
                recent,
                30.0,
                limits,
                1,
                0,
                place,
                value,
                counts,
                kept,
            )
            out += [
                state.copy(),
                kept.copy(),
                counts.copy(),
                place[: end[0]].copy(),
                value[: end[0]].copy(),
                np.array(end),
            ]
        return out

    for a, b in zip(weigh(tile_kernels.weigh_rows), weigh(tile_kernels.weigh_rows.py_func), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


SHARDED = """
import sys, numpy as np, torch, torch.distributed as dist
sys.path.insert(0, sys.argv[4])
from validation.score.empirical_score import EmpiricalScore
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method="file://" + sys.argv[3], rank=rank, world_size=2)
X = np.load(folder + "/X.npy", mmap_mode="r")
part = X[:3000] if rank == 0 else X[3000:]
out = {}
for dtype in ("float32", "float64"):
    E = EmpiricalScore(np.array(part), dtype=dtype, group=True)
    assert E.P == len(X)
    for t in (1e-4, 0.5, 20.0):
        x, own = np.load(f"{folder}/x{t}.npy"), np.load(folder + "/own.npy")
        tag = f"{dtype} {t} "
        out[tag + "score"] = E.score(x, t)
        out[tag + "log_partition"] = E.log_partition(x, t)
        out[tag + "participation"] = E.participation(x, t)
        out[tag + "jacobian_eigenvalues"] = E.jacobian_eigenvalues(x, t)
        out[tag + "nearest"] = E.nearest(x, exclude=own).index
        out[tag + "log_weight"] = E.log_weight(x, t, own)
        profile = E.noisy_profile(np.array(X[own]), x - X[own], [t, 3 * t], own=own)
        out |= {tag + name: value for name, value in profile.items()}
if rank == 1:
    np.savez(folder + "/out.npz", **out)
dist.barrier()
dist.destroy_process_group()
import os
os._exit(0)  # threads of gloo may outlive the group, and abort a process that ends in the usual way
"""


def test_two_processes_share_the_training_set(tmp_path):
    X = training_set("plane", 5000, 16) + 0.1 * training_set("isotropic", 5000, 16, seed=2)
    np.save(tmp_path / "X.npy", X)
    own = np.array([5, 2999, 3000, 4999])
    np.save(tmp_path / "own.npy", own)
    rng = np.random.default_rng(3)
    queries = {t: X[own] + np.sqrt(t) * rng.standard_normal((4, 16)) for t in (1e-4, 0.5, 20.0)}
    for t, x in queries.items():
        np.save(tmp_path / f"x{t}.npy", x)
    root = str(Path(__file__).resolve().parents[1])
    arguments = [str(tmp_path), str(tmp_path / "rendezvous"), root]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", SHARDED, str(rank), *arguments], env=environment, stderr=subprocess.PIPE
        )
        for rank in (0, 1)
    ]
    try:
        errors = [worker.communicate(timeout=240)[1].decode() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], errors
    with np.load(tmp_path / "out.npz") as found:
        for dtype in ("float32", "float64"):
            E = EmpiricalScore(X, dtype=dtype)
            for t, x in queries.items():
                profile = E.noisy_profile(X[own], x - X[own], [t, 3 * t], own=own)
                alone = {
                    "score": E.score(x, t),
                    "log_partition": E.log_partition(x, t),
                    "participation": E.participation(x, t),
                    "jacobian_eigenvalues": E.jacobian_eigenvalues(x, t),
                    "nearest": E.nearest(x, exclude=own).index,
                    "log_weight": E.log_weight(x, t, own),
                    **profile,
                }
                for name, value in alone.items():
                    tolerance = 1e-4 if dtype == "float32" else 1e-9
                    scale = np.abs(value).max()
                    assert np.abs(found[f"{dtype} {t} {name}"] - value).max() <= tolerance * scale, (dtype, t, name)


@pytest.mark.parametrize("dtype", [torch.float64, np.float64, np.dtype("float64"), "float64"])
def test_dtypes_by_every_name(dtype):
    assert EmpiricalScore(np.eye(3), dtype=dtype).dtype == "float64"


def test_the_package_hands_out_the_engine_and_loads_torch_only_then():
    code = (
        "import sys, validation\n"
        "assert 'torch' not in sys.modules\n"
        "assert not hasattr(validation, 'EmpiricalScores')\n"
        "from validation import EmpiricalScore\n"
        "assert 'torch' in sys.modules\n"
        "assert EmpiricalScore is validation.score.empirical_score.EmpiricalScore\n"
    )
    root = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=120)
