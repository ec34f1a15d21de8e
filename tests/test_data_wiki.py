"""Wikipedia dumps: prose, and the words that templates carry."""

import bz2
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_files import ONE, TWO, article, dump, read

from llm60_jax.data.read.items import Document
from llm60_jax.data.read.web import wiki

pytest.importorskip("mwparserfromhell")

ARTICLE = f"""{{{{Infobox|name={{{{nested|x}}}}}}}}
'''The Ferry''' is a [[boat|small ''boat'']].<ref name="a">A note.</ref> {ONE}<!-- hidden
[[not text]] -->
[[File:Ferry.jpg|thumb|A picture of it]]

{{| class="wikitable"
|-
| a ||
{{|
| inner
|}}
|}}
== History ==
{TWO} It has <math>x^2</math>{{{{convert|3|m}}}} oars &amp; a bell.
* one
* two
=== See also ===
[[Other]]
==== Deeper ====
gone too
== Crew ==
The crew was small.

== References ==
{{{{reflist}}}}
[[Category:Boats]]
[[de:Fähre]]
"""


def test_wikitext_becomes_prose() -> None:
    assert wiki.prose(ARTICLE).split("\n\n") == [
        f"The Ferry is a small boat. {ONE}",
        f"{TWO} It has 3 m oars & a bell.",
        "- one\n- two",
        "The crew was small.",
    ]


@pytest.mark.parametrize(
    "pack", [bytes, bz2.compress, lambda data: bz2.compress(data[:200]) + bz2.compress(data[200:])]
)
def test_a_dump_yields_its_articles(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    pages = (
        article("Ferry", ARTICLE) + article("Talk:Ferry", ONE, "<ns>1</ns>") + article("Old", "#REDIRECT [[Ferry]]")
        + article("Older", ONE, '<ns>0</ns><redirect title="Ferry"/>') + article("Quay", TWO)
    )  # fmt: skip
    name = "a.xml" if pack is bytes else "a.xml.bz2"
    results = read(tmp_path / name, pack(dump(pages).encode()))
    assert results == [Document(f"{name}:1", "Ferry", wiki.prose(ARTICLE)), Document(f"{name}:2", "Quay", TWO)]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("convert|93|km|mi|abbr=on", "93 km"),
        ("convert|5|x|7|m|ft", "5 \u00d7 7 m"),
        ("cvt|5|to|7|km2", "5 to 7 km\u00b2"),
        ("convert|5|-|7|C|F", "5\u20137 \u00b0C"),
        ("convert|5|ft|7|in|m", "5 ft 7 in"),
        ("convert|12345|ft|adj=mid|-high", "12,345 ft high"),
        ("convert|5+1/2|in", "5 1/2 in"),
        ("lang|fr|coup", "coup"),
        ("lang-de|Aue", "German: Aue"),
        ("langx|de|Aue", "German: Aue"),
        ("transl|ru|Moskva", "Moskva"),
        ("nowrap|a b", "a b"),
        ("Template:Nobr|a [[b]]", "a b"),
        ("formatnum:1234567.5", "1,234,567.5"),
        ("circa|1840", "c. 1840"),
        ("c.|1840|1850", "c. 1840 \u2013 c. 1850"),
        ("snd", "\u2013"),
        ("mdash", "\u2014"),
        ("'", "'"),
        ("frac|3|1|2", "3 1/2"),
        ("sfrac|1|2", "1/2"),
        ("as of|2020|6|lc=y", "as of June 2020"),
        ("As of|2020", "As of 2020"),
        ("birth date|1840|3|6|df=y", "6 March 1840"),
        ("birth date|1840|3|6", "March 6, 1840"),
        ("ill|Old Mill|de|Alte M\u00fchle", "Old Mill"),
        ("interlanguage link|Old Mill|lt=the mill|de", "the mill"),
        ("abbr|St|Street", "St"),
        ("sub|2", "2"),
        ("USD|500", "US$500"),
        ("\u00a3|500", "\u00a3500"),
        ("euro|3", "\u20ac3"),
        ("height|ft=5|in=10", "5 ft 10 in"),
        ("val|1.5|u=m", "1.5 m"),
        ("quote|the water is back", "the water is back"),
        ("blockquote|text=the water is back", "the water is back"),
        ("HMS|Victory|1765", "HMS Victory"),
        ("an unknown one|plain words", "plain words"),
    ],
)
def test_templates_that_carry_words_give_them(template: str, text: str) -> None:
    assert wiki.prose(f"It is {{{{{template}}}}} here.") == f"It is {text} here."


@pytest.mark.parametrize(
    "template",
    [
        "sfn|Smith|1990|p=3",
        "efn|A note of it.",
        "cite book|title=Ferries",
        "cn|date=May 2020",
        "coord|1|2",
        "refn|x",
        "rp|3",
    ],
)
def test_sources_and_notes_go_without_a_trace(template: str) -> None:
    text = f"It is old.{{{{{template}}}}} It is here{{{{{template}}}}}, and so on."
    assert wiki.prose(text) == "It is old. It is here, and so on."


def test_boxes_and_notices_above_a_paragraph_go() -> None:
    boxes = "{{Infobox ferry|name=x}}{{short description|Boat}}\n{{main|Other}}\n{{Odd box|Some words}}\n"
    assert wiki.prose(boxes + ONE) == ONE


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("The Aue ({{IPAc-en|au}}; {{lang-de|Aue}}) is it.", "The Aue (German: Aue) is it."),
        ("The Aue ({{IPA|au}}; {{IPA|ow}}) is it.", "The Aue is it."),
        ("The Aue (pronounced {{IPA|au}}) is it.", "The Aue is it."),
        ("Born in 1950 (age {{age|1950|1|1}}; of Ayr), he ran.", "Born in 1950 (of Ayr), he ran."),
        ("He is {{age|1950|1|1}} years old. He runs.", "He runs."),
        ("It fell {{odd|12|3}} times. It rose.{{odd|12}} It stayed.", "It rose. It stayed."),
        ("It rose ({{cn|x}}), fell{{cn|x}} , and stayed {{cn}}.", "It rose, fell, and stayed."),
        ("See the book, ISBN 978-0-123-45678-9.", "See the book."),
    ],
)
def test_what_a_template_leaves_behind_is_tidied(before: str, after: str) -> None:
    assert wiki.prose(before) == after


def test_paragraphs_lists_and_verse_are_told_apart() -> None:
    quote = "{{quote|What the water takes.\nIt brings back.|A poet}}"
    poem = "<poem>\nThe lamp is lit,\nAnd who would sit\n\nA third line\n</poem>"
    text = f"{ONE}\n{TWO}\n{quote}\n* one\n** deep\n# first\n# second\n{poem}\nUp the hill<br>{TWO}\n"
    assert wiki.prose(text).split("\n\n") == [
        f"{ONE} {TWO}",
        "What the water takes.\nIt brings back.",
        "- one\n  - deep\n1. first\n2. second",
        "The lamp is lit,\nAnd who would sit",
        "A third line",
        f"Up the hill {TWO}",
    ]


def test_links_keep_their_words_and_files_do_not() -> None:
    text = (
        "In [[:fr:Paris|Paris]] a [[wikt:boat|boat]] [[File:x.jpg|thumb|a [[b]] c]]lay [http://x.org by] [[the quay]]."
    )
    assert wiki.prose(text) == "In Paris a boat lay by the quay."


MARKS = (
    "{{ }} [[ ]] | = a. Word ( ) {{cn}} {{convert|3|km}} {{odd|1}} <ref> </ref> <br>"
    " ''' * # : ; \n == {| |} <poem> </poem>"
).split(" ")


@given(st.lists(st.sampled_from(MARKS), max_size=40))
def test_any_wikitext_gives_blocks_without_loose_ends(marks: list[str]) -> None:
    text = wiki.prose(" ".join(marks))
    assert "\n\n\n" not in text
    assert text == text.strip()
    assert not any(sign in text for sign in "\ufdd0\ufdd1\ufdd2\u2028")


@pytest.mark.parametrize(
    "unit",
    [
        "{{",
        "{{a|",
        "[[a|",
        "[[",
        "}}",
        "{|\n",
        "<ref>",
        "<b>",
        "<b x='",
        "(",
        "<!--",
        "'''",
        "* ",
        "== ",
        " ,",
        "{{{a|",
    ],
)
def test_long_runs_of_a_mark_take_linear_time(unit: str) -> None:
    wiki.prose(unit * 20_000)  # minutes if it were quadratic


def test_templates_that_nest_too_deeply_cost_no_time() -> None:
    wiki.prose("{{a|" * 5_000 + "x" + "}}" * 5_000)
