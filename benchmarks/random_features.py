"""Entry `random_features`: spectrum and diagrams of training, beside damped iteration, direct eigenvalues and the contour.

The damped iteration stops above the axis, at Im z = 1e-6 of z; the eigenvalues are those of one draw of the equivalent linear
features.
"""

from __future__ import annotations

import numpy as np

from benchmarks.harness import Row, Settings, median_seconds, ratios
from theory import Isotropic, RandomFeatures

T = float(np.expm1(0.02))
CELLS = 100  # a side of a diagram


def run(settings: Settings) -> list[Row]:
    """Seconds of a density, of a learning curve, and of three diagrams of 100 x 100 cells."""
    return _density(settings) + _curves(settings) + _diagrams(settings)


def _density(settings: Settings) -> list[Row]:
    features = _features()
    z = np.concatenate([np.geomspace(low * 1.01, high * 0.99, 334) for low, high in features.support])
    density, (q, sweeps) = features.density(z), damped(features.parameters, z)
    measured = [
        ("ours: RandomFeatures.density", median_seconds(lambda: features.density(z)), float("nan"), ""),
        (
            "damped iteration, numpy",
            median_seconds(lambda: damped(features.parameters, z), 1, warm=False),
            float(np.abs(q.imag / np.pi / density - 1).max()),
            f"{sweeps} sweeps",
        ),
    ]
    fine = np.concatenate([np.geomspace(low, high, 400) for low, high in features.support])
    rho = features.density(fine)
    cdf = np.concatenate([[0], np.cumsum((rho[1:] + rho[:-1]) / 2 * np.diff(fine))]) * 64 / 9  # of n + N out of p
    for N in (20,) if settings.tiny else (100, 200) if settings.quick else (100, 200, 400):
        values = eigenvalues(features, N, np.random.default_rng(0))
        seconds = median_seconds(lambda N=N: eigenvalues(features, N, np.random.default_rng(0)), 1, warm=False)
        error = float(np.abs(np.searchsorted(values, fine) / values.size - cdf).max())
        measured.append((f"eigenvalues of one draw, N = {N}", seconds, error, "error: of the distribution function"))
    return ratios("random_features", f"density at {z.size} points", "density, relative", measured)


def _curves(settings: Settings) -> list[Row]:
    tau = np.geomspace(1, 1e7, 200)
    known = _features()
    measured = [
        (
            "ours: a new model, edges and contour",
            median_seconds(lambda: _features().learning_curve(tau)),
            float("nan"),
            "",
        ),
        ("ours: the contour is known", median_seconds(lambda: known.learning_curve(tau)), float("nan"), ""),
    ]
    return ratios("random_features", "learning curve at 200 times", "", measured)


def _diagrams(settings: Settings) -> list[Row]:
    side = 3 if settings.tiny else CELLS
    tau, samples = np.geomspace(1, 1e7, side), np.geomspace(1.5, 60, side)

    def end(by):
        return [[by(p, n)[1] for p in np.geomspace(2, 100, side)] for n in samples]

    def contour(p, n):
        curve = _features(p, n).learning_curve(np.inf)
        return float(curve.train), float(curve.test)

    few = np.array([[(p, n) for p in (2.0, 9.0, 60.0)] for n in (2.0, 7.0, 40.0)]).reshape(-1, 2)
    error = max(abs(_features(p, n).final_losses()[1] / contour(p, n)[1] - 1) for p, n in few)
    here = median_seconds(lambda: end(lambda p, n: _features(p, n).final_losses()), 1)
    there = median_seconds(lambda: [contour(p, n) for p, n in few], 1) / len(few) * side**2
    cells = f"{side} x {side} cells"
    rows = ratios(
        "random_features",
        f"end of training over (n, p), {cells}",
        "test loss, relative",
        [
            ("ours: the resolvent at z = 0", here, error, ""),
            ("ours: the contour", there, float("nan"), f"from {len(few)} cells"),
        ],
    )
    for name, curves in (
        ("(n, tau)", lambda: [_features(64, n).learning_curve(tau).test for n in samples]),
        ("(t, tau)", lambda: [_features(t=t).learning_curve(tau).test for t in np.geomspace(1e-3, 3, side)]),
    ):
        seconds = median_seconds(curves, 1, warm=False)
        rows += ratios("random_features", f"test loss over {name}, {cells}", "", [("ours", seconds, float("nan"), "")])
    return rows


def _features(psi_p: float = 64, psi_n: float = 8, t: float = T) -> RandomFeatures:
    return RandomFeatures(Isotropic(1.0), psi_p, psi_n, t, "tanh")


def damped(parameters, z, damping=0.5, tolerance=1e-10, limit=100_000):
    """The fixed point of the published equations, all z at once: q and the number of sweeps."""
    p, n, a, b, v, s2 = parameters
    z = z * (1 + 1e-6j)
    q, r = -1 / z, -1 / z
    sweeps = 0
    while sweeps < limit:
        sweeps += 1
        y = 1 + p / n * (a * r + v * q)
        inverse = 1 / (b * p + 1 / q + p * a / y)
        new = (p - 1 + inverse / q) / (p * (s2 - z + v / y))
        step = np.abs(new - q) / np.abs(q)
        q, r = q + damping * (new - q), r + damping * (inverse - r)
        if step.max() < tolerance:
            break
    return q, sweeps


def eigenvalues(features, N, rng):
    """Nonzero eigenvalues of one draw of the equivalent linear features, through the (n + N) x (n + N) Gram matrix."""
    p, n, a, b, v, s2 = features.parameters
    p, n = int(p * N), int(n * N)
    W, X = rng.standard_normal((p, N)), rng.standard_normal((N, n))
    G = np.sqrt(a / N) * (W @ X) + np.sqrt(v) * rng.standard_normal((p, n))
    B = np.concatenate([G / np.sqrt(n), np.sqrt(b / N) * W], axis=1)
    return np.linalg.eigvalsh(B.T @ B) + s2
