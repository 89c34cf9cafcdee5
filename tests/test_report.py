"""The report's page: every experiment with figure, numbers and verdict; an answer that tells ideal from real; what to do."""

import inspect
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from numerics.domain import DomainError
from validation.audit import audit, audit_classes
from validation.data import Dataset, load
from validation.experiments import EXPERIMENTS, IN_QUICK_REPORT, experiment
from validation.experiments.shared.result import ExperimentResult, Row
from validation.points import audit_points
from validation.report import command as report
from validation.report.advice import advice_section, small_classes
from validation.report.answer import answer_of, light_of
from validation.report.diagram import diagram_html, place_of
from validation.report.mathematics import mathematics
from validation.report.page import Answer, Fold, Section, render
from validation.report.subject import asked
from validation.samples import samples, samples_of
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
    monkeypatch.setattr(report, "audit_fold", lambda *args: Fold("Audit"))
    monkeypatch.setattr(report, "_about_the_data", lambda *args: (Answer("Q?", [], "amber", "why"), []))
    monkeypatch.setattr(report, "theory_section", lambda: Section("Theory"))
    page, folder = report.write_report(tmp_path / "r.html", full=full, seed=3)
    assert asked == [(name, "full" if full else "quick", 3, "cpu") for name in names]
    text = page.read_text()
    for i, name in enumerate(names, start=1):
        chapter = text.split(f"The claim of {name}.")[1].split("<details>")[0]
        assert "data:image/png" in chapter
        assert f"{1.25 + i / 1000:.5g}" in chapter
        assert ">disagree<" in chapter
        assert f"geomem validate --only {name}{' --full' if full else ''}</code>" in chapter
        assert f'href="r-files/{name}.nc"' in chapter
        assert {f"{name}{end}" for end in (".png", ".csv", ".nc")} <= {p.name for p in folder.iterdir()}
    assert text.count("1 disagree</summary>") == len(names)  # the verdicts are in the line that is always seen


# --- the answer ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    data = load(limit=240)
    X = np.concatenate([data.X, data.X[:3]])  # three exact duplicates
    return replace(data, X=X, labels=np.concatenate([data.labels, data.labels[:3]]))


@pytest.fixture(scope="module")
def audited(digits):
    return audit(digits, probes=32, twin=False, finite_size=False)


@pytest.fixture(scope="module")
def points(digits, audited):
    return audit_points(digits, duplicates=audited.duplicates, draws=8)


def losses(labels, audited, ratio=1.0):
    """Of a network with these states below the collapse, and with that ratio of training over fresh loss."""
    collapse = audited.row("collapse").data.value
    t = [*(collapse * np.geomspace(0.01, 0.9, len(labels))), 10 * collapse]
    network = np.array([np.full(len(t), 0.5 * ratio), np.full(len(t), 0.5)])
    network[0, -1] = 0.0
    states = np.array([*labels, "memorising"])
    return xr.Dataset(
        {"label": ("t", states), "network": (("where", "t"), network)}, {"t": t, "where": ["training", "fresh"]}
    )


def compared(copies, total=100, null=1):
    from validation.samples.calibration import Fraction

    found = SimpleNamespace(called=Fraction(copies, total), called_fresh=Fraction(null, 100), null="held-out points")
    return SimpleNamespace(found=found)


def test_without_a_model_only_the_ideal_denoiser_is_spoken_of(audited):
    answer = answer_of(audited)
    sigma = audited.row("collapse").data.value ** 0.5
    words = " ".join(answer.words)
    assert (
        f"The ideal denoiser of these {audited.measured.P:,} samples copies them below sigma = {sigma:.3g} ±" in words
    )
    assert "No model was measured" in words
    assert answer.light == "amber"
    assert "your model" not in words + answer.reason


@pytest.mark.parametrize(
    ("labels", "copies", "light"),
    [
        (["generalising", "both"], None, "green"),
        (["generalising", "memorising"], None, "red"),
        (["unconverged"], None, "green"),  # a network that has learned nothing copies nothing
        (None, 0, "green"),
        (None, 30, "red"),
        (None, 1, "amber"),  # its interval holds the null
        (["memorising"], 0, "red"),
        (["generalising"], 30, "red"),
        (["generalising"], 0, "green"),
    ],
)
def test_the_light_is_that_of_the_worst_thing_measured(audited, labels, copies, light):
    """What a network does above the collapse of the ideal score (the last label) does not count: all scores agree there."""
    networks = [] if labels is None else [(100, losses(labels, audited))]
    made = None if copies is None else compared(copies)
    assert light_of(audited, networks, made)[0] == light
    assert answer_of(audited, networks, made).words


@pytest.mark.parametrize(("ratio", "light"), [(1.0, "green"), (0.95, "green"), (0.8, "amber"), (np.nan, "amber")])
def test_a_network_that_is_better_on_its_training_points_is_not_green(audited, ratio, light):
    network = [(100, losses(["generalising", "between"], audited, ratio))]
    assert light_of(audited, network)[0] == light
    words = answer_of(audited, network).words[0]
    assert "was not measured" in words if np.isnan(ratio) else f"{ratio:.2g} to {ratio:.2g} times" in words


def test_advice_says_where_to_stop_and_which_duplicates_go(audited, points):
    section = advice_section(audited, points, None, "geomem audit", "r-files/audit")
    said = dict(section.points)
    sigma = audited.row("generalization").data.value ** 0.5
    assert any(headline.startswith(f"End sampling at sigma = {sigma:.3g}") for headline in said)
    assert "Remove 3 duplicates" in said
    rows = {(row[0], row[1]) for row in section.tables[0].rows}
    assert rows == {(f"row {i}", f"row {240 + i}") for i in range(3)}


def test_advice_names_the_classes_that_are_too_small(audited, digits):
    rows = audit_classes(digits, t=audited.measured.t, probes=8)
    assert small_classes(rows) == [row for row in rows if row.reason]  # of 24 or so, fewer than can be measured
    section = advice_section(audited, None, rows, "geomem audit", "r-files/audit")
    headline = next(h for h, _ in section.points if "classes" in h)
    assert headline.startswith(f"{len(rows)} of {len(rows)} classes are small")


def test_place_in_the_phase_diagram(audited):
    place = place_of(audited)
    assert place["t"] == pytest.approx(audited.row("collapse").data.value / audited.spectrum.mean_variance)
    assert 0 < place["alpha_D"] < 1
    with pytest.raises(StopIteration):  # negative control: a diagram without a model is an error
        diagram_html({}, place)


# --- what goes in, what comes out ----------------------------------------------------------------------------------------


def test_samples_of_a_loaded_training_set_are_those_of_its_file(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.standard_normal((60, 5)))
    np.save(tmp_path / "made.npy", np.concatenate([rng.standard_normal((20, 5)), np.load(tmp_path / "x.npy")[:5]]))
    by_file = samples(tmp_path / "made.npy", tmp_path / "x.npy").found
    loaded = samples_of(tmp_path / "made.npy", load(tmp_path / "x.npy")).found
    assert by_file.to_dataset().equals(loaded.to_dataset())


def test_a_checkpoint_knows_its_data(geomem, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((40, 3)))
    run = geomem("train", "x.npy", "-P", "10,20", "--steps", 2, "--width", 4, "--out", "m.safetensors")
    assert run.returncode == 0, run.stderr
    model = tmp_path / "m.safetensors"
    subject = asked(None, model, seed=0)
    assert subject.data.P == 20
    assert subject.data.held_out is not None
    assert subject.command("audit", "--model", "m") == "geomem audit --model m"
    assert subject.command("audit", "--points") == f"geomem report --model {model}"  # of its own training set
    assert subject.spectrum_subject().P == 20
    with pytest.raises(DomainError, match=r"^DATA"):
        asked(tmp_path / "x.npy", model, seed=0)
    with pytest.raises(DomainError, match=r"^--limit"):
        asked(None, model, seed=0, limit=10)
    with pytest.raises(DomainError, match=r"^--centre"):
        asked(None, model, seed=0, network={"centre": 1.0})


def test_bad_input_is_told_before_any_work(geomem, tmp_path):
    for arguments, name in (
        (["--model", "missing"], "--model"),
        (["missing.npy"], "missing.npy"),
        (["--samples", "missing.npy"], "missing.npy"),
        (["--unit", "2"], "--unit"),
    ):
        run = geomem("report", *arguments, "--out", "r.html")
        assert run.returncode == 2
        assert name in run.stderr
        assert not (tmp_path / "r.html").exists()
        assert not (tmp_path / "r-files").exists()


def test_names_are_text_and_symbols_are_mathematics():
    assert mathematics("<script>") == "&lt;script&gt;"
    assert "<mi>&#x003B2;</mi>" in mathematics("beta_*, see")
    assert mathematics("tP, don't, P-value, file.P.csv") == "tP, don&#39;t, P-value, file.P.csv"
    page = render(Answer("<b>?", ["t_c"], "red", "why"), [Section("At t_c & more")], [("key", "<i>")])
    assert "<b>?" not in page
    assert "&lt;i&gt;" in page
    assert 'href="#at-t-c-more"' in page
    assert 'id="at-t-c-more"' in page


def test_rows_that_are_no_images_are_listed(tmp_path):
    from validation.report.answer import exposed_table

    X = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    X[7] = 6.0
    table = exposed_table(audit_points(Dataset(X, "rows", (4,), "data units", "a test"), draws=8))
    assert table.rows[0][0] == "row 7"
    assert len(table.rows) == 20
