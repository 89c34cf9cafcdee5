"""Links and images of the pages: each relative one leads to a file, and each start page's path is at most four pages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *(
        page
        for page in sorted((ROOT / "docs").rglob("*.md"))
        if "_build" not in page.parts and "gallery" not in page.parts
    ),
]
LINKS = [
    r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)",  # [text](target), ![text](target)
    r"^```\{(?:image|figure)\}\s+(\S+)",
    r"src=\"([^\"]+)\"",
]


def broken(page: Path, text: str) -> list[str]:
    """Relative targets of a page's links and images that are not there; code blocks and formulas are not links."""
    prose = re.sub(r"^```(?!\{(?:image|figure)\}).*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$|`[^`\n]+`(?!`)", "", prose, flags=re.DOTALL)
    targets = [target for link in LINKS for target in re.findall(link, prose, re.MULTILINE)]
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    missing = [target for target in local if not (page.parent / target).exists()]
    if page.is_relative_to(ROOT / "docs"):
        for target in re.findall(r"\{doc\}`(?:[^`<]*<)?([^`<>]+)>?`", text):
            start = ROOT / "docs" if target.startswith("/") else page.parent
            made = ROOT / "docs" / "examples" / f"{Path(target).name}.py"  # the gallery's pages are made of its scripts
            if not (start / f"{target.lstrip('/')}.md").exists() and not (
                target.startswith("gallery/plot_") and made.exists()
            ):
                missing.append(target)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_and_images_lead_somewhere(page):
    assert broken(page, page.read_text(encoding="utf-8")) == []


def test_broken_links_are_seen():
    page = ROOT / "docs" / "index.md"
    text = "[a](data.md) [b](gone.md#x) {doc}`lost` {doc}`gallery/plot_lost` {doc}`gallery/plot_kl` $[x](f)$ `[c](code.md)`\n"
    text += "```text\n[d](shown.md)\n```\n```{image} no.png\n```\n"
    assert broken(page, text) == ["gone.md", "no.png", "lost", "gallery/plot_lost"]
    assert broken(page, '![e](ladder.png "title") <img src="none.png"> [f](https://example.org)') == ["none.png"]


def test_three_readers_have_paths_of_at_most_four_pages():
    first_screen = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").partition("```{doctest}")[0]
    paths = [re.findall(r"\]\((\w+\.md)\)", row) for row in first_screen.splitlines() if row.startswith("| **I ")]
    assert [path[0] for path in paths] == ["data.md", "model.md", "theory.md"]
    assert all(2 <= len(path) <= 4 for path in paths)
