"""Times and errors of the public functions, in asv's names: `asv run`, `asv publish` and `asv preview` draw their history."""

from __future__ import annotations

import subprocess
import sys

import numpy as np


class Times:
    """Collapse times: a million loads of a linear manifold, a 16 x 16 diagram of tanh."""

    timeout = 300

    def setup(self) -> None:
        from theory import HiddenManifold, LinearManifold, collapse_time

        self.collapse_time = collapse_time
        self.alpha = np.random.default_rng(0).uniform(1e-3, 3, 1_000_000)
        self.linear, self.tanh = LinearManifold(0.5), HiddenManifold(np.linspace(0.1, 1.5, 16)[None, :], "tanh")
        self.loads = np.linspace(0.05, 1.0, 16)[:, None]
        collapse_time(self.linear, self.alpha[:10])
        collapse_time(self.tanh, self.loads[:1])

    def time_linear_manifold(self) -> None:
        self.collapse_time(self.linear, self.alpha)

    def time_tanh_diagram(self) -> None:
        self.collapse_time(self.tanh, self.loads)


class Score:
    """The empirical score of 20 000 isotropic points, 64 queries, condensed (0.01 t_c) to spread (100 t_c)."""

    params = (0.01, 1.0, 100.0)
    param_names = ("t_over_t_c",)

    def setup(self, share: float) -> None:
        from validation import EmpiricalScore

        N, P = 64, 20_000
        rng = np.random.default_rng(0)
        X = rng.standard_normal((P, N)).astype(np.float32)
        self.t = share / (P ** (2 / N) - 1)
        self.x = (X[:64] + self.t**0.5 * rng.standard_normal((64, N))).astype(np.float32)
        self.score = EmpiricalScore(X, dtype="float32")
        self.exact = EmpiricalScore(X.astype(float), dtype="float64")
        self.score.score(self.x, self.t)

    def time_score(self, share: float) -> None:
        self.score.score(self.x, self.t)

    def track_error(self, share: float) -> float:
        """Largest error of sqrt(t) times the score against float64."""
        difference = self.score.score(self.x, self.t) - self.exact.score(self.x.astype(float), self.t)
        return float(np.abs(difference).max()) * self.t**0.5


class Local:
    """LS and ELS of 300 images of 16 x 16, patches of 7 x 7."""

    params = (False, True)
    param_names = ("equivariant",)

    def setup(self, equivariant: bool) -> None:
        from validation.score.local import LocalScore

        rng = np.random.default_rng(0)
        images = rng.standard_normal((300, 16, 16)).cumsum(axis=1).cumsum(axis=2).astype(np.float32) / 16
        self.x = images[:4] + 0.3 * rng.standard_normal((4, 16, 16)).astype(np.float32)
        self.score = LocalScore(images, 7, equivariant)
        self.score.denoise(self.x[:1], 0.09)

    def time_denoise(self, equivariant: bool) -> None:
        self.score.denoise(self.x, 0.09)


class StartUp:
    """Fresh processes."""

    def time_import_theory(self) -> None:
        subprocess.run([sys.executable, "-c", "import theory"], check=True)

    def time_help(self) -> None:
        subprocess.run([sys.executable, "-m", "geomem", "--help"], check=True, stdout=subprocess.DEVNULL)
