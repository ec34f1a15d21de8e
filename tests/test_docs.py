"""The pages for people: generated ones are up to date, links and named files exist."""

import re
from pathlib import Path

import config_page
import pytest
from conftest import PROJECT

import docs

PAGES = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [page for page in [*PAGES, *sorted((PROJECT / "docs").rglob("*.md"))] if page.exists()]
BY_NAME = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())


def prose(page: Path) -> str:
    """The text of a page without its code blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The fragments that a page's headings make, as GitHub writes them."""
    made: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose(page), flags=re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        made.add(next(name for name in [slug, *(f"{slug}-{n}" for n in range(1, 100))] if name not in made))
    return made


def broken_links(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, fragment = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    return broken


def absent_files(text: str) -> list[str]:
    """The files of this project that a text names and that do not exist."""
    pattern = r"(?<![\w./-])(?:tools/[\w/]+\.py|configs/[\w/]+\.toml|docs/[\w/]+\.md)\b"
    return sorted({name for name in re.findall(pattern, text) if not (PROJECT / name).exists()})


def test_generated_pages_are_up_to_date():
    assert docs.outdated() == [], "run: python tools/docs.py"


@BY_NAME
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


@BY_NAME
def test_named_files_exist(page):
    assert absent_files(page.read_text(encoding="utf-8")) == []


def test_broken_links_and_absent_files_are_seen(tmp_path):
    page = tmp_path / "page.md"
    headings = "# One `thing`, twice\n\n## Twice\n\n## Twice\n\n"
    page.write_text(headings + "[a](#one-thing-twice) [b](page.md#twice-1) [c](#no) [d](x.md)")
    assert broken_links(page) == ["#no", "x.md"]
    assert absent_files("`tools/plan.py`, `tools/absent.py`, other/tools/x.py and docs/absent.md") == [
        "docs/absent.md",
        "tools/absent.py",
    ]


def test_a_page_that_differs_is_named(monkeypatch, tmp_path, capsys):
    (tmp_path / "page.md").write_text("as it  was\n")
    monkeypatch.setattr(docs, "PROJECT", tmp_path)
    monkeypatch.setattr(docs, "PAGES", {"page.md": lambda: "as it was"})
    assert docs.main(["--check"]) == 0  # white space does not count
    monkeypatch.setattr(docs, "PAGES", {"page.md": lambda: "as it is", "new.md": lambda: "new"})
    assert docs.main(["--check"]) == 2
    assert "out of date: page.md, new.md" in capsys.readouterr().err
    assert docs.main([]) == 0
    assert (tmp_path / "new.md").read_text() == "new"
    assert docs.main(["--check"]) == 0


def test_every_field_of_the_configuration_is_listed():
    page = config_page.page("")
    for kind in config_page.records():
        assert f"## {kind.__name__}\n" in page
    for row in (
        "| `vocab_size` | integer from 320 to 65,536 | required |",
        "| `learning_rate` | [number above 0 up to 1, number from 0 to 1] | required |",
        "| `prompts` | list of texts, not empty |",
    ):
        assert row in page
    assert "[PackageSource](#packagesource)" in page
