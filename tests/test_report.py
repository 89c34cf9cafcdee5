"""The report's page holds every experiment that it ran, each with figure, numbers and verdict; --full runs them all."""

import inspect
from types import SimpleNamespace

import pytest
import xarray as xr
from matplotlib.figure import Figure

from validation.experiments import EXPERIMENTS, IN_QUICK_REPORT, experiment
from validation.experiments.shared.result import ExperimentResult, Row
from validation.report import command as report
from validation.simulation.prediction import Prediction, judge


def stub(name, asked):
    """An experiment that measures nothing."""

    def run(preset, seed, progress, device):
        asked.append((name, preset, seed, device))
        progress(1, 1)
        verdict = judge(Prediction("number", 1.0), 1.25 + len(asked) / 1000, 0.001)
        return ExperimentResult(name, f"The claim of {name}.", [Row("number", "model", verdict)], xr.Dataset(), {})

    return SimpleNamespace(run=run, figure=lambda result: Figure(figsize=(1, 1)))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_can_be_run_as_the_report_runs_it(name):
    module = experiment(name)
    inspect.signature(module.run).bind(preset="full", seed=0, device="cpu", progress=print)
    inspect.signature(module.figure).bind("result")
    assert {"quick", "full"} <= set(module.PRESETS)


@pytest.mark.parametrize(("full", "names"), [(True, tuple(EXPERIMENTS)), (False, IN_QUICK_REPORT)])
def test_page_has_figure_numbers_and_verdict_of_each(full, names, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(report, "experiment", lambda name: stub(name, asked))
    monkeypatch.setattr(report, "audit", lambda *args, **kwargs: None)  # tested in test_audit
    monkeypatch.setattr(report, "write_audit", lambda *args: [])
    monkeypatch.setattr(report, "audit_section", lambda result: report.Section("Audit"))
    monkeypatch.setattr(report, "_summary", lambda audits, results: [])
    monkeypatch.setattr(report, "diagram_section", lambda folder, points: report.Section("Diagram"))
    monkeypatch.setattr(report, "theory_section", lambda: report.Section("Theory"))
    page, folder = report.write_report(tmp_path / "r.html", full=full, seed=3)
    assert asked == [(name, "full" if full else "quick", 3, "cpu") for name in names]
    text = page.read_text()
    for i, name in enumerate(names, start=1):
        chapter = text.split(f"The claim of {name}.")[1].split("<h2>")[0]
        assert "data:image/png" in chapter
        assert f"{1.25 + i / 1000:.5g}" in chapter
        assert ">disagree<" in chapter
        assert {f"{name}{end}" for end in (".png", ".csv", ".nc")} <= {p.name for p in folder.iterdir()}
