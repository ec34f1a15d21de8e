"""Org, AsciiDoc and reStructuredText: words stay, marks go."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_files import ONE, TWO, read, texts

from llm60_jax.data.read.items import Broken, Document
from llm60_jax.data.read.markup import asciidoc, org, rst
from llm60_jax.data.read.markup.light import Page

_REMARK = "The miller told me this in spring, when the ice was on the river."
_READERS = {".org": org, ".adoc": asciidoc, ".rst": rst}


def text(kind: str, source: str) -> str:
    return _READERS[kind].convert(source.split("\n")).text()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "* TODO [#A] The *mill* [1/3] :river:diary:\n  SCHEDULED: <2024-03-09 Sat>\nOne\ntwo.",
            "The mill\n\nOne two.",
        ),
        (f":PROPERTIES:\n:ID: 1\n:END:\n#+STARTUP: x\n# note\n{ONE}\n-----\n{TWO}", f"{ONE}\n\n{TWO}"),
        (":never:\nclosed", ":never: closed"),
        ("*b* /i/ _u_ =v *x*= ~c~ +gone+ a/b/c and 2*3*4.", "b i u v *x* c a/b/c and 2*3*4."),
        (
            "[[http://a.example][the *page*]], [[*The mill]] [[file:x.png]] on <2024-03-09 Sat>.",
            "the page, The mill on.",
        ),
        (f"One[fn:1] two[fn:: {TWO}].\n\n[fn:1] {_REMARK}\n[fn:2] Smith 1987.", f"One two.\n\n{TWO}\n\n{_REMARK}"),
        (
            "- a\n- [X] b\n  goes on\n  1. c\n  2. d\n- e :: f\n\nEnd.",
            "- a\n- b goes on\n  1. c\n  2. d\n- e: f\n\nEnd.",
        ),
        ("#+BEGIN_SRC py\n* x\n\n=y=\n#+END_SRC\n#+begin_quote\nq\n#+end_quote", "```\n* x\n\n=y=\n```\n\nq"),
        (
            "#+begin_verse\n great clouds\n  overhead\n#+end_verse\n#+begin_comment\nno\n#+end_comment",
            "great clouds\noverhead",
        ),
        (
            "| a | *b* |\n|---+---|\n| 1 | 2 |\n: fixed\nOne\\\\\ntwo",
            "| a | b |\n| 1 | 2 |\n\n```\nfixed\n```\n\nOne\ntwo",
        ),
        (
            '* Bread\n- State "DONE"       from "TODO"       [2021-03-04 Thu 15:02]\n- State your case.\nIt rose.',
            "Bread\n\n- State your case.\n\nIt rose.",
        ),
    ],
)
def test_org(source: str, expected: str) -> None:
    assert text(".org", source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("= The mill\nAnna <a@b.example>\n:toc:\n:x: weir\n\nAt the {x}{y}.\n\n== Two ==\nOne\ntwo.",
         "The mill\n\nAt the weir.\n\nTwo\n\nOne two."),
        ("[.lead]\n*b* _i_ `m` **in**side #h# [.r]#s# H~2~O \"`q`\" C++ a * b.",
         "b i m inside h s H2O \u201cq\u201d C++ a * b."),
        ("http://a.example[the page], <<x,that>>, xref:b[so], link:c[d] image:e[f] kbd:[G].",
         "the page, that, so, d G."),
        (f"// no\n////\nno\n////\n{ONE}footnote:[{_REMARK}] (((index)))\n\ninclude::a[]\n'''", f"{ONE}\n\n{_REMARK}"),
        ("NOTE: Mind.\n\n.Title\n====\nIn.\n====\n[quote, A]\n____\nQ.\n____", "Mind.\n\nTitle\n\nIn.\n\nQ."),
        ("[verse]\n____\nthe fog\non feet\n____\n\nOne +\ntwo", "the fog\non feet\n\nOne\ntwo"),
        ("* a\n** b\n* [x] c\ngoes on\n\n. d\n. e\n+\nMore.", "- a\n  - b\n- c goes on\n1. d\n2. e\n\nMore."),
        ("[source,rb]\n----\n*x* <1>\n----\n....\ny\n....", "```\n*x* <1>\n```\n\n```\ny\n```"),
        ("|===\n|a |b\n\n|1 |*2*\n|3\n|4\n|===\nEnd.", "| a | b |\n| 1 | 2 |\n| 3 | 4 |\n\nEnd."),
        ("term:: meaning\nother::\n  more", "term\n\nmeaning\n\nother\n\nmore"),
        ("----\nnever closed", "never closed"),
        ("////\nno\n////\n// no\n:toc:\n\nThe mill\n========\nAnna\nv1.0, 2024-03-09\n\nAt the weir."
         "\n\nTwo\n---\nOne\ntwo.\n\nThe far oar\n~~~~~~~~~~\nOne.\n\nA list of\n- a\n- b",
         "The mill\n\nAt the weir.\n\nTwo\n\nOne two.\n\nThe far oar\n\nOne.\n\nA list of\n\n- a\n- b"),
        ("A short line\n----\n*x*\n----", "A short line\n\n```\n*x*\n```"),
        ("One line\n// no\ngoes on.", "One line goes on."),
        (":x: the old \\\n  weir\n:y: a + \\\nb\n\nAt {x}, \\{x} and \\*so*.", "At the old weir, {x} and *so*."),
        ("> One\n> two.\n>\n> > Three.\n\n* * *\n\n\"\"\nFour.\n\"\"\n5 > 4.", "One two.\n\nThree.\n\nFour.\n\n5 > 4."),
        ("[verse, A]\nthe fog\non feet\n\n[%hardbreaks]\nOne +\ntwo\n\nThree\nfour.",
         "the fog\non feet\n\nOne\ntwo\n\nThree four."),
        (f"{ONE}footnote:[He told http://a.example[all who asked\\] that link:b[it] was gone.]",
         f"{ONE}\n\nHe told all who asked that it was gone."),
        ("[qanda]\nWhat is it?::\n  A boat.\n\n* [[[berg]]] Berg", "What is it?\n\nA boat.\n\n- Berg"),
    ],
)  # fmt: skip
def test_asciidoc(source: str, expected: str) -> None:
    assert text(".adoc", source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (":Author: A\n\n=====\n Mill\n=====\n\nTwo\n---\nOne\ntwo.\n\n----\n\nEnd.", "Mill\n\nTwo\n\nOne two.\n\nEnd."),
        ("*a* **b** ``c *d*`` `e <http://x>`_ `f`_ g_ :ref:`h <i>` |j|, \\*k\\*.\n\n.. |j| image:: x",
         "a b c *d* e f g h, *k*."),
        (".. |x| replace:: the weir\n.. _t: http://a\n.. no\n   no\n\nAt |x|.\n\n__ http://b", "At the weir."),
        (f"{ONE} [1]_ [C]_\n\n.. [1] {_REMARK}\n.. [C] Smith 1987.", f"{ONE}\n\n{_REMARK}"),
        ("He said::\n\n    a *b*\n\n    c\n\nEnd.", "He said:\n\n```\na *b*\n\nc\n```\n\nEnd."),
        ("- a\n  on\n\n  - b\n- c\n\n#. d\n#. e\n\nEnd.", "- a on\n  - b\n- c\n1. d\n2. e\n\nEnd."),
        (".. note:: Mind\n   *it*.\n\n   More.\n\n.. versionadded:: 3.1\n   So.\n\n.. toctree::\n   a",
         "Mind it.\n\nMore.\n\nSo."),
        (".. code-block:: py\n   :x:\n\n   y = *z*\n\n>>> 1\n1\n\nEnd.",
         "```\ny = *z*\n```\n\n```\n>>> 1\n1\n```\n\nEnd."),
        ("| the fog\n|  on feet\n\nterm\n    meaning", "the fog\non feet\n\nterm\n\nmeaning"),
        ("+---+---+\n| a | b |\n+===+===+\n\n== ==\nc  d\n== ==", "| a | b |\n| c | d |"),
    ],
)  # fmt: skip
def test_rst(source: str, expected: str) -> None:
    assert text(".rst", source) == expected


def test_the_title_is_that_of_the_text_else_the_name(tmp_path: Path) -> None:
    sources = [
        ("a.org", "#+TITLE: The boat\n* Mill", "The boat"), ("a.org", "* Mill\n", "Mill"), ("a.org", ONE, "a.org"),
        ("a.adoc", "= The boat", "The boat"), ("a.asciidoc", "== Mill", "Mill"), ("a.asc", ONE, "a.asc"),
        ("a.rst", "Boat\n====\n", "Boat"), ("a.rst", ONE, "a.rst"),
    ]  # fmt: skip
    for name, source, title in sources:
        (item,) = read(tmp_path / name, source.replace("\n", "\r\n"))
        assert isinstance(item, Document)
        assert item.title == title


def test_a_drawer_that_ends_far_away_is_none() -> None:
    source = ":note:\n" + "word\n" * 600 + ":END:\n"
    assert text(".org", source).count("word") == 600
    assert text(".org", source.replace("word\n" * 500, "")) == ""


def test_the_end_of_a_block_is_looked_for_once() -> None:
    class Pattern:
        pattern = "x"
        tried = 0

        def match(self, line: str) -> bool:
            self.tried += 1
            return False

    page, closing = Page(lambda content, page: content), Pattern()
    for start in range(100):
        assert page.until([""] * 100, start, closing) == -1  # type: ignore[arg-type]
    assert closing.tried == 100


def test_an_encrypted_file_is_no_asciidoc(tmp_path: Path) -> None:
    assert read(tmp_path / "a.asc", "-----BEGIN PGP MESSAGE-----\n\nabc") == [Broken("a.asc", "not_text")]
    assert texts(read(tmp_path / "b.asc", ONE)) == [ONE]


@pytest.mark.parametrize("kind", _READERS)
@pytest.mark.parametrize(
    "mark",
    ["*", "/a ", "`", "[[", "[[a][", "|", "- a\n", "#+begin_src\n", ":a:\n", "=\n", "----\n", ".. note::\n   ", "a::\n",
     "{a", "footnote:[", "http://a[", "(((", "\\", "[fn::a", "> ", "a\n=\n", ":a: \\\n", "//\n", "[%hardbreaks]\n",
     "[[[", "footnote:[\\]", "+---+\n", "\n", "    ", "<<a", "_a"],
)  # fmt: skip
def test_a_long_run_of_a_mark_ends(kind: str, mark: str) -> None:
    assert isinstance(text(kind, mark * (20_000 // len(mark))), str)


_WORDS = st.lists(st.text(alphabet="abcdefgh", min_size=1, max_size=8), min_size=3, max_size=30).map(" ".join)
_MARKUP = {
    ".org": ["*{}*", "/{}/", "[[http://a.example][{}]]", "{}[fn:1]", "{}\n", "={}="],
    ".adoc": ["*{}*", "_{}_", "http://a.example[{}]", "{}footnote:[x]", "{}\n", "`{}`", "<<x,{}>>"],
    ".rst": ["*{}*", "**{}**", "`{} <http://a.example>`_", "{} [1]_", "{}\n", "``{}``", ":ref:`{} <x>`"],
}


@pytest.mark.parametrize("kind", _READERS)
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_words_of_paragraphs_survive_in_order(kind: str, data: st.DataObject) -> None:
    paragraph = st.lists(st.tuples(_WORDS, st.sampled_from(_MARKUP[kind])), min_size=1, max_size=4)
    paragraphs = data.draw(st.lists(paragraph, min_size=1, max_size=5))
    source = "\n\n".join(" ".join(mark.format(words) for words, mark in paragraph) for paragraph in paragraphs)
    kept = text(kind, source.replace("\n ", "\n"))
    assert kept.split() == " ".join(words for paragraph in paragraphs for words, _ in paragraph).split()
    assert not re.search(r"[*_\[\]=`<>/]", kept)
    assert kept.count("\n\n") == len(paragraphs) - 1


_PIECES = st.sampled_from(
    [
        "*", "/", "_", "=", "~", "+", "`", "[[", "]]", "][", "|", "- ", "1. ", "* ", ". ", "= ", "a", " b. ", "\n",
        "\n\n", "   ", "#+begin_src\n", "#+end_src\n", ":a:\n", ":END:\n", "----\n", "====\n", "____\n", "|===\n",
        "....\n", "//", "::", ".. ", ".. note:: ", "[1]_", "+--+\n", "== ==\n", "footnote:[x]", "{a}", "[fn:1] ",
        "[verse]\n", "\\", "\x00", "\x03", "\t", "é",
    ]
)  # fmt: skip


@pytest.mark.parametrize("kind", _READERS)
@given(st.one_of(st.text(), st.lists(_PIECES, max_size=50).map("".join)))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read(tmp_path_factory: pytest.TempPathFactory, kind: str, source: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{kind}"
    (item,) = read(path, source.encode("utf-8", errors="replace"))
    assert isinstance(item, Document)
    assert not re.search("[\x00-\x03]", item.text)
