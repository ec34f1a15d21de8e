"""The benchmark of people's own writing: its files are what they say, its measure is exact, and the cleaning keeps
each kind."""

import email
import functools
import io
import json
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import bench_writing
import pytest
import writing
from conftest import PROJECT
from writing import pdfs, truth
from writing.author import Author
from writing.truth import Block, Sample

from llm60_jax import config as config_module
from llm60_jax.machine.remembered import Unfinished

OWN, WHOLE = 0.97, 0.95  # the least shares of the author's characters kept, and of whole paragraphs
DOCUMENTS = 2  # of each kind

# A PDF takes a process of its own, a second each; all rules are those of other phases. Of the rest, a quarter is quick.
SLOW = [kind for number, kind in enumerate(writing.KINDS) if kind.startswith("pdf") or number % 4]


def case(rules: str, kind: str) -> Any:
    """Return the parameters of a test with the marks that they need."""
    return pytest.param(rules, kind, marks=[pytest.mark.slow] * (rules == "all" or kind in SLOW))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Sample]]:
    folder = tmp_path_factory.mktemp("writing")
    return folder, writing.write(folder, DOCUMENTS)


@pytest.fixture(scope="module")
def measured(
    samples: tuple[Path, dict[str, Sample]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, bool], dict[str, bench_writing.Result]]:
    """`measured(rules, slow)` gives the results of the quick or of the slow kinds; each is measured once."""
    pytest.importorskip("trafilatura")
    phase = config_module.load(PROJECT / "configs" / "quickstart.toml").phase_named("fine_tune")

    @functools.cache
    def measure(rules: str, slow: bool) -> dict[str, bench_writing.Result]:
        folder, written = samples
        some = {kind: sample for kind, sample in written.items() if (kind in SLOW) == slow}
        with Unfinished(tmp_path_factory.mktemp("data"), "test", []) as unfinished:
            return bench_writing.measure(folder, some, rules, phase, unfinished)

    return measure


@pytest.mark.parametrize(
    ("rules", "kind"), [case(rules, kind) for rules in bench_writing.RULES for kind in writing.KINDS]
)
def test_the_author_is_kept_and_nothing_else(
    measured: Callable[[str, bool], dict[str, bench_writing.Result]], rules: str, kind: str
) -> None:
    result = measured(rules, kind in SLOW)[kind]
    if "needs" in result.refusal and "pip install" in result.refusal:
        pytest.skip(result.refusal)
    assert result.refusal == ""
    assert result.kept.share >= OWN, result
    assert result.kept.junk == 0, result
    assert result.kept.lost == 0, result
    assert result.kept.whole_share >= WHOLE, result


# --- Files -----------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_files(samples: tuple[Path, dict[str, Sample]], tmp_path: Path) -> None:
    some = list(writing.KINDS)[::9]
    again = writing.write(tmp_path, DOCUMENTS, kinds=some)
    assert {kind: sample.files for kind, sample in again.items()} == {kind: samples[1][kind].files for kind in some}
    other = writing.write(tmp_path, DOCUMENTS, seed=1, kinds=some)
    assert all(other[kind].files != again[kind].files for kind in some)


def test_no_run_of_words_occurs_twice_in_what_an_author_writes() -> None:
    author = Author("x")
    blocks = [*author.prose(40), *author.talk(20), *author.items(20), *(author.stanza() for _ in range(10))]
    lines = [line for block in blocks for line in (block.text.split("\n") if block.form == "verse" else [block.text])]
    runs = [run for line in lines for run in truth.runs(truth.tokens(line))]
    inner = [run for run in runs if len(run) == truth.RUN]
    assert len(inner) > 1_000
    assert len(inner) - len(set(inner)) <= 5  # across the end of a sentence chance is free


def test_archives_and_records_are_valid(samples: tuple[Path, dict[str, Sample]]) -> None:
    files = {f"{kind}/{name}": data for kind, sample in samples[1].items() for name, data in sample.files.items()}
    seen = set()
    for name, data in files.items():
        suffix = Path(name).suffix
        if suffix in (".docx", ".odt", ".epub"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                assert archive.testzip() is None
                for member in archive.namelist():
                    if member.endswith((".xml", ".xhtml", ".opf", ".rels")):
                        ElementTree.fromstring(archive.read(member))
        elif suffix == ".eml":
            message = email.message_from_bytes(data)
            assert not message.defects
            assert message["Subject"]
        elif suffix == ".json":
            assert all(record["text"] for record in json.loads(data))
        elif suffix == ".jsonl":
            assert all(json.loads(line)["text"] for line in data.splitlines())
        elif suffix in (".enex", ".xml"):
            ElementTree.fromstring(data)
        elif suffix == ".emlx":
            size, _, rest = data.partition(b"\n")
            assert rest[int(size) :].startswith(b"<?xml")
        elif suffix == ".rtf":
            assert data.isascii()
            assert data.count(b"{") == data.count(b"}")
        elif suffix == ".pdf":
            check_pdf(data)
        else:
            continue
        seen.add(suffix)
    assert seen == {".docx", ".odt", ".epub", ".eml", ".json", ".jsonl", ".enex", ".xml", ".emlx", ".rtf", ".pdf"}


def check_pdf(data: bytes) -> None:
    """The table of objects gives the place of each, and the streams are as long as they say."""
    assert data.startswith(b"%PDF-")
    place = int(data.rsplit(b"startxref\n", 1)[1].split()[0])
    assert data[place:].startswith(b"xref")
    entries = [line for line in data[place:].split(b"\n") if line.endswith(b"n ")]
    for number, entry in enumerate(entries, start=1):
        assert data[int(entry.split()[0]) :].startswith(b"%d 0 obj" % number)
    for part in data.split(b"/Length ")[1:]:
        length = int(part.split()[0])
        stream = part.split(b"stream\n", 1)[1]
        assert stream[length:].startswith(b"\nendstream")


def test_front_matter_is_toml_and_hyphens_join(samples: tuple[Path, dict[str, Sample]]) -> None:
    for data in samples[1]["markdown-hugo"].files.values():
        assert tomllib.loads(data.decode().split("+++\n")[1])["title"]
    text = " ".join(block.text for block in Author("y").prose(3))
    lines = pdfs.hyphenated(text, 40)
    assert any(line.endswith("-") for line in lines)
    assert max(map(len, lines)) <= 40
    joined = "".join(line[:-1] if line.endswith("-") else line + " " for line in lines)
    assert joined.split() == text.split()


# --- Measure ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def blocks() -> list[Block]:
    author = Author("z")
    return [author.heading(), *author.prose(4), author.stanza(), *author.items(2)]


def text_of(blocks: list[Block]) -> str:
    return "\n\n".join(f"- {block.text}" if block.form == "item" else block.text for block in blocks)


def size(block: Block) -> int:
    return sum(map(len, truth.tokens(block.text)))


def test_all_kept_is_all(blocks: list[Block]) -> None:
    kept = truth.measure([blocks], [text_of(blocks)])
    assert (kept.share, kept.junk, kept.lost, kept.whole_share) == (1.0, 0, 0, 1.0)
    assert kept == truth.measure([blocks], [text_of(blocks[:3]), text_of(blocks[3:])])  # in two pieces


def test_a_missing_block_lowers_the_share_by_its_part(blocks: list[Block]) -> None:
    kept = truth.measure([blocks], [text_of(blocks[:2] + blocks[3:])])
    assert kept.own - kept.kept == size(blocks[2])
    assert (kept.paragraphs - kept.whole, kept.junk) == (1, 0)


def test_a_missing_word_is_that_word(blocks: list[Block]) -> None:
    words = blocks[1].text.split()
    kept = truth.measure([blocks[1:2]], [" ".join(words[:9] + words[10:])])
    assert kept.own - kept.kept == len(truth.tokens(words[9])[0])


def test_junk_is_counted_and_so_is_what_is_kept_twice(blocks: list[Block]) -> None:
    junk = "Subscribe to our newsletter"
    kept = truth.measure([blocks], [f"{text_of(blocks)}\n\n{junk}."])
    assert (kept.share, kept.junk) == (1.0, len(junk.replace(" ", "")))
    twice = truth.measure([blocks], [text_of(blocks), blocks[1].text])
    assert twice.junk == size(blocks[1])


@pytest.mark.parametrize("damage", ["**{}**", "{}[^1]", "=={}==", "{}.Next", "{}<br>", "[[{}]]"])
def test_markup_and_grown_words_are_a_lost_word_and_junk(blocks: list[Block], damage: str) -> None:
    words = blocks[1].text.split()
    words[6] = damage.format(words[6].strip(".,;"))
    kept = truth.measure([blocks[1:2]], [" ".join(words)])
    assert kept.kept < kept.own
    assert kept.junk == len(truth.tokens(words[6])[0])


def test_paragraphs_that_are_broken_or_joined_are_not_whole(blocks: list[Block]) -> None:
    one, two = blocks[1].text, blocks[2].text
    words = one.split()
    broken = truth.measure([blocks[1:3]], [" ".join(words[:9]) + "\n\n" + " ".join(words[9:]) + "\n\n" + two])
    assert (broken.share, broken.whole) == (1.0, 1)
    assert truth.measure([blocks[1:3]], [f"{one} {two}"]).whole == 0
    verse = blocks[5:6]
    assert truth.measure([verse], [verse[0].text.replace("\n", " ")]).whole == 0


def test_what_may_go_is_neither_own_nor_junk(blocks: list[Block]) -> None:
    greeting = [Block("Hi Tom,", "either")]
    with_it, without = (truth.measure([greeting + blocks], [start + text_of(blocks)]) for start in ("Hi Tom,\n\n", ""))
    assert with_it == without
    assert with_it.junk == 0
    assert truth.measure([blocks], [text_of(blocks[:-2])], ("item",)).share == 1.0


def test_lost_words_are_counted_by_what_took_them(blocks: list[Block]) -> None:
    lost = truth.losses([blocks], [text_of(blocks[3:])], {"forum": [blocks[1].text], "chat": []})
    assert lost == {"forum": size(blocks[1]), "reader": size(blocks[0]) + size(blocks[2])}
    assert truth.measure([blocks[:2], blocks[2:]], [text_of(blocks[2:])]).lost == 1


# --- Command line ----------------------------------------------------------------------------------------------------


def test_the_command_measures_kinds_and_keeps_their_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--kinds", "text-wrapped-at-72", "diary-days", "--documents", "8"]
    assert bench_writing.main([*command, "--keep", str(tmp_path / "files")]) == 0
    assert "all 2 kinds" in capsys.readouterr().out
    assert len(list((tmp_path / "files" / "diary-days").iterdir())) == 8
    assert bench_writing.main([*command, "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["kinds"]["diary-days"]["own"] == tree["total"]["own"] == 1.0


def test_the_command_measures_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writing.write(tmp_path, 1, kinds=["text-wrapped-at-72", "markdown-by-hand"])
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    assert bench_writing.main(["--folder", str(tmp_path)]) == 0
    assert "other_kind" in capsys.readouterr().out
    assert bench_writing.main(["--folder", str(tmp_path), "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["extensions"][".txt"]["files"] == 1
    assert tree["extensions"][".txt"]["kept"] > 0.9 * tree["extensions"][".txt"]["in"]
    assert tree["documents_dropped"] == {"other_kind": 1}


def test_the_command_refuses_no_documents(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_writing.main(["--documents", "0"]) == 2
    assert "must be 1 or more" in capsys.readouterr().err
