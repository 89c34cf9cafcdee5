"""What a notebook shows: models, equations, solutions and verdicts; every text escaped."""

from html.parser import HTMLParser

import numpy as np
import pytest
import sympy as sp
import xarray as xr

import theory
from numerics.display import Shown, card, grid, number, plain
from theory import (
    HiddenManifold,
    Isotropic,
    LinearManifold,
    Mixture,
    PowerLaw,
    RandomFeatures,
    Spectrum,
    StationaryField,
    Subspaces,
    collapse_time,
    true_point_weight,
)
from theory.finite_size import finite_size_times
from theory.jacobian.phases import phase_times
from theory.jacobian.spectral_gaps import gap_opening_times, spectral_gaps
from theory.rem import LinearSaddle, gaussian_rem
from theory.rem.asymptotics import small_load
from theory.subspaces.losing_dimensions import FrozenLevel, GaussianLevel, MarginalLevel
from theory.training import finite_sample_loss
from validation.experiments.shared import ExperimentResult, Row
from validation.simulation import Prediction, judge
from validation.window import extrapolate_time

EVIL = "<script>alert(1)</script>"


class Balance(HTMLParser):
    """Tags and text of a piece of HTML; complains where a tag is closed that is not the last one open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def curious(h):
    return np.tanh(h)


curious.__qualname__ = curious.__name__ = EVIL

MODELS = [
    Isotropic(2.0),
    Isotropic(sp.Symbol(EVIL, positive=True)),
    LinearManifold(0.5, variances=[1.0, 0.09]),
    LinearManifold(np.linspace(0.1, 1, 40)),
    Subspaces([0.3, 0.3], [1.0, 0.09]),
    Spectrum(np.arange(64.0)),
    PowerLaw(2.0, N=50),
    StationaryField.power_law(8),
    HiddenManifold(0.5, "relu"),
    HiddenManifold(0.5, curious),
    Mixture([0.9, 0.1], [Isotropic(1.0), Isotropic(0.5)]),
    RandomFeatures(Isotropic(1.0), psi_p=8, psi_n=3, t=0.2),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_models_show_name_law_and_parameters(model):
    shown = model._repr_html_()
    page = Balance(shown)
    assert type(model).__name__ in page.text
    assert page.tags.count("tr") >= 1
    assert "script" not in page.tags
    assert len(shown) < 2000
    assert model._law == "" or model._law in page.text


def test_every_data_model_shows_itself():
    names = (
        "HiddenManifold",
        "ImageCovariance",
        "Isotropic",
        "LinearManifold",
        "Mixture",
        "PowerLaw",
        "Spectrum",
        "Subspaces",
    )
    assert all(issubclass(getattr(theory, name), Shown) for name in names)


def test_a_script_in_a_name_is_text():
    for shown in (card(EVIL, {EVIL: EVIL}, formula=EVIL), grid(EVIL, [EVIL], [[EVIL]])):
        page = Balance(shown)
        assert "script" not in page.tags
        assert page.text.count(EVIL) >= 3
    prediction = Prediction(EVIL, 1.0, tolerance=0.1)
    row = Row(EVIL, EVIL, judge(prediction, 1.01, 0.02), EVIL)
    for thing in (row, row.verdict, ExperimentResult(EVIL, EVIL, [row], xr.Dataset())):
        page = Balance(thing._repr_html_())
        assert "script" not in page.tags
        assert EVIL in page.text


def test_long_tables_are_folded():
    assert "details" not in Balance(grid("", ["n"], [[1]] * 24)).tags
    page = Balance(grid("", ["n"], [[1]] * 25))
    assert "details" in page.tags
    assert "25 rows" in page.text


def test_equations_and_derivations_show_as_mathematics():
    rem, saddle, law = gaussian_rem(), LinearSaddle(), small_load("collapse")
    assert r"\rho(r)" in rem._repr_latex_()
    assert r"\mathrm{extr}" in saddle._repr_latex_()
    assert sp.latex(law.equation) in Balance(law._repr_html_()).text
    assert collapse_time.equation(Isotropic(1.0))._repr_latex_().startswith("$")


def test_solutions_and_estimates_show_value_and_status():
    solved = collapse_time.solve(LinearManifold(0.5), alpha=[0.1, 0.2])
    page = Balance(solved._repr_html_())
    assert "2 of 2 cells OK" in page.text
    assert page.tags.count("tr") == 3
    scalar = Balance(collapse_time.solve(LinearManifold(0.5), alpha=0.2)._repr_html_())
    assert scalar.tags.count("tr") == 2
    weight = Balance(true_point_weight(Isotropic(1.0), P=100, N=10, t=[0.1, 1.0])._repr_html_())
    assert "error" in weight.text


TWO = Subspaces([0.3, 0.3], [1.0, 0.09])


@pytest.mark.parametrize(
    ("ask", "name", "said"),
    [
        (lambda: phase_times(TWO), "PhaseTimes", "coverage"),
        (lambda: spectral_gaps(TWO, 0.1), "SpectralGaps", "dimension"),
        (lambda: gap_opening_times(TWO), "GapTimes", "opening"),
        (lambda: finite_sample_loss(Isotropic(1.0), P=30, N=60, t=0.1), "LinearDenoiserLoss", "population"),
        (lambda: finite_size_times(Isotropic(1.0), P=30, N=6, samples=2), "FiniteTimes", "generalization"),
        (lambda: extrapolate_time([32, 32, 64], [100.0, 95.0, 210.0], 128, exponent=1.0), "Extrapolated", "exponent"),
    ],
)
def test_results_show_their_fields(ask, name, said):
    page = Balance(ask()._repr_html_())
    assert name in page.text
    assert said in page.text


@pytest.mark.parametrize(
    "level", [FrozenLevel(), GaussianLevel(), MarginalLevel()], ids=lambda level: type(level).__name__
)
def test_levels_show_their_formula(level):
    tex = level._repr_latex_()
    assert tex.startswith("$")
    assert tex.endswith("$")
    assert "lambda" in tex or "log" in tex or r"e^{" in tex or r"\frac" in tex


def test_verdicts_show_theory_measurement_and_outcome():
    verdict = judge(Prediction("t_c", 1.4096), 1.4071, 0.0031)
    text = Balance(verdict._repr_html_()).text
    assert "1.4071 ± 0.0031" in text
    assert "agree" in text
    result = ExperimentResult("times", "They hold.", [Row("t_c", "linear", verdict)], xr.Dataset())
    text = Balance(result._repr_html_()).text
    assert "1 agree, 0 disagree, 0 inconclusive" in text
    assert "They hold." in text


def test_numbers_are_short():
    assert number(677.4, 9.0) == "677.4 ± 9"
    assert number(0.05, float("nan")) == "0.05"
    assert plain(np.full(9, np.nan)) == "9 numbers"
    assert plain(np.array(0.25)) == "0.25"
    assert plain(np.zeros((3, 4), dtype=object)) == "array of shape (3, 4)"
