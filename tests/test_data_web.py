"""Web pages: the article, and the blocks of any HTML."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_files import ONE, TWO, read, texts

from llm60_jax.data.read import footnotes, layout
from llm60_jax.data.read.items import Document, Unreadable
from llm60_jax.data.read.layout import Block
from llm60_jax.data.read.web import webpage

pytest.importorskip("trafilatura")

LONG = f"{ONE} {TWO} {ONE.replace('nine', 'ten')}"
MENU = "".join(f"<li><a href='/{i}'>Things of kind {i}</a></li>" for i in range(250))
POEM = ["The lamp is lit, the wick is low,", "And who would sit where no winds blow?", "The oar is dry."]
SHARED = Path(__file__).parents[2] / "shared"


def test_html_yields_the_article_without_menus(tmp_path: Path) -> None:
    page = f"""<!DOCTYPE html><html><head><title>A  Crossing</title><script>var x = 1;</script></head><body>
    <nav><a href="/">Home</a> <a href="/about">About us</a></nav>
    <article><h1>A Crossing</h1><p>{ONE}
    It was cold.</p><p>{TWO}</p><table><tr><td>1</td><td>2</td></tr></table></article>
    <footer>Cookies</footer></body></html>"""
    (item,) = read(tmp_path / "a.html", page)
    assert isinstance(item, Document)
    assert item.title == "A Crossing"
    paragraphs = item.text.split("\n\n")
    assert f"{ONE} It was cold." in paragraphs
    assert TWO in paragraphs
    assert "var x" not in item.text
    assert "About us" not in item.text


def test_a_page_that_is_mostly_text_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webpage, "_article", lambda data: "")
    body = "".join(f"<div>{ONE}<br/>{TWO}</div>" for _ in range(3))
    assert texts(read(tmp_path / "a.htm", f"<body>{body}<style>p {{}}</style></body>")) == [
        "\n\n".join([f"{ONE} {TWO}"] * 3)
    ]


def test_html_is_read_in_its_declared_encoding(tmp_path: Path) -> None:
    page = f"<html><head><meta charset='iso-8859-1'></head><body><p>Café. {ONE}</p><p>{TWO}</p></body></html>"
    for data in (
        page.encode("iso-8859-1"),
        page.replace("iso-8859-1", "utf-8").encode(),
        page.replace("charset", "x").encode(),
    ):
        assert "Café." in texts(read(tmp_path / "a.html", data))[0]


def blocks(page: str) -> str:
    return webpage.blocks(page.encode())


def page_text(folder: Path, page: str) -> str:
    (text,) = texts(read(folder / "a.html", page))
    return text


def test_a_short_article_among_links_and_comments_is_alone(tmp_path: Path) -> None:
    comments = "".join(f"<p>Comment {i}: I like this a lot and would read more of it.</p>" for i in range(40))
    page = (
        f"<html><body><ul>{MENU}</ul><div id='menu'><ul>{MENU}</ul></div><article><h1>The boat</h1><p>{LONG}</p>"
        f"<p>{TWO} {LONG}</p></article><div class='comments'>{comments}</div><footer>Subscribe.</footer></body></html>"
    )
    assert page_text(tmp_path, page) == f"The boat\n\n{LONG}\n\n{TWO} {LONG}"


def test_a_book_in_one_page_stays_whole(tmp_path: Path) -> None:
    chapters = [[f"Chapter {i}", *(f"Day {i}.{j}: {LONG}" for j in range(30))] for i in range(12)]
    body = "".join(f"<h2>{head}</h2>" + "".join(f"<p>{p}</p>" for p in rest) for head, *rest in chapters)
    assert page_text(tmp_path, f"<html><body>{body}</body></html>") == "\n\n".join(itertools.chain(*chapters))


def told(day: int) -> str:
    """Return a paragraph that shares no run of words with those of other days."""
    return " ".join(f"word{day}x{i}" for i in range(30)) + "."


def test_a_book_that_the_extract_misses_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webpage, "_article", lambda tree: "\n".join(map(told, range(10))))
    body = "".join(f"<p>{told(day)}</p>" for day in range(30))
    assert page_text(tmp_path, f"<html><body>{body}</body></html>") == "\n\n".join(map(told, range(30)))


def test_long_comments_do_not_make_a_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webpage, "_article", lambda tree: told(1))
    comments = "".join(f"<p>{told(day)}</p>" for day in range(2, 40))
    assert page_text(tmp_path, f"<p>{told(1)}</p><div class='comment-list'>{comments}</div>") == told(1)


def test_the_gaps_of_an_extract_are_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webpage, "_article", lambda tree: f"{LONG}\n{TWO} {TWO}")
    page = (
        f"<p>{LONG}</p><pre><code>x = 1;\ny = x[0];</code></pre>"
        "<div><a href='x'>Read what became of the old mill by the bridge, and of the miller who was left</a></div>"
        f"<h2>Later</h2><p>Tom came. {LONG[:90]}</p><h2>Related</h2><p><a href=x>More</a></p><p>{TWO} {TWO}</p>"
    )
    assert page_text(tmp_path, page).split("\n\n") == [
        LONG, "```\nx = 1;\ny = x[0];\n```", "Later", f"Tom came. {LONG[:90]}", f"{TWO} {TWO}",
    ]  # fmt: skip


def test_verse_keeps_its_lines_and_prose_does_not() -> None:
    prose = "The river had risen in the night, and nobody<br>in the village had slept for the noise that<br>it made."
    page = f"<p>{'<br>'.join(POEM)}</p><p>{prose}</p>"
    assert blocks(page) == "\n".join(POEM) + "\n\n" + prose.replace("<br>", " ")
    assert blocks(f"<p>{ONE}<br><br>{TWO}</p>") == f"{ONE}\n\n{TWO}"
    mail = f"<div>Hi Tom,<br>{LONG}<br>Best,<br>Anna</div>"
    assert blocks(mail) == f"Hi Tom,\n\n{LONG}\n\nBest,\n\nAnna"


SHORT_LINES = (
    "The water went to sleep at noon,\nthe boats leaned on the shore,\na heron walked across the moon\n"
    "and asked for nothing more."
)


def test_lines_known_to_be_verse_stay_whatever_they_look_like() -> None:
    lines = "the river rose<br>and nobody slept"
    assert blocks(f"<div class='poem'>{lines}</div>") == lines.replace("<br>", "\n")
    assert blocks(f"<div>{lines}</div>") == lines.replace("<br>", " ")


def test_verse_of_small_letters_keeps_its_lines() -> None:
    assert blocks(f"<p>{SHORT_LINES.replace(chr(10), '<br>')}</p>") == SHORT_LINES
    wrapped = (
        "we went up to the old mill with<br>a lantern and a rope, because it<br>had rained in the night and the<br>"
        "path was gone"
    )
    assert blocks(f"<p>{wrapped}</p>") == wrapped.replace("<br>", " ")


def test_a_page_that_a_word_processor_exports_is_kept_whole(tmp_path: Path) -> None:
    page = (
        f"<h1>Ice</h1><h2>Before</h2><ul><li>skates</li><li>a lantern</li></ul><p>{LONG}<sup><a href='#ftnt1' "
        f"id='ftnt_ref1'>[1]</a></sup><sup><a href='#cmnt1' id='cmnt_ref1'>[a]</a></sup></p><h2>After</h2><p>Mud.</p>"
        f"<dl><dt>Lock</dt><dd>A chamber.</dd></dl><hr><div><p><a href='#ftnt_ref1' id='ftnt1'>[1]</a><span>&nbsp;He "
        f"fell in.</span></p></div><div class=c11><p><a href='#cmnt_ref1' id='cmnt1'>[a]</a><span>Cut this?</span></p>"
        f"<p>And that.</p></div>"
    )
    assert page_text(tmp_path, page).split("\n\n") == [
        "Ice", "Before", "- skates\n- a lantern", LONG, "After", "Mud.", "Lock", "A chamber.", "He fell in.",
    ]  # fmt: skip


def test_the_number_of_a_note_goes_whatever_element_holds_it() -> None:
    mark = "<a class='footnote-anchor' href='#footnote-1'>1</a>"
    page = f"<p>{ONE}{mark}</p><p>In <a href='#year'>1963</a> it froze.</p>"
    assert blocks(page) == f"{ONE}\n\nIn 1963 it froze."


@pytest.mark.parametrize("line", ["<div class='line'>{}</div>", "<p>{}</p>", "<span>{}</span><br>"])
def test_the_lines_of_a_stanza_are_one_block(line: str) -> None:
    stanza = "<div class='stanza'>" + "".join(line.format(text) for text in POEM) + "</div>"
    assert blocks(f"<div class='poem'>{stanza}{stanza}</div><p>{ONE}</p>") == "\n\n".join(["\n".join(POEM)] * 2 + [ONE])


def test_lists_have_marks_and_depth() -> None:
    page = "<ul><li>one<ul><li>deep<li>er</ul><li><p>two</p><p>more</p></ul><ol start=3><li>a<li>b</ol>"
    assert blocks(page) == "- one\n  - deep\n  - er\n- two\n\nmore\n\n3. a\n4. b"


def test_an_empty_item_gives_its_mark_to_nothing() -> None:
    assert blocks("<ul><li>one<ul><li></ul>more</ul>") == "- one\n\nmore"


def test_preformatted_code_is_fenced_and_prose_is_not() -> None:
    code = "if (x[0] == y) {\n  go();\n}"
    assert blocks(f"<pre>\n{code}\n</pre>") == f"```\n{code}\n```"
    verse = f"<pre>\n  {POEM[0]}\n    {POEM[1]}\n\n  {POEM[2]}</pre>"
    assert blocks(verse) == f"{POEM[0]}\n  {POEM[1]}\n\n{POEM[2]}"


def test_tables_that_place_text_are_read_and_those_of_data_are_not() -> None:
    data = "<table><tr><td>1</td><td>2</td></tr></table>"
    assert blocks(f"<table><tr><td>{data}<p>{LONG}</p><p>{TWO}</p></td></tr></table>") == f"{LONG}\n\n{TWO}"
    assert blocks(f"{data}<p>{ONE}</p>") == ONE


def test_what_a_browser_hides_goes() -> None:
    page = (
        "<p><span aria-hidden=true>T</span>he river <i style='color:red; display : none'>gone</i>rose.</p>"
        "<p hidden>x</p><template><p>x</p></template><!-- x --><p aria-hidden=true>x</p>"
        "<div class='cookie-banner'>We use cookies.</div>"
        f"<p>{LONG}</p>"
    )
    assert blocks(page) == f"The river rose.\n\n{LONG}"
    assert blocks(f"<body><div style='display:none'><p>{LONG}</p></div></body>") == LONG  # shown by a script


def test_marks_of_notes_go_and_notes_with_a_sentence_stand_last() -> None:
    page = (
        f"<p>{ONE}<sup><a href='#fn1'>1</a></sup></p><aside role='doc-footnote'>1. "
        "She waved from the bridge, I am sure.<a href='#r1'>\u21a9</a></aside>"
        "<div class='footnote'>2 Smith, The Ferry (London, 1890), p. 3.</div>"
        f"<p>{TWO}<sup>2</sup> It is 20 m<sup>2</sup>, the 2<sup>nd</sup>.</p>"
    )
    assert blocks(page).split("\n\n") == [
        ONE,
        f"{TWO} It is 20 m\u00b2, the 2nd.",
        "She waved from the bridge, I am sure.",
    ]


def test_numbers_of_lines_and_pages_go_and_quotes_have_marks() -> None:
    page = "<p>the garden,<span class='lnum'>10</span> <q>Yes</q> <span class='pagenum'>[Pg 12]</span>she said.</p>"
    assert blocks(page) == "the garden, \u201cYes\u201d she said."


def test_a_list_saved_by_word_is_a_list() -> None:
    item = "<p style='mso-list:l0 level{} lfo1'><span style='mso-list:Ignore'>\u00b7</span>{}</p>"
    assert blocks(item.format(1, "bread") + item.format(2, "rope")) == "- bread\n  - rope"


def test_xhtml_knows_empty_elements_and_entities() -> None:
    page = (
        '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/>'
        f'<script src="x"/></head><body><p>{ONE}<span class="lnum"/> Caf&eacute;&nbsp;x.</p></body></html>'
    )
    assert blocks(page) == f"{ONE} Caf\u00e9 x."


def test_utf_8_counts_more_than_what_a_page_declares() -> None:
    assert blocks(f"<meta charset='gb2312'><p>Caf\u00e9. {ONE}</p>") == f"Caf\u00e9. {ONE}"
    assert blocks("<meta charset='punycode'><p>abc</p>") == "abc"


TAGS = (
    "<p>|</p>|<br>|<ul>|<li>|</ul>|<ol>|<table>|<td>|</table>|<pre>|</pre>|<div class=poem>|</div>|<a href=#x>|</a>|"
    "<sup>|</sup>|<q>|[1]|word|Word|&amp;|<span hidden>|<blockquote>|<h2>|<!--|<nav>|<b>|12|\n".split("|")
)


@given(st.lists(st.sampled_from(TAGS), max_size=40))
def test_any_tags_give_blocks_without_loose_ends(tags: list[str]) -> None:
    try:
        text = blocks(" ".join(tags))
    except Unreadable:
        return
    assert "\n\n\n" not in text
    assert text == text.strip("\n")


@given(st.lists(st.text(alphabet="aB c.,\n", max_size=40), max_size=8))
def test_words_keep_their_order(paragraphs: list[str]) -> None:
    try:
        text = blocks("".join(f"<p>{paragraph}</p>" for paragraph in paragraphs))
    except Unreadable:
        return
    assert text.split() == " ".join(paragraphs).split()


@given(st.lists(st.text(alphabet="aB c.,", max_size=120), max_size=8), st.booleans())
def test_line_breaks_are_judged_without_loss(lines: list[str], verse: bool) -> None:
    assert " ".join(layout.paragraphs(lines, verse)).split() == " ".join(lines).split()


@pytest.mark.parametrize(
    "unit",
    ["<b>x", "<div>x", "a<br>", "<i hidden></i>x", "<ul><li>x", "x<sup>1</sup>", "<table><tr><td>x", "<", "&amp"],
)
def test_long_runs_of_a_mark_take_linear_time(unit: str) -> None:
    webpage.blocks((unit * 20_000).encode())  # minutes if it were quadratic


def test_rows_and_items_are_lines_of_one_block() -> None:
    items = [Block("- a", "item", 1), Block("- b", "item", 1), Block("x"), Block("- c", "item", 1)]
    assert layout.joined(items) == "- a\n- b\n\nx\n\n- c"
    short, long = [Block("a")], [Block(LONG)]
    assert layout.joined(layout.table([[short, short], [short, short]])) == "| a | a |\n| a | a |"
    assert layout.joined(layout.table([[short, long]])) == f"a\n\n{LONG}"


@pytest.mark.parametrize(
    ("note", "says"),
    [
        ("She waved from the bridge.", True),
        ("Smith, The Ferry (London, 1890), p. 3.", False),
        ("https://example.org/ferry", False),
        ("Ibid., p. 7.", False),
        (
            "I read of this in Smith, The Ferry, p. 12, but the old ferryman told me that he never saw a bell there.",
            True,
        ),
    ],
)
def test_a_note_is_kept_if_it_says_something(note: str, says: bool) -> None:
    assert footnotes.says_something(note) is says


@pytest.mark.skipif(not (SHARED / "data" / "dirty").is_dir(), reason="no ../shared")
def test_a_book_of_project_gutenberg_stays_whole() -> None:
    (path,) = (SHARED / "data" / "dirty").glob("html_*.htm")
    (item,) = webpage.html(path, path.name)
    assert len(item.text) >= 0.996 * len(webpage.blocks(path.read_bytes()))
