r"""What a noisy patch tells of the clean one, and why its REM collapses when that equals the logarithm of the number of patches.

.. math:: I(\xi;x)=h(x)-h(x|\xi)=\frac12\sum_j\log(1+r_j/t),\qquad \text{collapse: } \log P_p=I .

For any law of the data the typical free energy of the other patches is :math:`\log P_p+E_x\log p_t(x)+\frac n2\log2\pi t`, and
collapse, where it equals :math:`-\frac n2`, is :math:`\log P_p=h(x)-\frac n2\log2\pi et=I`: the criterion of [HKG26] and the
condition of the REM are one equation, for Gaussian patches and for all others. They differ where n is small: the REM's levels
fluctuate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from numerics.domain import DomainError, positive
from theory.loads import patch_load
from theory.models import Field, Spectrum
from theory.notation import r, t
from theory.result import Result
from theory.times import critical_alpha

__all__ = ["information_criterion", "markov_information", "markov_limit", "patch_information", "residual_entropy"]

rho = sp.Symbol("rho", real=True)  # correlation of neighbouring pixels
variance = sp.Symbol("s", positive=True)  # of a pixel


def information_criterion() -> Result:
    r"""Per eigenvalue: the difference of two Gaussian entropies, which is half the summand of the REM's collapse equation.

    >>> information_criterion().equation
    log(r/t + 1)/2
    """

    def entropy(v: sp.Expr) -> sp.Expr:  # of a Gaussian coordinate of variance v
        return sp.log(2 * sp.pi * sp.E * v) / 2

    information = sp.logcombine(entropy(r + t) - entropy(t), force=True)
    return Result(
        "mutual information of a clean and a noisy coordinate",
        sp.log(sp.expand(sp.exp(2 * information))) / 2,
        "Gaussian data of variance r, noise variance t > 0",
        sources=("HKG26",),
    )


def patch_information(model: Field | Spectrum, t: Any, patch: Any = None, *, equivariant: bool = False) -> Any:
    r"""Mutual information of a clean and a noisy patch, :math:`I=\frac12\sum_j\log(1+r_j/t)`, in nats.

    Parameters
    ----------
    model : a field with `.patch(width)`, or the Spectrum of one patch (then leave `patch` out)
    t : number or array > 0, VE time in squared data units; patch : odd width; equivariant : the bag of all places

    Returns
    -------
    float or array of the shape of t. Source: [HKG26, KG24].

    >>> from theory.models import StationaryField
    >>> round(patch_information(StationaryField.power_law(32), 1.0, 1), 12)  # log(2)/2
    0.34657359028
    """
    t = positive("t", t)
    if patch is not None:
        if not isinstance(model, Field):
            raise DomainError("patch", patch, f"left out for a {type(model).__name__}", "Patches are those of a field")
        model = model.patch(patch, equivariant=equivariant)
    elif not isinstance(model, Spectrum):
        raise DomainError("model", model, "a field, or the Spectrum of a patch")
    return model.N * critical_alpha(model, t)  # of collapse: the load whose collapse time is t


def residual_entropy(model: Any, t: Any, P: Any, patch: Any = None, *, equivariant: bool = False) -> Any:
    """Logarithm of how many patches share the weight at a typical noisy patch, max(0, log P_p - I). Source: [HKG26]."""
    load = patch_load(model, P, equivariant=equivariant)
    entropy = np.maximum(0.0, load - patch_information(model, t, patch, equivariant=equivariant))
    return float(entropy) if entropy.ndim == 0 else entropy


def markov_information() -> sp.Expr:
    r"""Szego's limit for a Markov field: information per pixel of a long patch, :math:`\frac12\int\frac{dk}{2\pi}\log(1+S(k)/t)`.

    A chain of pixels of variance s and correlation :math:`\rho^{|i-j|}` has
    :math:`S(k)=s(1-\rho^2)/(1-2\rho\cos k+\rho^2)`. With :math:`A=1+\rho^2+s(1-\rho^2)/t` the integral is
    :math:`\log\frac12(A+\sqrt{A^2-4\rho^2})`, because :math:`\int\frac{dk}{2\pi}\log(A-2\rho\cos k)` has the derivative
    :math:`1/\sqrt{A^2-4\rho^2}` in A, and vanishes for the denominator, A = 1 + rho^2.

    >>> float(markov_information().subs({rho: 0, variance: 3, t: 1}))  # log(2)
    0.6931471805599453
    """
    A = 1 + rho**2 + variance * (1 - rho**2) / t
    return sp.log((A + sp.sqrt(A**2 - 4 * rho**2)) / 2) / 2


def markov_limit(correlation: Any, t: Any, pixel_variance: Any = 1.0) -> Any:
    """`markov_information` as a number: nats per pixel of a long one-dimensional patch.

    >>> round(markov_limit(0.9, 0.1), 6)
    0.623091
    """
    t, s = positive("t", t), positive("pixel_variance", pixel_variance)
    c = np.asarray(correlation, dtype=float)
    if not (np.abs(c) < 1).all():
        raise DomainError("correlation", correlation, "numbers in (-1, 1)")
    value = sp.lambdify((rho, variance, sp.Symbol("t", positive=True)), markov_information(), "numpy")(c, s, t)
    return float(value) if np.ndim(value) == 0 else value
