"""Finite-N simulation: samples of every data model, Monte Carlo, crossings, limits, and the verdict on a prediction."""

from validation.simulation.crossings import QUERIES, Size, estimates, measure_sizes, pilot_curves
from validation.simulation.disorder import information, without_disorder
from validation.simulation.extrapolation import (
    TERMS,
    Estimate,
    Form,
    crossing,
    extrapolate,
    jackknife,
    limit_of_logs,
    minimum,
)
from validation.simulation.log_sum_exp import LogSumExp
from validation.simulation.montecarlo import Grids, Measurement, simulate
from validation.simulation.ordering import judge_order
from validation.simulation.prediction import SIGMAS, Outcome, Prediction, Verdict, judge
from validation.simulation.samplers import Sampler, generator
from validation.simulation.trajectories import integrate, karras_levels

__all__ = [
    "QUERIES",
    "SIGMAS",
    "TERMS",
    "Estimate",
    "Form",
    "Grids",
    "LogSumExp",
    "Measurement",
    "Outcome",
    "Prediction",
    "Sampler",
    "Size",
    "Verdict",
    "crossing",
    "estimates",
    "extrapolate",
    "generator",
    "information",
    "integrate",
    "jackknife",
    "judge",
    "judge_order",
    "karras_levels",
    "limit_of_logs",
    "measure_sizes",
    "minimum",
    "pilot_curves",
    "simulate",
    "without_disorder",
]
