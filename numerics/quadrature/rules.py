"""Gaussian quadrature rules: nodes and positive weights for a few classical weights, or from a Jacobi matrix.

A rule with n nodes integrates polynomials of degree 2n-1 exactly, and analytic functions with an error that falls
geometrically in n. Every rule checks itself when built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.special import roots_hermitenorm

from numerics.domain import DomainError, finite, integer, nonnegative, positive

__all__ = ["Rule", "affine", "chi_squared", "double_exponential", "from_jacobi", "hermite", "semicircle"]


@dataclass(frozen=True, eq=False)
class Rule:
    r"""Nodes and weights of :math:`\int f\,d\mu\approx\sum_iw_if(x_i)`; unpacks as `nodes, weights = rule`.

    Attributes
    ----------
    nodes : (n,) float64 array, strictly increasing, read-only
    weights : (n,) float64 array, >= 0, with sum `mass`, read-only
    mass : float > 0
        Total mass of the measure.

    Raises
    ------
    DomainError
        If the nodes are not increasing, or the weights negative, or not of total `mass` to 1e-12.

    >>> Rule(np.array([-1.0, 1.0]), np.array([0.5, 0.5])).integrate(np.square)
    1.0
    """

    nodes: np.ndarray
    weights: np.ndarray
    mass: float = 1.0

    def __post_init__(self):
        nodes, weights = np.array(finite("nodes", self.nodes)), np.array(nonnegative("weights", self.weights))
        mass = float(positive("mass", self.mass))
        if nodes.ndim != 1 or nodes.size == 0 or nodes.shape != weights.shape:
            raise DomainError("nodes, weights", (nodes.shape, weights.shape), "two vectors of one length >= 1")
        if (np.diff(nodes) <= 0).any():
            raise DomainError("nodes", nodes, "strictly increasing")
        if abs(weights.sum() - mass) > 1e-12 * mass:
            raise DomainError("weights", weights.sum(), f"numbers with sum {mass}")
        for name, array in (("nodes", nodes), ("weights", weights)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "mass", mass)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.nodes, self.weights))

    def integrate(self, f: Callable[[np.ndarray], np.ndarray]) -> float:
        r""":math:`\sum_iw_if(x_i)`; `f` maps the vector of nodes to a vector."""
        return float(np.dot(self.weights, f(self.nodes)))


def affine(rule: Rule, lower: float, upper: float) -> Rule:
    r"""`rule`, made for [-1, 1], carried to [lower, upper] with its weights unchanged.

    :math:`x\mapsto\frac{1-x}2\,\text{lower}+\frac{1+x}2\,\text{upper}`: the rule of the image measure.

    Parameters
    ----------
    rule : Rule with nodes in [-1, 1]
    lower, upper : finite numbers, lower < upper

    Raises
    ------
    DomainError
        If lower >= upper, or if a node lies outside [-1, 1].

    >>> affine(semicircle(4), 0.0, 2.0).integrate(lambda x: x)
    1.0
    """
    lower, upper = float(finite("lower", lower)), float(finite("upper", upper))
    if not lower < upper:
        raise DomainError("lower, upper", (lower, upper), "numbers with lower < upper")
    if abs(rule.nodes[0]) > 1 or abs(rule.nodes[-1]) > 1:
        raise DomainError("rule", rule.nodes[[0, -1]], "a rule with nodes in [-1, 1]")
    nodes = 0.5 * ((1 - rule.nodes) * lower + (1 + rule.nodes) * upper)
    return Rule(nodes, rule.weights, rule.mass)


def semicircle(n: int) -> Rule:
    r"""Gauss-Chebyshev rule of the second kind: the semicircle law :math:`\frac2\pi\sqrt{1-x^2}\,dx` on [-1, 1].

    :math:`x_i=\cos\frac{i\pi}{n+1},\quad w_i=\frac2{n+1}\sin^2\frac{i\pi}{n+1}`.

    Parameters
    ----------
    n : int >= 1

    >>> nodes, weights = semicircle(3)
    >>> round(float(np.dot(weights, nodes**2)), 15)
    0.25
    """
    return _semicircle(integer("n", n, minimum=1))


@lru_cache(maxsize=128)
def _semicircle(n: int) -> Rule:
    theta = np.pi * np.arange(n, 0, -1) / (n + 1)
    nodes = np.sin(np.pi * np.arange(1 - n, n, 2) / (2 * (n + 1)))  # cos(theta), exactly antisymmetric
    return Rule(nodes, 2 / (n + 1) * np.sin(theta) ** 2)


def hermite(n: int) -> Rule:
    r"""Gauss-Hermite rule of the standard normal law N(0, 1) (probabilists' convention, weights of sum 1).

    Parameters
    ----------
    n : int >= 1

    Notes
    -----
    The failure that looks normal: a function narrower than the spacing of the nodes, about :math:`\pi/\sqrt n` near 0,
    is missed without a sign of it.

    >>> round(hermite(10).integrate(lambda x: x**4), 12)
    3.0
    """
    return _hermite(integer("n", n, minimum=1))


@lru_cache(maxsize=128)
def _hermite(n: int) -> Rule:
    nodes, weights = roots_hermitenorm(n)
    # the outermost weights of a large rule underflow; what is lost is below 1e-300
    return Rule(nodes, weights / weights.sum())


def chi_squared(n: int, degrees: float) -> Rule:
    r"""Gauss-Laguerre rule of the :math:`\chi^2` law of a given number of degrees of freedom (weights of sum 1).

    With :math:`a=\tfrac12\text{degrees}-1`, :math:`x/2` obeys the generalised Laguerre recurrence,
    :math:`a_k=2k+a+1,\ b_{k-1}=\sqrt{k(k+a)}`; no gamma function is formed, so that degrees of 1e6 do not overflow.

    Parameters
    ----------
    n : int >= 1
    degrees : number > 0

    >>> round(chi_squared(4, 5).integrate(lambda x: x**2), 12)
    35.0
    """
    n, a = integer("n", n, minimum=1), 0.5 * float(positive("degrees", degrees)) - 1
    k = np.arange(n, dtype=float)
    return from_jacobi(2 * (2 * k + a + 1), 2 * np.sqrt(k[1:] * (k[1:] + a)))


def double_exponential(n: int) -> Rule:
    r"""Tanh-sinh rule of dx on [0, 1], for integrands with singularities of any integrable kind at the ends.

    :math:`x=\frac1{1+e^{-\pi\sinh u}}` on n equidistant u. Not a Gauss rule: exact for no polynomial but constants.

    Parameters
    ----------
    n : int >= 3
        About 50 for 1e-8, 100 for 1e-14.

    Notes
    -----
    The failure that looks normal: nodes next to 1 are rounded, and an integrand that is singular there loses half its
    digits. Put the singularity at 0.

    >>> round(double_exponential(100).integrate(lambda x: x**-0.5), 12)
    2.0
    """
    return _double_exponential(integer("n", n, minimum=3))


@lru_cache(maxsize=128)
def _double_exponential(n: int) -> Rule:
    # down to x = 1e-32, where 1/sqrt x too has no mass left, and up to the last x below 1
    u = np.linspace(-np.arcsinh(74.0 / np.pi), np.arcsinh(36.0 / np.pi), n)
    nodes = 1 / (1 + np.exp(-np.pi * np.sinh(u)))
    weights = nodes * (1 - nodes) * np.cosh(u)
    nodes, label = np.unique(nodes, return_inverse=True)  # of many nodes the last ones round to the same
    return Rule(nodes, np.bincount(label, weights=weights / weights.sum()))


def from_jacobi(diagonal: np.ndarray, off_diagonal: np.ndarray, mass: float = 1.0) -> Rule:
    r"""Gauss rule of the measure whose orthogonal polynomials obey a given three-term recurrence (Golub-Welsch).

    With :math:`x\,p_k=b_kp_{k+1}+a_kp_k+b_{k-1}p_{k-1}` the nodes are the eigenvalues of the tridiagonal Jacobi matrix,
    and the weights `mass` times the squared first components of its eigenvectors.

    Parameters
    ----------
    diagonal : (n,) array
        :math:`a_0,\dots,a_{n-1}`.
    off_diagonal : (n-1,) array of numbers > 0
        :math:`b_0,\dots,b_{n-2}`.
    mass : number > 0

    Notes
    -----
    The failure that looks normal: weights below 1e-16 of the largest carry no correct digit, only the right size.

    >>> nodes, weights = from_jacobi([0.0, 0.0, 0.0], [0.5, 0.5])
    >>> bool(np.allclose(nodes, semicircle(3).nodes, atol=1e-15))
    True
    """
    a, b = finite("diagonal", diagonal), finite("off_diagonal", off_diagonal)
    if a.ndim != 1 or a.size == 0 or b.shape != (a.size - 1,):
        raise DomainError("diagonal, off_diagonal", (a.shape, b.shape), "vectors of length n >= 1 and n - 1")
    if b.size:
        positive("off_diagonal", b)
    nodes, vectors = eigh_tridiagonal(a, b) if a.size > 1 else (a, np.ones((1, 1)))
    weights = vectors[0] ** 2
    return Rule(nodes, mass * weights / weights.sum(), mass)
