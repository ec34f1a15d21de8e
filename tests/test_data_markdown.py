"""Markdown: the author's words come out as plain text, the marks of every tool go."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sample_files import ONE, TWO, read, texts

from llm60_jax.data.clean import cleaning
from llm60_jax.data.read.items import Document
from llm60_jax.data.read.markup import markdown, markdown_blocks
from llm60_jax.data.read.markup.markdown import convert


def text(source: str) -> str:
    return convert(source)[1]


@pytest.mark.parametrize(
    ("matter", "title"),
    [
        ('---\nlayout: post\ntitle: "The boat"\ntags:\n  - river\n\n  - weir\n# note\n---', "The boat"),
        ("---\ntitle: 'It''s: a story' # note\n---", "It's: a story"),
        ("---\ntitle: The boat: a story # note\ndate: 2024\n...", "The boat: a story"),
        ("---\nexcerpt: x\ntitle: >\n  A long\n  title\n---", "A long title"),
        ("\n+++\ntitle = 'The boat'\n[params]\n  a = 1\n+++", "The boat"),
        ('{\n "title": "The boat",\n "tags": []\n}', "The boat"),
        ("---\n---", ""),
        ("% The boat\n% Anna Berg", "The boat"),
        ("Title: The boat\nAuthor: Anna", ""),
    ],
)
def test_front_matter_goes_and_its_title_stays(matter: str, title: str) -> None:
    assert convert(f"{matter}\n\n{ONE}\n") == (title, ONE)


def test_front_matter_that_never_ends_does_not_take_the_text() -> None:
    assert convert(f"---\ntitle: A note\ndate: 2024\n\n{ONE}\n\n---\n\n{TWO}") == ("A note", f"{ONE}\n\n{TWO}")
    assert text(f"---\ntitle: A note\n\n{ONE}") == ONE


@pytest.mark.parametrize("rule", ["---", "***", "- - -", "+++\n"])
def test_a_rule_at_the_start_is_no_front_matter(rule: str) -> None:
    kept = text(f"{rule}\n\n{ONE}\n\n---\n\nAnna: {TWO}\n\n---\n")
    assert kept.removeprefix("+++\n\n") == f"{ONE}\n\nAnna: {TWO}"


def test_the_title_is_the_front_matters_then_the_first_heading_then_the_files_name(tmp_path: Path) -> None:
    sources = {"---\ntitle: A\n---\n# B\n": "A", "## C\n\n# B *c*\n\n# D": "B c", "B\n=\n": "B", ONE: "a.md"}
    for source, title in sources.items():
        (item,) = read(tmp_path / "a.md", source)
        assert isinstance(item, Document)
        assert item.title == title


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("*He* said **no**, ***both***, __so__, snake_case and 2*3*4.", "He said no, both, so, snake_case and 2*3*4."),
        ("**Bold:**text and `code *x*`.", "Bold:text and code *x*."),
        ("She ==saw== it, a == b, ~~not~~ H~2~O, the 10^th^.", "She saw it, a == b, H2O, the 10th."),
        (r"He paid \$40 \[laughs\] \*once\*.", "He paid $40 [laughs] *once*."),
        (
            "[one](http://a.example/b_(c)) [two](<a b> 'x') [three](a b.html) [four][r] [r] [six][no].\n\n[r]: /x 'y'",
            "one two three four r six.",
        ),
        (f"{ONE}\n[r]: http://a.example\n", ONE),
        (
            "See <https://a.example/x> and ![alt *text*](b.png) here. ![b][c] [![d](e)](f)",
            "See https://a.example/x and here.",
        ),
        (
            "[[Page]] [[a/Page|Alias]] [[Page#Part]] [[#Part]] ![[x.png|3]] [[202403091000 Note]] [[Page\\|Alias]].",
            "Page Alias Page Part Note Alias.",
        ),
        (
            "Seen %%not this%% and {{ site.x }}{% if a %}, said{: .b} [@x2000, p. 3; @y]. [weather:: wet]",
            "Seen and, said.",
        ),
        (
            "She went {++slowly ++}home{-- weeping--}{>>so?<<} by {~~old~>new~~} ways.",
            "She went slowly home by new ways.",
        ),
        ('The {{< var "x" >}}river\n{{% note\n a=1 %}} ran.', "The river ran."),
        ("$a_1 * b_1$ and $40 and $5.", "$a_1 * b_1$ and $40 and $5."),
        ("$$\na\n=\nb\n$$", "$$ a = b $$"),
        (
            "Words <b>and</b> <del>not</del> <u>more</u>, a &lt; b &mdash; I <3 you<!-- no -->.",
            "Words and more, a < b — I <3 you.",
        ),
        ("It ended. #river #diary/2024\n", "It ended."),
        (f"{ONE} ^block-1", ONE),
        ("We went to #town on the #1 tram.", "We went to town on the #1 tram."),
        ("#river #diary\n\n#two words# #x", ""),
        ("[wiki](x.md) [^x] [short] [1](a)", "wiki [short] 1"),
        ("[Anna]: Hello there\n", "[Anna]: Hello there"),
        ("1986. A great year.", "1986. A great year."),
        ("It ^^rose^^ ((AbCd_-123))[]{#a}[so]{k='v'}![](x){width='3'} ((and so)).", "It rose so ((and so))."),
        ("A ![x](data:image/png;base64,AAAA) b ![c][d]\n\n[d]: <data:image/png;base64," + "A" * 200_000 + ">", "A b"),
        ("[caption id='x'] cap [/caption] [gallery ids='1'] [audio]", "cap [audio]"),
        ("Not <del>closed, <b>so it stays</b>.", "Not closed, so it stays."),
        ("There were `r nrow(x)` boats, `$= y` oars.", "There were boats, oars."),
    ],
)
def test_marks_inside_a_paragraph_go_and_words_stay(source: str, expected: str) -> None:
    assert text(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("# The boat #\nOne line\nand the next.\n* a\n* b\n", "The boat\n\nOne line and the next.\n\n- a\n- b"),
        ("The bell\n----\nIt rang.\n\n***\n\nIt stopped.", "The bell\n\nIt rang.\n\nIt stopped."),
        ("1. a\n2. b\n   - [x] c\n   - [ ] d\n\n     long", "1. a\n2. b\n  - c\n  - d\n\nlong"),
        ("> one\n> two\n>\n> > three", "one two\n\nthree"),
        ("> [!note]- What *she* said\n> The bell.\n\n> [!tip]\n> x", "What she said\n\nThe bell.\n\nx"),
        ("| a | b |\n|---|:-:|\n| [[c\\|d]] | **e** |\n| | |", "| a | b |\n| d | e |"),
        ("```py\n# x\n\ny = {{ z }}\n```\n~~~\n> a\n~~~", "```\n# x\n\ny = {{ z }}\n```\n\n```\n> a\n```"),
        ("```\nnever closed\n\n*more*", "never closed\n\nmore"),
        ("Code:\n\n    pip install x\n", "Code:\n\n```\npip install x\n```"),
        (f"\t{ONE}\n\t{TWO}\n", f"{ONE}\n\n{TWO}"),
        (
            "\tThe river had risen in the night, and\nnobody slept.\n\tThe miller knew whose boat it was,\nso he went.",
            "The river had risen in the night, and nobody slept.\n\nThe miller knew whose boat it was, so he went.",
        ),
        (
            "{% highlight x %}\n# a\n\n* b\n{% endhighlight %}\n{{< highlight go >}}\nc\n{{< /highlight >}}",
            "```\n# a\n\n* b\n```\n\n```\nc\n```",
        ),
        ("```dataview\nTABLE x\n```\n\n```ad-note\ntitle: The *bell*\nIt rang.\n```", "The bell\n\nIt rang."),
        ('!!! note "Mind"\n    The *step*.\n\n:::tip More\nWords.\n:::', "Mind\n\nThe step.\n\nMore\n\nWords."),
        (
            "a\n%%\nhidden\n\nmore\n%%\nb\n\n<!-- c\n\nd -->\ne\n\n<!-- never closed\n\nf",
            "a\n\nb\n\ne\n\nnever closed\n\nf",
        ),
        (
            "<p>one</p><p>two<br>2</p>\n<ul><li>a</li></ul>\n<pre>x\n  y</pre>\n"
            "<table><tr><td>1</td><td>2</td></tr></table>",
            "one\n\ntwo\n2\n\n- a\n\n```\nx\n  y\n```\n\n| 1 | 2 |",
        ),
        ("<script>\nvar a;\n\nvar b;\n</script>\n\n<div markdown='1'>\nIn *a* box.\n</div>", "In a box."),
        ("Term\n: The *meaning*.", "Term\n\nThe meaning."),
        ("* TOC\n{:toc}\n\nText\n{: .lead}\n\n- [Part](#part)\n- [Real](a.md)\n\n[TOC]", "Text\n\n- Real"),
        ("key:: value\n- id:: 6f\n- a\n\n*[HTML]: abbreviation\n\n\\newpage\n^name", "- a"),
        ("- a\n    - #+BEGIN_QUOTE\n      b\n      #+END_QUOTE\n    - c", "- a\n  - b\n  - c"),
        ("import A from 'b'\n\n<Tabs x={1}>\n\nWords {/* no */}.\n\n</Tabs>", "Words."),
        ("| The limerick packs\n| laughs", "The limerick packs\nlaughs"),
    ],
)
def test_blocks(source: str, expected: str) -> None:
    assert text(source) == expected
    assert text(source.replace("\n", "\r\n")) == expected


def test_a_single_line_break_is_a_blank_but_verse_keeps_its_lines() -> None:
    assert text(f"{ONE}\n{TWO}\nand it was\ncold.") == f"{ONE} {TWO} and it was cold."
    verse = "The Bell is silent in the Mill,\nThe Wheel is standing still,\nThe Boat is gone."
    assert text(f"{ONE}\n\n{verse}\n\n{TWO}") == f"{ONE}\n\n{verse}\n\n{TWO}"
    assert text("roses are red,\\\nviolets blue,  \nand so on") == "roses are red,\nviolets blue,\nand so on"
    assert text("I got up.\nI made tea.\nIt rained.") == "I got up. I made tea. It rained."
    assert text("“Who is it?”\n“The miller.”") == "“Who is it?”\n“The miller.”"
    assert text(f"{ONE}  \n{TWO}") == f"{ONE} {TWO}"


def test_footnotes_with_words_stand_at_the_end() -> None:
    remark = "My father kept a mark on the wall of the cellar."
    more = "It is there still, as far as I know."
    notes = (
        f"[^1]: {remark}\n\n    {more}\n[^b]: See the long chapter on the great flood in Smith, *Floods* (1987), p. 12."
    )
    source = f"{ONE}[^1] And[^b]: so.^[{TWO}]\n\n{notes}\n\nEnd."
    kept = text(source)
    assert kept.startswith(f"{ONE} And: so.\n\nEnd.")
    assert set(kept.split("\n\n")[2:]) == {TWO, remark, more}


def test_properties_of_a_notion_page_go(tmp_path: Path) -> None:
    name = "The ferry 1a2b3c4d5e6f1a2b3c4d5e6f1a2b3c4d.md"
    link = "[The mill](The%20mill%201a2b3c4d5e6f1a2b3c4d5e6f1a2b3c4d.md)"
    properties = "Created: March 9, 2024\nMood: calm"
    callout = f"<aside>\n💡 {TWO}\n\n</aside>"
    page = f"# The ferry\n\n{properties}\n\n{ONE} See {link}.\n\n{link}\n\n{callout}\n"
    (item,) = read(tmp_path / name, page)
    assert item == Document(name, "The ferry", f"The ferry\n\n{ONE} See The mill.\n\n{TWO}")


def test_what_tools_write_around_a_note_goes() -> None:
    assert text(f"{ONE}\n\nid: {'0a' * 16}\nparent_id: x\nis_conflict: 0\ntype_: 1") == ONE
    assert text(f"{ONE}\n\n---\nAnnotations: 0,23 SHA-256 0a\n@Anna: 0,23\n...\n") == ONE
    assert text(f"\tDate:\tMarch 9\n\tWeather:\tRain\n\n{ONE}\n\n\tDate:\tMarch 10\n\n{TWO}") == f"{ONE}\n\n{TWO}"


def test_a_play_below_a_title_stays() -> None:
    assert text("# The well\n\nANNA: Where?\nTOM: There.") == "The well\n\nANNA: Where?\nTOM: There."


def test_every_extension_of_markdown_is_read(tmp_path: Path) -> None:
    for name in ("a.md", "a.markdown", "a.mdown", "a.mkd", "a.mdx", "a.qmd", "a.Rmd"):
        assert texts(read(tmp_path / name, "\ufeff---\r\ntitle: x\r\n---\r\n*One*\r\nline")) == ["One line"]


def test_a_large_file_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "_PART_CHARACTERS", 200)
    sizes: list[int] = []
    whole = markdown_blocks.Reading.read
    monkeypatch.setattr(
        markdown_blocks.Reading,
        "read",
        lambda self, part, nested=0: (sizes.append(len(part)), whole(self, part, nested))[1],
    )
    code = "```\n" + "x = 1\n\n" * 20 + "y\n```"
    parts = [f"{ONE} [a][r] *b*", code, TWO] * 10
    kept = text("\n\n".join(parts) + "\n\n[r]: http://a.example" + f"\n\n{'word ' * 200}")
    assert kept.startswith("\n\n".join([f"{ONE} a b", code, TWO] * 10))
    assert max(sizes) <= 3 * 200 + len(code)
    assert len(sizes) > 10
    assert kept.split().count("word") == 200


@pytest.mark.parametrize("depth", [5, 60, 3_000])
def test_words_survive_any_depth(depth: int) -> None:
    for mark in ("> ", "- ", "* > "):
        assert "sunken" in text(mark * depth + "sunken\n\nafter")
        assert "after" in text(mark * depth + "sunken\n\nafter")
    nested = "\n".join("  " * level + "- item" for level in range(min(depth, 200)))
    assert text(nested).count("item") == min(depth, 200)


@pytest.mark.parametrize(
    "mark",
    [
        "[", "![", "[[", "[^", "^[", "[a](", "[a][", "*", "*a ", "_a ", "`", "<", "<!--", "<a ", "{{", "{%", "%%",
        "$", "$$", "~", "==", ">", "> ", "- ", "#", "|", "\\", "&", "(((", "::", "{++", "{~~", "[@", "[x]: ",
        "```\n", "~~~\n", "%%\n", "<!--\n", "$$\n", "a: b\n", "---\n", "|a\n", "a  \n", "!!! note\n    ", "<pre>",
        "<td>", "\t", "\n", "<del>", "[a](x{{b}}", ":a", "::a", "(@", "<<|", "[[a]]|<<", "<$a", "[image:", "#a# ",
    ],
)  # fmt: skip
def test_a_long_run_of_a_mark_ends(mark: str) -> None:
    assert isinstance(text(f"{mark * (20_000 // len(mark))}\n\n{ONE}"), str)


_WORDS = st.lists(st.text(alphabet="abcdefgh", min_size=1, max_size=8), min_size=3, max_size=30).map(" ".join)
_MARKUP = ["{}\n", "{} %%x%%", *"*{}* **{}** _{}_ [{}](http://a.example) [[p|{}]] =={}== `{}` {}[^1] <b>{}</b>".split()]


_PARAGRAPH = st.lists(st.tuples(_WORDS, st.sampled_from(_MARKUP)), min_size=1, max_size=4)


@given(st.lists(_PARAGRAPH, min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_the_words_of_paragraphs_survive_in_order(paragraphs: list[list[tuple[str, str]]]) -> None:
    source = "\n\n".join(" ".join(mark.format(words) for words, mark in paragraph) for paragraph in paragraphs)
    kept = text(f"{source}\n\n[^1]: http://a.example\n")
    assert kept.split() == " ".join(words for paragraph in paragraphs for words, _ in paragraph).split()
    assert not re.search(r"[*_\[\]=`<>%^]", kept)
    assert kept.count("\n\n") == len(paragraphs) - 1


_PIECES = st.sampled_from(
    [
        "*", "_", "`", "[", "]", "(", ")", "[[", "]]", "![", "{{", "}}", "{%", "%}", "{:", "}", "<", ">", "<b>",
        "</p>", "<!--", "-->", "%%", "==", "~~", "$", "$$", "\n", "\n\n", "---\n", "+++\n", "```\n", "~~~\n",
        "    ", "\t", "> ", "- ", "1. ", "# ", "| a | b |\n", "|-|-|\n", "[^1]", "[^1]: ", "[a]: /b\n", "[!note] ",
        "^[", ":::\n", "!!! note\n", "<pre>", "a: b\n", ": ", "\\", "&amp;", "\x00", "\x01", "\x02", "\r", "{\"",
        "word", "Word. ", " ", "é", "\ufeff", "<script>", "#tag",
    ]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(_PIECES, max_size=60).map("".join)), st.booleans())
@example("A:", True)
@settings(max_examples=500, deadline=None)
def test_any_text_is_read(source: str, notion: bool) -> None:
    _, kept = convert(source, notion=notion)
    assert not re.search("[\x00\x01\x02]", kept)
    assert not re.search(r"\A\n|\n\Z", kept)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("As I [wrote]({% post_url 2018-05-04-the-mayor %}), he left.", "As I wrote, he left."),
        ('He [went]({{ site.baseurl }}/2014/the-well), [she]({{ "/a" | relative_url }} "A") not.', "He went, she not."),
        ('So [did *I*]({{< relref "other.md" >}}).', "So did I."),
        ("It is ::light:: compared to iron :smile:, at 10:30:15 and a::b::c.",
         "It is light compared to iron, at 10:30:15 and a::b::c."),
        ("[image:6F1C9D2A-0B1E/letter.jpg]\n\nIt came.", "It came."),
        ("#letters/unsent# #2022\n\nIt came.", "It came."),
        ("It came. <$Scr_Ps::0> It went.", "It came. It went."),
        ("# References {-}\n\nIt came.", "References\n\nIt came."),
        ("<< [[2024-02-10]] | [[2024-02-12]] >>\n\nIt came.", "It came."),
        ("\u2190 [[Wells]], a book about [[wells]].", "\u2190 Wells, a book about wells."),
        ("- [ ] call her \U0001f4c5 2024-02-14\n- [x] buy oats \u23eb \u2705 2024-02-11\n- a \u2705 for all",
         "- call her\n- buy oats\n- a \u2705 for all"),
        ("- TODO read it\n  :LOGBOOK:\n  CLOCK: [2024-02-11 Sun 10:00]\n  :END:\n- DONE it", "- read it\n- it"),
        ("- read it\n  SCHEDULED: <2024-02-11 Sun>\n- DONE", "- read it\n- DONE"),
        ("See:\n\n(@) I call.\n(@late) I call late.\n\nAs (@late) shows.",
         "See:\n\n- I call.\n- I call late.\n\nAs (@late) shows."),
        ("title: Walking\ntags: walk\n---\n\nIt came.", "It came."),
        ("It hums.{{< sidenote >}}I mean it.{{< /sidenote >}} It stops{{< x >}}.", "It hums. I mean it. It stops."),
    ],
)  # fmt: skip
def test_marks_of_more_tools_go(source: str, expected: str) -> None:
    assert text(source) == expected


def test_verse_in_lower_case_keeps_its_lines() -> None:
    verse = "the leaves are down\nthe rent is up\nI drink my coffee\nfrom your cup"
    assert text(f"{ONE}\n\n{verse}\n\n{TWO}") == f"{ONE}\n\n{verse}\n\n{TWO}"
    wrapped = (
        "the harbour was empty when we came down\nto it, except for one boat that had no\nname and a man who was not"
    )
    assert text(wrapped) == wrapped.replace("\n", " ")


def test_an_element_that_a_sentence_names_stays() -> None:
    assert cleaning.clean(text("The `<div>` is a box, `a` is not, and `x < y` too.")) == (
        "The <div> is a box, a is not, and x < y too."
    )
