r"""The score of the training set itself, the object a diffusion model that memorises converges to::

    P_t(x) = (1/P) sum_mu N(x; xi_mu, t I),   w = softmax_mu(-|x - xi_mu|^2 / 2t),   s(x, t) = sum_mu w_mu (xi_mu - x)/t

Matrix products on tiles with an online softmax give everything but what they cannot resolve; that is done again in
float64 from differences. Nothing of size queries x P x N is ever formed. Physics: [AALMV25], [BBBM24].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from numerics.domain import DomainError
from validation.devices import device_of
from validation.score.engine import DTYPES, Clusters, Policy, TrainingSet, choose_policy
from validation.score.noise_profile import noise_profile
from validation.score.posterior import Jacobian, PosteriorCovariance
from validation.score.queries import Queries, check_levels, check_queries, check_rows
from validation.score.sharded import Shards
from validation.score.weights import WeightSums, nearest_pattern, weight_sums

__all__ = ["EmpiricalScore", "Nearest"]

LARGEST_NOISE = 1e6

for _dtype in DTYPES.values():  # a first call of MKL's vector functions from two threads at once can be wrong by 6e-10
    torch.exp(torch.zeros(1, dtype=_dtype)), torch.log(torch.ones(1, dtype=_dtype))


class Nearest(NamedTuple):
    """The training point nearest to each query: row of the training set, and squared distance in the data's units."""

    index: Any
    squared_distance: Any


class EmpiricalScore:
    """The empirical score of a training set and what goes with it, for batches of queries, at any noise variance t.

    Parameters
    ----------
    X : (P, N) finite reals, P >= 1; numpy (also `np.memmap`, which is streamed), torch, or a sequence of rows. Kept, not
        copied, for the float64 differences: do not change it afterwards
    device : a torch device, "cpu" or "cuda"
    dtype : "float32" or "float64" (or torch's or numpy's of that name), of the matrix products; every result is combined
        in float64
    clusters : None, or how many clusters ("auto": about sqrt(P)) to build once for certified pruning: at small t a query then
        looks at a few of them only. X is held a second time in their order
    group : None, or a torch.distributed group (True for the default one) whose processes each hold rows of the training
        set; X is then this process's rows, and all processes make the same calls

    policy : None, or how calls are carried out: "bfloat16" (screens by bfloat16 products), "float32" (by float32 products of
        few coordinates) or "plain" (plain torch, no compiled kernels); by default GEOMEM_POLICY, else what suits the processor.
        Results agree to the accuracy of `dtype`

    All methods take x of shape (B, N), or (N,) for one point whose axis is then dropped from the result, and t > 0 a number
    or (B,). They return what they were given: numpy for numpy, torch (same device) for torch, in the query's own floating
    dtype (float64 for integers and for numpy's float16); the profiles return float64 always. `statistics` tells of the last
    call: policy, threads, the method of each block of queries, pairs settled in float64, share of pairs visited, bound on
    the weight that pruning left out of Z.

    Domain: X and x of size at most 1e15, wherever their mean lies, and t in [1e-30, 1e30]. X and x are taken as the exact
    numbers they are stored as. Weights depend on gaps between the `|x - xi|^2/2t`; these come from double-double numbers where
    float64 does not resolve them, and are exact (to the precision of `dtype`) while `|x - xi|^2/2t` of the nearest pattern is
    at most 1e18, and beyond where one pattern is clearly the nearest or the nearest are copies of one row.

    Raises
    ------
    DomainError : wrong shapes, non-finite or huge entries, t outside its range, unknown dtype or device; a query whose nearest
        patterns cannot be ranked, beyond 1e18; a result that the query's dtype cannot hold (float16: above 65504)

    The failure that looks normal: float32 queries. At t = 1e-6 a point of size 1 stored in float32 has itself an error of
    6e-5 sqrt(t); pass float64 queries there. Source: [AALMV25]; [ours: tiles and two-stage refinement].

    >>> import numpy as np
    >>> E = EmpiricalScore(np.array([[-1.0], [1.0]]), dtype="float64")
    >>> x = np.array([0.5])
    >>> bool(np.isclose(E.denoise(x, 0.25)[0], np.tanh(2.0)))
    True
    """

    def __init__(
        self,
        X: Any,
        *,
        device: str | torch.device = "cpu",
        dtype: Any = "float32",
        clusters: int | str | None = None,
        group: Any = None,
        policy: str | Policy | None = None,
    ):
        dtype = _name(dtype) if isinstance(dtype, (str, type, np.dtype, torch.dtype)) else dtype
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise DomainError("dtype", dtype, " or ".join(map(repr, DTYPES)))
        self.device = device_of(device)
        policy = choose_policy(self.device, policy)
        self._data = TrainingSet(X, device=self.device, dtype=DTYPES[dtype], policy=policy)
        self._clusters = None
        if clusters is not None:
            if self._data.streamed:
                raise DomainError("clusters", str(clusters), "None for a memory-mapped X", "Load it with np.array(X)")
            order, sizes = Clusters.order(self._data, clusters)
            self._data = TrainingSet(X, device=self.device, dtype=DTYPES[dtype], order=order, policy=policy)
            self._clusters = Clusters(self._data, sizes)
        self._shards = Shards(group, self._data.P, self.device)
        self.dtype, self.N, self.P = dtype, self._data.N, self._shards.total
        self.statistics: dict[str, Any] = {}

    def log_partition(self, x: Any, t: Any) -> Any:
        """`log sum_mu exp(-|x - xi_mu|^2/2t)`, (B,): the sum, not the mean, and without the Gaussian's normalisation.

        Add -log P - (N/2) log(2 pi t) for the log-density of P_t. Source: [AALMV25].

        >>> import numpy as np
        >>> E = EmpiricalScore(np.array([[-1.0], [1.0]]), dtype="float64")
        >>> round(float(E.log_partition(np.array([0.0]), 0.5)), 12)
        -0.30685281944
        """
        q, sums = self._sums(x, t)
        return q.back(sums.log_z)

    def denoise(self, x: Any, t: Any) -> Any:
        """The posterior mean `sum_mu w_mu xi_mu` of the clean point, (B, N).

        Rounded to the query's dtype: at small t take `score` rather than (denoise - x)/t, which cancels.
        """
        q, sums = self._sums(x, t)
        return q.back(sums.mean)

    def score(self, x: Any, t: Any) -> Any:
        """`sum_mu w_mu (xi_mu - x)/t`, (B, N), in units of 1/length: the gradient of `log_partition` in x.

        Relative error (against float64 differences throughout) below 1e-4 in float32 mode and 1e-10 in float64 mode, for
        t >= 1e-6. Source: [AALMV25].
        """
        q, sums = self._sums(x, t)
        return q.back(sums.displacement / self._t(t, q)[:, None])

    def participation(self, x: Any, t: Any) -> Any:
        """`1/sum_mu w_mu^2`, (B,): how many patterns share the weight, 1 when collapsed, P when t is large. Source: [D81]."""
        q, sums = self._sums(x, t)
        return q.back(sums.participation)

    def weights(self, x: Any, t: Any) -> Any:
        """The weights w_mu themselves, (B, P), exactly 0 where negligible (with shards: this process's columns)."""
        q = check_queries(x, self.N, self.device)
        out = torch.zeros(len(q.x), self._data.P, dtype=torch.float64, device=self.device)
        for row, position, weight in self._covariance(q, t).supports(moment=0):
            out[row, self._data.original(position)] = weight
        return q.back(out)

    def log_weight(self, x: Any, t: Any, index: Any) -> Any:
        """log w of one pattern a query, (B,): `index` an integer or (B,) integers, rows of the whole training set."""
        q, sums = self._sums(x, t)
        rows = check_rows(index, len(q.x), self.P, self.device, "index", required=True)
        return q.back(sums.log_weight_of(self._data, self._shards, q.x, rows))

    def nearest(self, x: Any, exclude: Any = None) -> Nearest:
        """The nearest training point: `index` (B,) int64 row of the whole set, `squared_distance` (B,) `|x - xi|^2`.

        Parameters
        ----------
        exclude : one row a query that does not count, (B,) integers, or None

        The first of equally near rows is returned. Candidates come from products, distances from float64 differences.
        Source: [ours].

        >>> import numpy as np
        >>> EmpiricalScore(np.array([[0.0], [1.0], [3.0]])).nearest(np.array([[1.9]])).index.tolist()
        [1]
        """
        q = check_queries(x, self.N, self.device)
        rows = self._excluded(exclude, q)
        index, squared = nearest_pattern(self._data, self._shards, q.x, rows, self._clusters)
        return Nearest(q.back(index), q.back(squared))

    def jacobian_operator(self, x: Any, t: Any) -> Jacobian:
        """`J(x, t) = -I/t + Cov_w(xi)/t^2` at every query, to be applied, restricted or diagonalised several times."""
        q = check_queries(x, self.N, self.device)
        return Jacobian(self._covariance(q, t), q)

    def jvp(self, x: Any, t: Any, v: Any) -> Any:
        """J(x, t) v, for v of the shape of x, or (B, k, N) for k vectors a query."""
        return self.jacobian_operator(x, t)(v)

    def jacobian(self, x: Any, t: Any, basis: Any = None) -> Any:
        """The Jacobian of the score, (B, N, N); with `basis` (N, k), orthonormal columns, its restriction (B, k, k).

        >>> import numpy as np
        >>> E = EmpiricalScore(np.array([[-1.0], [1.0]]), dtype="float64")
        >>> E.jacobian(np.array([[0.0]]), 0.5).round(12).tolist()  # -1/t + 1/t^2
        [[[2.0]]]
        """
        return self.jacobian_operator(x, t).matrix(basis)

    def jacobian_eigenvalues(self, x: Any, t: Any, basis: Any = None) -> Any:
        """Eigenvalues of `jacobian`, (B, N) or (B, k), ascending (normal directions, at -1/t, first).

        Formed on the effective support: with n < N patterns in it, from an n x n matrix.
        """
        return self.jacobian_operator(x, t).eigenvalues(basis)

    def noisy_profile(self, base: Any, noise: Any, t_grid: Any, own: Any = None) -> dict[str, Any]:
        r"""The weights at x = base + sqrt(t) noise, at every t of a grid, from two products::

            -|x - xi|^2/2t = -|d|^2/2t - noise.d/sqrt(t) - |noise|^2/2,   d = base - xi

        Parameters
        ----------
        base : (B, N), clean points
        noise : (B, N), standard normal draws
        t_grid : (K,), t > 0 in squared data units
        own : rows of the training set that generated the queries, (B,) integers, or None

        Returns
        -------
        A dict of (K, B) float64 arrays: `log_partition`, `log sum_mu exp(-|x - xi_mu|^2/2t)`; `participation`,
        `1/sum_mu w_mu^2`; and, when `own` is given, `own_log_weight`, log w of the own pattern (in float64 precision).

        In float32 mode log_partition is right to about 1e-5 sqrt(N)/t or 1e-4, whichever is larger where no single
        pattern rules, and the weights that matter are refined. Source: [BBBM24]; [ours].

        >>> import numpy as np
        >>> E = EmpiricalScore(np.array([[-1.0], [1.0]]), dtype="float64")
        >>> profile = E.noisy_profile(np.array([[1.0]]), np.array([[0.0]]), [0.5, 2.0], own=[1])
        >>> np.round(np.exp(profile["own_log_weight"][:, 0]), 6).tolist()
        [0.982014, 0.731059]
        """
        q = check_queries(base, self.N, self.device, "base")
        w = check_queries(noise, self.N, self.device, "noise")
        if w.x.shape != q.x.shape or w.single != q.single:
            raise DomainError(
                "noise", f"an array of shape {tuple(w.x.shape)}", f"the shape of base, {tuple(q.x.shape)}"
            )
        if bool((w.x.abs() > LARGEST_NOISE).any()):
            raise DomainError(
                "noise", float(w.x.abs().max()), f"standard normal draws, of size at most {LARGEST_NOISE:g}"
            )
        t = check_levels(t_grid, self.device, name="t_grid")
        rows = check_rows(own, len(q.x), self.P, self.device, "own")
        profile = noise_profile(self._data, self._shards, q.x, w.x, t, rows, keep_own=True)
        half = w.x.square().sum(1)[:, None] / 2
        out = {"log_partition": profile.log_z - half, "participation": profile.participation}
        if profile.own is not None:
            out["own_log_weight"] = profile.own
        return {name: q.back(value.T, dtype=torch.float64, axis=1) for name, value in out.items()}

    def clean_profile(self, x: Any, t_grid: Any, exclude: Any = None) -> dict[str, Any]:
        r"""The weights at a fixed x, at every t of a grid, from one product: log_partition and participation.

        Parameters
        ----------
        x : (B, N)
        t_grid : (K,), t > 0 in squared data units
        exclude : rows of the training set to leave out, one a query, (B,) integers, or None (the leave-one-out sums that
            a training point needs: with its own term log_partition is trivially 0 at small t)

        Returns
        -------
        A dict of (K, B) float64 arrays: `log_partition`, `participation`. Source: [BM24]; [ours].

        >>> import numpy as np
        >>> E = EmpiricalScore(np.array([[-1.0], [1.0]]), dtype="float64")
        >>> E.clean_profile(np.array([[1.0]]), [0.5], exclude=[1])["log_partition"].tolist()
        [[-4.0]]
        """
        q = check_queries(x, self.N, self.device)
        t = check_levels(t_grid, self.device, name="t_grid")
        rows = self._excluded(exclude, q)
        profile = noise_profile(self._data, self._shards, q.x, None, t, rows, keep_own=False)
        out = {"log_partition": profile.log_z, "participation": profile.participation}
        return {name: q.back(value.T, dtype=torch.float64, axis=1) for name, value in out.items()}

    def _t(self, t: Any, q: Queries) -> torch.Tensor:
        return check_levels(t, self.device, count=len(q.x))

    def _sums(self, x: Any, t: Any) -> tuple[Queries, WeightSums]:
        q = check_queries(x, self.N, self.device)
        sums = weight_sums(self._data, self._shards, q.x, self._t(t, q), self._clusters)
        self.statistics = sums.statistics
        return q, sums

    def _covariance(self, q: Queries, t: Any) -> PosteriorCovariance:
        covariance = PosteriorCovariance(self._data, self._shards, q.x, self._t(t, q), self._clusters)
        self.statistics = covariance.sums.statistics
        return covariance

    def _excluded(self, exclude: Any, q: Queries) -> torch.Tensor | None:
        rows = check_rows(exclude, len(q.x), self.P, self.device, "exclude")
        if rows is not None and self.P < 2:
            raise DomainError(
                "exclude", str(exclude), "None for a training set of one row", "Nothing else would be left"
            )
        return rows


def _name(dtype: Any) -> str:
    return getattr(dtype, "__name__", None) or str(dtype).removeprefix("torch.")
