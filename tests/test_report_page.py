"""The page in a browser: no error, sliders move curves, links lead somewhere, nothing sticks out of a phone, paper has all."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from theory.phase_diagram import phase_diagram
from validation.report.diagram import diagram_html
from validation.report.page import Answer, FigureData, Fold, Section, render
from validation.report.sections import theory_section
from validation.tables import TableData

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("GEOMEM_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PHONE, DESK = {"width": 390, "height": 800}, {"width": 1200, "height": 900}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page of everything that a report has, from cheap pieces."""
    drawn = Figure(figsize=(9, 3))
    drawn.subplots(1, 3)[0].plot([0, 1])
    picture = FigureData(
        "ladder", drawn, "The ladder; t_c.", "r-files/ladder.nc", "geomem audit " + "x" * 90, wide=True
    )
    wide = TableData("Times t = sigma².", [f"t_c of a long column {i}" for i in range(14)], [["0.123 ± 0.004"] * 14])
    grid = phase_diagram(np.geomspace(0.01, 1, 9), np.geomspace(0.05, 1, 5))
    place = {"name": "a <b> data set", "alpha": 0.1, "alpha_D": 0.2, "t": 0.7, "error": 0.1}
    sections = [
        Section("What to do", ["Stop at t_g, P = 100."], [("End at sigma = 0.3", "Because of t_g.")], tables=[wide]),
        theory_section(),
        Section("Phase diagram: where your data lie", html=diagram_html({"linear": grid}, place, N=64)),
        Section("Verdicts", folds=[Fold("12 agree, at t_cond", ["Behind the fold."], [wide], [picture])]),
    ]
    answer = Answer("Does it copy?", ["Below sigma = 0.5, beta_* says."], "amber", "Not measured.", [picture], [wide])
    path = tmp_path_factory.mktemp("page") / "r.html"
    path.write_text(render(answer, sections, [("seed", "0"), ("long", "y" * 200)], plots=True), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shown(page_file):
    """The page in a headless Chromium of the system, loaded once, and the list of all its errors and requests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip(f"no Chromium here: none of {', '.join(NAMES)} on the path, and GEOMEM_CHROMIUM is not set")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, "--disable-sync"])
        page, errors = browser.new_page(viewport=DESK), []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else errors.append(r.url))
        page.goto(Path(page_file).as_uri())
        page.wait_for_selector("#diagram-lines .main-svg")
        yield page, errors
        browser.close()


@pytest.fixture
def opened(shown):
    """A function (viewport) -> page; an error of the page or its console fails the test, as does a request to a network."""
    page, errors = shown

    def run(viewport):
        page.set_viewport_size(viewport)
        return page

    yield run
    assert errors == []


def curve(page):
    return page.evaluate("Array.from(document.getElementById('diagram-lines').data[1].y)")


def slide(page, name, value):
    script = "([id, v]) => { const e = document.getElementById(id); e.value = v; e.dispatchEvent(new Event('input')); }"
    page.evaluate(script, [name, value])


def test_page_has_no_errors_and_asks_no_network(shown):
    page, errors = shown
    assert errors == []
    page.evaluate("console.error('a deliberate one')")  # negative control: the listener hears
    page.wait_for_timeout(50)
    assert errors == ["a deliberate one"]
    errors.clear()


def test_sliders_move_curves_and_their_numbers(opened):
    page = opened(DESK)
    traces = page.evaluate("document.getElementById('diagram-lines').data.map(trace => trace.name)")
    assert "a <b> data set" in traces  # the user's point, its name as text
    slide(page, "latent", 1)
    before, told = curve(page), page.inner_text("#diagram-told")
    slide(page, "latent", 4)
    after = curve(page)
    assert all(b != a for a, b in zip(before, after, strict=True))
    assert page.inner_text("#latent-value").startswith("1.00")
    # the curve is the theory's at that latent dimension
    from theory import LinearManifold, collapse_time

    expected = collapse_time(LinearManifold(1.0), alpha=np.geomspace(0.01, 1, 9))
    np.testing.assert_allclose(after, expected, rtol=2e-4)
    slide(page, "load", -1.0)
    assert page.inner_text("#diagram-told") != told
    value = float(collapse_time(LinearManifold(1.0), alpha=0.1))
    read = page.inner_text("#diagram-told").replace("\n", "").split("tc = ")[1].split(",")[0]
    assert float(read) == pytest.approx(value, rel=0.03)


def test_contents_lead_somewhere(opened):
    page = opened(DESK)
    targets = page.evaluate("Array.from(document.querySelectorAll('nav a')).map(a => a.getAttribute('href'))")
    assert len(targets) == 5
    for target in targets:
        assert page.locator(f"[id='{target[1:]}']").count() == 1, target
    ids = page.evaluate("Array.from(document.querySelectorAll('h2')).map(e => e.id)")
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("unfolded", [False, True])
def test_nothing_sticks_out_of_a_phone(opened, unfolded):
    page = opened(PHONE)
    page.evaluate(f"document.querySelectorAll('details').forEach(fold => fold.open = {str(unfolded).lower()})")
    page.wait_for_timeout(300)  # the plots follow the width
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    # what is wider scrolls inside its own frame, and can be reached
    inner = page.evaluate("document.querySelector('.scroll table').parentElement.scrollWidth")
    assert inner > PHONE["width"]
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "auto"


def test_paper_shows_what_is_folded(opened):
    page = opened(DESK)
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = false)")
    hidden = page.get_by_text("Behind the fold.")
    assert not hidden.is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert hidden.is_visible()
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not hidden.is_visible()


def test_symbols_are_mathematics_everywhere(page_file):
    """In headings, captions, table heads and text, with or without a browser."""
    text = page_file.read_text().split("<body>")[1]
    text = text.split("<script>")[0]
    for place in ("<th", "<caption", "<summary", "<h3", "<figcaption", "<p>"):
        parts = [part.split("</")[0] for part in text.split(place)[1:]]
        assert any("<math" in part for part in parts), place
    outside = text.replace("geomem times --alpha-d 0.5 --alpha 0.2", "")
    for symbol in ("t_c", "t_g", "t_cond", "beta_*", "alpha_D"):
        assert symbol not in outside.split("</nav>")[0].replace('alt="The ladder; t_c."', ""), symbol
    assert "a <b>" not in text  # a data set's name is never markup
