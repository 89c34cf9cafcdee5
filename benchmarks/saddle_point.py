"""Entry `saddle_point`: one update of the matched saddle, time against error, beside tramp and nested scipy quad, to t = 1e-6.

The activation is abs, which tramp has too. The referee integrates the closed form of the posterior by panels of Gauss-Legendre
nodes; its own error is the change when the nodes of a panel are doubled. tramp is the package of github.com/sphinxteam/tramp
(the tramp of the package index is another one); it is asked for the variance v of the posterior, E f^2 = (V - v)/V^2.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
from scipy.special import erfcx, log_ndtr

from benchmarks.bench_replica import scipy_iteration
from benchmarks.harness import Row, Settings, median_seconds, ratios, skipped
from numerics.channel.moments import MATCHED
from theory.models.hidden import HiddenManifold
from theory.replica.engine import ReplicaEngine

TIMES = (0.574377, 1e-2, 1e-4, 1e-6)


def run(settings: Settings) -> list[Row]:
    """Peers are called once: a call takes seconds. Nested quad, told of no peak, is asked at one tolerance at small t."""
    rows, engine = [], ReplicaEngine(HiddenManifold(0.5, "abs"))
    for t in TIMES[:1] if settings.tiny else TIMES[::3] if settings.quick else TIMES:
        q = 0.4944948 if t > 0.1 else 1 - 1.1 * t
        V, one = 1 - q, np.ones(1)

        def ours(q=q, V=V, t=t, one=one) -> float:
            return float(engine.channel.moments(q * one, one, V * one, V * one, one / t, t * one, MATCHED).f_square[0])

        exact, finer = (referee(q, t, nodes) for nodes in (40, 80))
        about = f"referee {finer:.10g}, good to {abs(exact / finer - 1):.0e}"
        case = f"abs, t = {t:g}"
        measured = [("ours: channel kernel", median_seconds(ours, 7), abs(ours() / finer - 1), about)]
        for tolerance in () if settings.tiny else (1e-1, 1e-3, 1e-6) if t > 0.1 else (1e-3,):
            measured.append(
                _once(
                    f"nested scipy quad, {tolerance:.0e}",
                    lambda q=q, t=t, d=tolerance: scipy_iteration(q, t, d, np.abs, 8),
                    finer,
                )
            )
        try:
            from tramp.channels import AbsChannel
        except ImportError as error:
            rows += [*ratios("saddle_point", case, "E f^2, relative", measured)]
            rows.append(skipped("saddle_point", case, "tramp", f"peer not installed: {error}"))
            continue

        def theirs(V=V, t=t) -> float:
            return (V - AbsChannel().compute_backward_error(1 / V, 1 / t, 1.0)) / V**2

        measured.append(_once("tramp, AbsChannel", theirs, finer))
        rows += ratios("saddle_point", case, "E f^2, relative", measured)
    return rows


def _once(name: str, call, exact: float) -> tuple[str, float, float, str]:
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        value = float(call())
    note = "called once" + (f", {len(told)} warnings, first: {str(told[0].message).split('.')[0]}" if told else "")
    return name, time.perf_counter() - start, abs(value / exact - 1), " ".join(note.split())


def referee(q: float, t: float, nodes: int) -> float:
    """E f^2 of x = |omega + sqrt(V) y| + sqrt(t) noise, f = (<z> - omega)/V, from the two half-lines' closed form."""
    V = 1 - q
    x_nodes, x_weights = np.polynomial.legendre.leggauss(nodes)
    width, reach = np.sqrt(V + t), 12.0

    def panels(cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = cuts[:-1], cuts[1:]
        half, middle = (high - low) / 2, (high + low) / 2
        return (middle[:, None] + half[:, None] * x_nodes).ravel(), (half[:, None] * x_weights).ravel()

    edge = 14 * width
    near = np.linspace(0, edge, 15)
    cuts = np.concatenate([near, np.linspace(edge, max(edge + 1, 9.0), 9)[1:]])
    omega, weight = panels(cuts)  # omega > 0, by symmetry
    total = 0.0
    for om, w in zip(omega, weight * 2 * np.exp(-(omega**2) / (2 * q)) / np.sqrt(2 * np.pi * q), strict=True):
        low = max(om - reach * width, -reach * np.sqrt(t))
        x, wx = panels(np.linspace(low, om + reach * width, 13))
        total += w * (wx * _weighted_square(x, om, V, t)).sum()
    return float(total)


def _weighted_square(x: np.ndarray, omega: float, V: float, t: float) -> np.ndarray:
    """Z f^2."""
    v = V * t / (V + t)
    logs, means = [], []
    for sign in (1, -1):
        centre = (omega * t + sign * x * V) / (V + t)
        u = sign * centre / np.sqrt(v)
        logs.append(log_ndtr(u) - (x - sign * omega) ** 2 / (2 * (V + t)))
        hazard = np.sqrt(2 / np.pi) / erfcx(-u / np.sqrt(2))  # phi(u)/Phi(u)
        shift = (sign * x - omega) * V / (V + t)
        means.append(shift + sign * np.sqrt(v) * hazard)
    top = np.maximum(*logs)
    share = np.exp(logs[0] - top), np.exp(logs[1] - top)
    Z = np.exp(top) * (share[0] + share[1]) / np.sqrt(2 * np.pi * (V + t))
    mean = (share[0] * means[0] + share[1] * means[1]) / (share[0] + share[1])
    return Z * (mean / V) ** 2
