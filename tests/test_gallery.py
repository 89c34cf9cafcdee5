"""The gallery's scripts run in their small settings, and hold what a page of the gallery promises."""

import re
import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "docs" / "examples").glob("plot_*.py"))
CHEAP = ("plot_continuous_variances", "plot_training_spectrum")  # seconds each
SETTING = 'full = os.environ.get("GEOMEM_GALLERY") == "full"\n'


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs a script as the gallery does, in an empty folder; returns what it prints and how many figures it draws."""
    monkeypatch.delenv("GEOMEM_GALLERY", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)  # Agg would warn that it shows nothing
    plt.switch_backend("Agg")

    def ran(script):
        try:
            runpy.run_path(str(script), run_name="__main__")
            return capsys.readouterr().out, len(plt.get_fignums())
        finally:
            plt.close("all")

    return ran


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s.stem in CHEAP], ids=lambda s: s.stem)
def test_a_cheap_script_runs(script, run):
    printed, figures = run(script)
    assert printed
    assert figures == 1


@pytest.mark.slow
@pytest.mark.parametrize("script", [s for s in SCRIPTS if s.stem not in CHEAP], ids=lambda s: s.stem)
def test_every_other_script_runs(script, run):
    printed, figures = run(script)
    assert printed
    assert figures == 1


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_a_page_holds_claim_curve_and_what_survives(script):
    text = script.read_text(encoding="utf-8")
    for heading in (r"\*\*The figures?\*\*", r"\*\*Our curves?\*\*", r"\*\*What survives\.?\*\*"):
        assert re.search(heading, text), heading
    assert text.count(SETTING) == text.count("GEOMEM_GALLERY") == 1  # one variable, read in one way
    assert re.search(r"\bfull\b", text.partition(SETTING)[2])
    survives = text[re.search(r"\*\*What survives\.?\*\*", text).start() :]
    assert not re.search(r"\d", survives) or "print(" in text  # a page that quotes numbers prints them
