"""Markup that stands in plain text."""

# ruff: noqa: E501

import pytest

from llm60_jax.config import Exclude
from llm60_jax.data.clean import screening
from llm60_jax.data.clean.cleaning import clean, unmark

PROSE = (
    "The river had risen in the night, and nobody in the village had slept for the noise that it made under the bridge. "
    "In the morning Anna went down to the mill with her father's lantern, though there was light enough to see by."
)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("It was fine.<br>She went.<br/>They stayed.", "It was fine.\nShe went.\nThey stayed."),
        ("Home<p>Q. I ask.</p><div class='x'>Yes.</div>", "Home\n\nQ. I ask.\n\nYes."),
        ("<ul><li>one<li>two</ul>", "- one\n- two"),
        ("<b>bold</b>er and <a href='u'>link</a>, <o:p></o:p><font size=2>small</font>", "bolder and link, small"),
        ("a <script>var x = 1 < 2;</script>b<!-- note --> c<style>p{}</style> d", "a b c d"),
        ("List<String>, Map<K, V>, vector<int>, a < b and c > d, x<y and z = 3 > 2, Set<A>", None),
        ("<bob> hello there", None),
        ("`<div>` and `</p>` are tags, <b>bold</b> &lt;i&gt;too&lt;/i&gt;.", "<div> and </p> are tags, bold too."),
        ("A std::optional<std::string> holds one.", None),
        ("AT&T, R&D, &amp;amp; &mdash; &#8217;", "AT&T, R&D, & \u2014 \u2019"),
        (r"\$40, \[laughs\], snake\_case, 1\. \# C:\dir", "$40, [laughs], snake_case, 1. # C:\\dir"),
        (r"\alpha \$3 and \_", None),
        ("[a](http://x.org/b_(c)) and [![i](x.png)](y) here, [t][1].\n\n[1]: http://x.org/y", "a and here, t."),
        ("He *said*\nit _to the\nman_ here.", "He said\nit to the\nman here."),
        ("So it is.[Footnote 1: one\n\ntwo [sic] three.] More.", "So it is. More."),
        ("[Illustration:\n\nA bear]\n\nA bear came.", "A bear came."),
        (
            "_A letter in italics\n\nthat goes on_ here, __init__ and my_name.",
            "A letter in italics\n\nthat goes on here, init and my_name.",
        ),
    ],
)
def test_markup_in_plain_text_goes_and_what_looks_like_it_stays(raw: str, cleaned: str | None) -> None:
    assert clean(raw) == (raw if cleaned is None else cleaned)


def test_rules_see_text_without_markup() -> None:
    linked = "I read [an essay](https://a.example/rivers) and [the reply](https://b.example/reply), and think it right."
    escaped = r"\[laughs\] He paid \$40 for the boat, \$5 for the oars, \$1 for the rope."
    screened = screening.screen(f"{PROSE}\n\n{linked}\n\n{escaped}", Exclude())
    assert screened.dropped == ()
    assert "I read an essay and the reply, and think it right." in screened.text
    assert "[laughs] He paid $40 for the boat" in screened.text


def test_addresses_and_handles_are_evidence_for_the_rules() -> None:
    post = "just landed @mike https://t.co/abc #nyc https://t.co/def"
    assert [part.rule for part in screening.screen(f"{PROSE}\n\n{post}", Exclude()).dropped] == ["social"]


def test_a_page_of_prose_is_text_and_the_source_of_a_page_is_code() -> None:
    page = (
        f"<html><head><style>p{{}}</style><script>var a = 1;</script></head><body><p>{PROSE}</p><p>{PROSE}</p></body>"
    )
    assert screening.screen(page, Exclude()).text == f"{PROSE}\n\n{PROSE}"
    source = '<div class="a">\n  <ul>\n    <li><a href="x">One</a></li>\n  </ul>\n</div>'
    assert "<ul>" in unmark(source, keep_source=True)
    assert clean(source) == "- One"
    assert [part.rule for part in screening.screen(f"{PROSE}\n\n{source}", Exclude()).dropped] == ["code"]


def test_clippings_keep_what_was_marked() -> None:
    place = "The Boat (A. Berg)\n- Your Highlight on Location 113-116 | Added on Sunday, March 9, 2025 10:37:23 PM"
    assert clean(f"{place}\n\n{PROSE}\n==========\n{place}\n\n{PROSE}\n==========\n") == f"{PROSE}\n\n{PROSE}"


def test_properties_of_notes_go_and_letters_stay() -> None:
    assert (
        clean(f"# The Boat\n\nCreated: March 3, 2025 10:11 AM\nTags: river, boat\n\n{PROSE}") == f"The Boat\n\n{PROSE}"
    )
    letter = f"From: the mill\nTo: my sister\n\n{PROSE}"
    assert clean(letter).startswith("From: the mill")


def test_what_writing_programs_put_around_an_entry_goes() -> None:
    day_one = "\tDate:\tMarch 4, 2022 at 9:14:05 PM GMT+1\n\tWeather:\t7\u00b0C Cloudy\n\tLocation:\tMill Lane"
    assert clean(f"{day_one}\n\n{PROSE}\n\n\n{day_one}\n\n{PROSE}") == f"{PROSE}\n\n{PROSE}"
    diary = f"Date: March 4, 2022\n\n{PROSE}"
    assert clean(diary) == diary
    assert clean(f"{PROSE}\n\n<$Scr_Ps::0>\n\n{PROSE}") == f"{PROSE}\n\n{PROSE}"
    assert (
        clean(f"{PROSE}\n\no0o\n\n{PROSE}\n\n-oOo-\n\nooo, said the owl.")
        == f"{PROSE}\n\n{PROSE}\n\nooo, said the owl."
    )


@pytest.mark.slow
def test_hostile_markup_takes_linear_time() -> None:
    units = (
        "<a ", "<script>", "<!--", "[a](", "![", "&amp;", "amp;", "_a ", "*a", "`", "\\[", "[Footnote ", "(", "<a b=",
        "http://", "www.a", "a\u00ad\n", "\x1b[", "\f", "a\f", "| ", "\u00b2", "&#38;", "a@", "[a]: ", "* a\n*", "\\(=", "`<", "`<` ", "Date: ", "<$a",
    )  # fmt: skip
    for unit in units:
        clean(unit * (200_000 // len(unit)))
