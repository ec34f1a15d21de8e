"""The reader of PDF: paragraphs from printed pages."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_files import read
from sample_pdf import Placed, pdf, printed

from llm60_jax.data.read import items
from llm60_jax.data.read.items import Broken, Document
from llm60_jax.data.read.office import pdf as reader
from llm60_jax.data.read.office import pdf_columns, pdf_pages, pdf_text

pytest.importorskip("pdfminer")

STORY = [
    f"In the {number} year the river rose above the lower meadow, and the miller's daughter carried the lantern across "
    f"the bridge to see whether the boats were still there. {last}"
    for number, last in (
        ("first", "They were not."),
        ("second", "Two of them had gone, and nobody could say where."),
        ("third", "One lay there."),
        ("fourth", "\u201cIt is late,\u201d she said, and went home by the upper road, which was dry."),
        ("fifth", "She slept."),
        ("sixth", "Then the schoolmaster wrote it all down in a ledger with a marbled cover."),
        ("seventh", "It was the last."),
    )
]


def one(tmp_path: Path, data: bytes) -> str:
    (item,) = read(tmp_path / "a.pdf", data)
    assert isinstance(item, Document)
    return item.text


@pytest.mark.parametrize(
    "layout", [{}, {"indent": 0, "gap": 8}, {"leading": 28, "lines_a_page": 20}, {"width": 40}, {"lines_a_page": 7}]
)
def test_lines_become_paragraphs_over_pages(tmp_path: Path, layout: dict[str, int]) -> None:
    pages = printed(STORY, **layout)  # type: ignore[arg-type]
    assert one(tmp_path, pdf(pages)).split("\n\n") == STORY


def test_running_heads_and_page_numbers_go(tmp_path: Path) -> None:
    pages = printed(STORY, lines_a_page=6)
    assert len(pages) >= 4
    for number, page in enumerate(pages):
        page.append(
            (70, 760, 9, f"{number + 12}   THE BOAT" if number % 2 else f"Chapter {number}: The flood   {number + 12}")
        )
        page.append((280, 40, 9, f"Page {number + 1} of {len(pages)}"))
    assert one(tmp_path, pdf(pages)).split("\n\n") == STORY


def test_a_lone_number_at_the_foot_goes_and_a_chapter_s_stays(tmp_path: Path) -> None:
    pages = printed(STORY, lines_a_page=12)
    for number, page in enumerate(pages):
        page.append((300, 40, 11, f"- {number + 3} -"))
    pages[0].append((300, 750, 11, "IV"))
    assert one(tmp_path, pdf(pages)).split("\n\n") == ["IV", *STORY]


def test_columns_are_read_one_after_the_other(tmp_path: Path) -> None:
    (left,), (right,) = printed(STORY[:3], width=30, indent=2), printed(STORY[3:6], width=30, indent=2)
    moved = [(x + 260, y, size, text) for x, y, size, text in right]
    assert one(tmp_path, pdf([left + moved])).split("\n\n") == STORY[:6]


def test_ragged_lines_belong_to_the_paragraph_that_an_indent_begins(tmp_path: Path) -> None:
    lines = [line for text in STORY for line in ragged(text)]
    placed = [(70 + 12.0 * first, 740 - 14.0 * i, 11.0, line) for i, (first, line) in enumerate(lines)]
    assert one(tmp_path, pdf([placed])).split("\n\n") == STORY


def ragged(text: str) -> list[tuple[bool, str]]:
    """Break a text into lines of changing width, as one that is broken by the number of its characters."""
    lines: list[tuple[bool, str]] = []
    words = text.split()
    while words:
        width = 62 - 9 * (len(lines) % 2)
        count = 1
        while count < len(words) and len(" ".join(words[: count + 1])) <= width:
            count += 1
        lines.append((not lines, " ".join(words[:count])))
        words = words[count:]
    return lines


def test_talk_of_one_line_each_is_paragraphs(tmp_path: Path) -> None:
    talk = ["\u201cNo,\u201d she said.", "\u201cYes,\u201d he said.", "\u201cWhy?\u201d"]
    assert one(tmp_path, pdf(printed([STORY[0], *talk, *STORY[1:]]))).split("\n\n") == [STORY[0], *talk, *STORY[1:]]


@pytest.mark.parametrize("heads", [("The Boat", "The Boat"), ("4  The Boat", "5  The Boat"), ("The Boat", "A. Berg")])
def test_a_head_on_two_pages_goes_if_it_stands_outside_the_text(tmp_path: Path, heads: tuple[str, str]) -> None:
    pages = printed(STORY, lines_a_page=16)
    assert len(pages) == 2
    for page, head in zip(pages, heads, strict=True):
        page.append((70, 740, 11, head))
    expected = ["The Boat", *STORY] if heads[1] == "A. Berg" else STORY
    assert one(tmp_path, pdf(pages)).split("\n\n") == expected


def test_the_heads_of_chapters_stay(tmp_path: Path) -> None:
    pages: list[list[Placed]] = []
    for number in ("I", "II", "III"):
        opening, following = printed(STORY[:3], lines_a_page=7)
        opening = [(x, y - 100, size, text) for x, y, size, text in opening]
        pages += [[*opening, (200, 650, 11, f"CHAPTER {number}")], following]
    text = one(tmp_path, pdf(pages)).split("\n\n")
    assert [block for block in text if block.startswith("CHAPTER")] == ["CHAPTER I", "CHAPTER II", "CHAPTER III"]


@pytest.mark.parametrize("leading", [13, 18, 24])
def test_columns_at_any_leading_stand_below_the_title_across_them(tmp_path: Path, leading: float) -> None:
    (left,), (right,) = (printed(part, width=32, indent=0, gap=9, leading=leading) for part in (STORY[:3], STORY[3:6]))
    moved = [(x + 250, y, size, text) for x, y, size, text in right]
    title = [(120.0, 745.0, 20.0, "The News of the River and its Mill")]
    assert one(tmp_path, pdf([title + left + moved])).split("\n\n") == [title[0][3], *STORY[:6]]


def test_short_lines_beside_text_are_no_column() -> None:
    names = [pdf_columns.Line(70, 700 - 14 * i, 110, 711 - 14 * i, 11, "ANNA") for i in range(9)]
    speech = [pdf_columns.Line(170, 700 - 14 * i, 400, 711 - 14 * i, 11, STORY[0][:40]) for i in range(9)]
    pairs = [list(pair) for pair in zip(names, speech, strict=True)]
    assert [line.text for line in pdf_columns.in_order(pairs)] == [f"ANNA {STORY[0][:40]}"] * 9


def test_addresses_keep_their_lines(tmp_path: Path) -> None:
    (page,) = printed(STORY[:2], indent=0, gap=8)
    lines = ["Agnes Miller", "12 Mill Lane", "Elmbridge"]
    placed = [(400.0, 780 - 14.0 * i, 11.0, line) for i, line in enumerate(lines)]
    assert "\n".join(lines) in one(tmp_path, pdf([placed + page])).split("\n\n")


def test_a_word_that_is_always_divided_is_one_word() -> None:
    page = ["They had fet-", "ched the oar, and she fet-", "ched the lantern."]
    lines = [pdf_text.Line(70, 700 - 14 * i, 270, 711 - 14 * i, 11, text) for i, text in enumerate(page)]
    assert pdf_text.prose([lines]) == "They had fetched the oar, and she fetched the lantern."


def test_words_that_a_line_end_divides_are_joined() -> None:
    page = [
        "She held the lan-",
        "tern up. It was a well-",
        "known thing, that lantern, well-known",
        "and old, and co-",
        "operation was rare.",
    ]
    lines = [pdf_text.Line(70, 700 - 14 * i, 70 + 6 * len(text), 711 - 14 * i, 11, text) for i, text in enumerate(page)]
    assert pdf_text.prose([lines]) == (
        "She held the lantern up. It was a well-known thing, that lantern, well-known and old, "
        "and cooperation was rare."
    )


def test_verse_and_items_keep_their_lines(tmp_path: Path) -> None:
    (page,) = printed(STORY[:2])
    low = min(y for _, y, _, _ in page)
    verse = ["The river rose and took the mill,", "The boat is lying on the hill,", "And no one knows its name."]
    placed = [(70.0, low - 40 - 14 * i, 11.0, line) for i, line in enumerate(verse)]
    items = [(70.0, low - 120, 11.0, "1. the lantern"), (70.0, low - 134, 11.0, "2. the oar")]
    assert one(tmp_path, pdf([page + placed + items])).split("\n\n") == [
        *STORY[:2],
        "\n".join(verse),
        "1. the lantern\n2. the oar",
    ]


def test_notes_leave_the_sentence_that_a_page_cuts(tmp_path: Path) -> None:
    pages = printed(STORY, lines_a_page=10)
    x, y, _, text = pages[0][3]
    pages[0].append((x + 6.6 * len(text), y + 4, 6, "1"))
    # In the middle of a line the mark stands between its halves.
    x, y, _, text = pages[0][1]
    stop = text.index(" ", 20)
    pages[0][1:2] = [
        (x, y, 11, text[:stop]),
        (x + 6.6 * stop, y + 4, 6, "2"),
        (x + 6.6 * (stop + 1), y, 11, text[stop + 1 :]),
    ]
    pages[0].append((70, 100, 8, "1 He said so twice, and nobody in the room believed him."))
    pages[1].append((70, 100, 8, "2 See Berg, p. 4."))
    assert one(tmp_path, pdf(pages)).split("\n\n") == [*STORY, "He said so twice, and nobody in the room believed him."]


def test_a_heading_is_a_block_and_an_initial_belongs_to_its_word(tmp_path: Path) -> None:
    (page,) = printed(STORY[:2], indent=0)
    first = page[0]
    page[0] = (first[0] + 30, first[1], first[2], first[3][1:])
    page.append((70, 690, 36, "I"))
    page.append((70, 760, 18, "The Flood"))
    assert one(tmp_path, pdf([page])).startswith("The Flood\n\nIn the first year the river")


def test_the_title_comes_from_the_file_if_it_is_one(tmp_path: Path) -> None:
    for title, expected in (
        ("The Boat", "The Boat"),
        ("Microsoft Word - boat.doc", "a.pdf"),
        ("boat.indd", "a.pdf"),
        ("", "a.pdf"),
    ):
        (item,) = read(tmp_path / "a.pdf", pdf(printed(STORY), title))
        assert isinstance(item, Document)
        assert item.title == expected


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert read(tmp_path / "a.pdf", pdf([[], []], picture=True)) == [Broken("a.pdf", "no_text")]
    stamped: list[list[Placed]] = [[(50, 20, 8, "Scan 1")], [(50, 20, 8, "Scan 2")]]
    assert read(tmp_path / "a.pdf", pdf(stamped, picture=True)) == [Broken("a.pdf", "no_text")]
    lock = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{'41' * 32}> /U <{'42' * 32}> /P -4 >> /ID [<01> <01>]"
    assert read(tmp_path / "a.pdf", pdf(printed(STORY), trailer=lock)) == [Broken("a.pdf", "encrypted")]
    assert read(tmp_path / "a.pdf", b"%PDF-1.4\nnothing") == [Broken("a.pdf", "unreadable")]
    assert read(tmp_path / "a.pdf", b"no pdf at all") == [Broken("a.pdf", "unreadable")]


def test_a_cut_file_and_noise_end_soon(tmp_path: Path) -> None:
    data = pdf(printed(STORY))
    for broken in (
        data[: len(data) // 2],
        data.replace(b"endobj", b"endxxx"),
        data[:200] + bytes(range(256)) * 50 + data[900:],
    ):
        assert len(read(tmp_path / "a.pdf", broken)) == 1


def test_limits_end_a_hostile_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items, "LARGEST", 1_000)
    assert read(tmp_path / "a.pdf", pdf(printed(STORY))) == [Broken("a.pdf", "too_large")]
    monkeypatch.setattr(reader, "_WALL_SECONDS", 0.01)
    assert read(tmp_path / "a.pdf", pdf(printed(STORY))) == [Broken("a.pdf", "too_large")]
    monkeypatch.setattr(reader, "_LARGEST_FILE", 1_000)
    assert read(tmp_path / "a.pdf", pdf(printed(STORY))) == [Broken("a.pdf", "too_large")]


@pytest.mark.slow
def test_a_stream_that_inflates_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resource")
    monkeypatch.setattr(reader, "_MEMORY", 2**28)
    data = pdf([[(70, 700, 11, "x")]], content=b" " * 2**28)
    assert len(data) < 2**20
    assert read(tmp_path / "a.pdf", data) == [Broken("a.pdf", "too_large")]
    monkeypatch.setattr(reader, "_PROCESSOR_SECONDS", 1)
    monkeypatch.setattr(reader, "_MEMORY", 2**32)
    data = pdf([[(70, 700, 11, "x")]], content=b"0 0 m 1 1 l S\n" * 2**20)
    assert read(tmp_path / "a.pdf", data) == [Broken("a.pdf", "too_large")]


LINES = st.builds(
    pdf_text.Line,
    st.floats(0, 500),
    st.floats(0, 800),
    st.floats(0, 600),
    st.floats(0, 800),
    st.floats(1, 40),
    st.text(st.sampled_from("abcXYZ 12-.,*\u2022\u00ad"), min_size=1, max_size=30),
)


@given(st.lists(st.lists(LINES, max_size=12), max_size=6))
def test_any_lines_become_text_that_adds_nothing(pages: list[list[pdf_text.Line]]) -> None:
    text = pdf_text.prose(pages)
    given_letters = Counter(filter(str.isalpha, "".join(line.text for page in pages for line in page)))
    assert Counter(filter(str.isalpha, text)) <= given_letters
    assert "\n\n\n" not in text


def test_a_page_with_very_many_lines_ends_soon() -> None:
    lines = [pdf_text.Line(i % 500, i % 800, i % 500 + 9, i % 800 + 9, 9, "word") for i in range(100_000)]
    pdf_text.prose([lines])
    pdf_columns.in_order([lines[:3_000]])


def test_long_runs_of_one_mark_end_soon() -> None:
    lines = [pdf_text.Line(70, 700 - 14 * i, 270, 711 - 14 * i, 11, "a" * 100_000) for i in range(9)]
    pdf_text.prose([lines])


def test_the_process_refuses_a_missing_file() -> None:
    with pytest.raises(OSError, match="nowhere"):
        pdf_pages._read("nowhere.pdf", 1)
