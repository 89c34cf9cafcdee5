"""The equation of each time for each model, in sympy, and its solution in closed form where there is one."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import sympy as sp

from theory.models import GaussianModel, Isotropic, LinearManifold, Mixture, Spectrum, Subspaces
from theory.notation import N, SpectralAverage, alpha, alpha_D, beta, delta, t
from theory.rem.gaussian import explicit_curve, gaussian_rem, integrals

__all__ = ["NoClosedForm", "closed_form", "time_equation"]

_t_star = sp.Symbol("t_cond", positive=True)
_t_g = sp.Symbol("t_g", positive=True)


class NoClosedForm(NotImplementedError):
    """The equation has no solution in elementary functions and the Lambert W function."""


def time_equation(kind: str, model: Any) -> sp.Basic:
    r"""The equation for the time of `kind`, as `sympy.Eq`, or `And` of equations with a parameter.

    Finite spectra are written out; `Spectrum` keeps the integral over :math:`\rho`; the linear manifold is explicit in a
    parameter, V or :math:`\chi` (see `theory.rem.gaussian.explicit_curve`). The generalization time adds the equation of
    :math:`t_{cond}`. A mixture has a tuple of equations, one a class, at the loads :math:`\alpha+\log(\pi_k)/N`.

    >>> time_equation("collapse", LinearManifold(sp.Symbol("alpha_D", positive=True)))
    Eq(t, -V*(V*alpha_D - alpha_D + 1)/(alpha_D*(V - 1))) &
    Eq(2*alpha, alpha_D*(V - 1) - alpha_D*log(V) - log(alpha_D*(V - 1) + 1))
    """
    if isinstance(model, Mixture):
        loads = (alpha + sp.log(weight) / N for weight in map(sp.nsimplify, model.weights))
        equations = (time_equation(kind, m) for m in model.models)
        return sp.Tuple(*(e.subs(alpha, load) for e, load in zip(equations, loads, strict=True)))
    if not isinstance(model, GaussianModel):
        return _other_equation(model, kind)
    average = integrals(gaussian_rem())["condensation" if kind == "generalization" else kind].subs(delta, 0)
    noise = integrals(gaussian_rem())["generalization"]
    if isinstance(model, LinearManifold):
        latent = (tuple(map(sp.nsimplify, model.variances)), tuple(map(sp.nsimplify, model.fractions)))
        value, time, _ = explicit_curve(average, *latent)
        equations = [sp.Eq(2 * alpha, value), sp.Eq(t, time)]
        if kind == "generalization":
            ratio = explicit_curve(noise, *latent)[0]
            equations = [sp.Eq(2 * alpha, value), sp.Eq(_t_g, time * ratio)]
        return sp.And(*(e.subs(alpha_D, sp.sympify(model.alpha_D)) for e in equations), evaluate=False)
    if kind == "generalization":
        return sp.And(
            sp.Eq(2 * alpha, _over(average, model).subs(t, _t_star)),
            sp.Eq(_t_g, (t * _over(noise, model)).subs(t, _t_star)),
            evaluate=False,
        )
    return sp.Eq(2 * alpha, _over(average, model))


@singledispatch
def _other_equation(model: Any, kind: str) -> sp.Basic:
    """Equation for a model without a spectrum: in terms of its own g; models may register a fuller one."""
    from theory.rem.energy_model import RandomEnergyModel

    g = sp.Function("g")(beta, delta)
    rem = RandomEnergyModel(g)
    if kind == "generalization":
        return sp.Eq(_t_g, rem.optimal_noise.subs(t, _t_star))
    return sp.Eq(alpha, rem.alpha_at(kind))


def _over(average: SpectralAverage, model: GaussianModel) -> sp.Expr:
    if isinstance(model, Spectrum):
        return average
    if isinstance(model, Isotropic):
        return average.over([1], [sp.sympify(model.variance)])
    return average.over(list(map(sp.nsimplify, model.fractions)), list(map(sp.nsimplify, model.variances)))


def closed_form(kind: str, model: Any, load: sp.Expr) -> sp.Expr:
    r"""The time of `kind` as a formula in `load`: collapse and onset of a single variance.

    Raises
    ------
    NoClosedForm
        for other times and models; their `.equation(model)` is there in any case.

    >>> closed_form("onset", Isotropic(1), sp.Symbol("a", positive=True))
    LambertW(exp(1 - 2*a))/(1 - LambertW(exp(1 - 2*a)))
    """
    single = isinstance(model, Isotropic) or (isinstance(model, Subspaces) and len(model.variances) == 1)
    if single and kind in ("collapse", "onset"):
        # r/t = z with log(1+z) + [z/(1+z)] = 2 alpha / fraction
        fraction, variance = (
            (1, model.variance) if isinstance(model, Isotropic) else (*model.fractions, *model.variances)
        )
        scaled = 2 * load / sp.nsimplify(fraction)
        if kind == "collapse":
            inverse = sp.exp(scaled) - 1
            return sp.nsimplify(variance) / inverse
        w = sp.LambertW(sp.exp(1 - scaled))  # w = 1/(1+z) solves w + log w = 1 - 2 alpha
        return sp.nsimplify(variance) * w / (1 - w)
    raise NoClosedForm(f"the {kind} time of {model} has no closed form; see {kind}_time.equation(model)")
