"""What real files do to the cleaning, in small: each case of ../shared/cases/data with its right outcome."""

import dataclasses
import re
from pathlib import Path
from typing import Any, cast

import pytest
from conftest import PROJECT

from llm60_jax import config as config_module
from llm60_jax.config import Exclude, Phase
from llm60_jax.data.corpus import corpus, pieces
from llm60_jax.data.corpus.corpus import Corpus
from llm60_jax.data.read import sources
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.machine.progress import silent

CASES = PROJECT.parent / "shared" / "cases" / "data"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")

RIVER = (
    "The river had risen in the night, and nobody in the village had slept for the noise that it made under the "
    "bridge. In the morning Anna went down to the mill with her father's lantern, though there was light enough to see "
    "by. She counted the planks that had come down from the sawmill, and there were forty of them, lying across one "
    "another like straws that a child had let fall."
)
WHO = (
    '"Who was the first to see the boat?" asked the schoolmaster, who liked to have things in their order. Nobody '
    "could say. It lay on its side among the willows, painted green, with a name on it that the water had half rubbed "
    "out, and a rope that had been cut with a knife and not torn."
)
MILLER = (
    "The miller said that he knew it, and that it belonged to his cousin above the weir. They sent a boy to ask, and "
    "he came back at noon with his boots in his hand. The cousin had sold the boat in spring, to a man who paid in old "
    "coins and did not haggle over the oars, which were worth more than the rest of it."
)
SILENCE = (
    "There is a kind of silence that falls on people when a small matter turns out to have a door in it. My "
    "grandmother, who told me this, used to stop here and thread a needle. She held that a story should be given time "
    "to go out of the room and come back, and that whoever could not wait for it had not deserved to hear it in the "
    "first place."
)
OWE = (
    "What do we owe to the things that wash up at our feet? The law is clear enough about timber and cattle; it is "
    "less clear about questions. I have lived long enough beside water to know that it brings back most of what is "
    "thrown into it, though seldom to the one who threw. A bottle, a shoe, a drowned fence with the wire still on it: "
    "each asks to be read, and few of us were taught that alphabet."
)
LEDGER = (
    "The schoolmaster wrote it all down in a ledger with a marbled cover. Years afterwards, when the bridge had been "
    "rebuilt in iron and the mill turned into rooms for summer guests, the ledger was sold with his books for the "
    "price of the paper. It came to me through three owners, none of whom had read past the page on which the old man "
    "complains of his ink."
)
HAND = (
    "His hand was small and upright, and he never crossed anything out. Where he had been wrong he said so in the next "
    'line, and went on. "I wrote yesterday that the boat was green," he noted on the ninth of March. "It is blue. The '
    'light under willows deceives." I know of no better rule for anybody who means to set down what happened.'
)
EASTER = (
    "By Easter the flood had been forgotten, as floods are, by everyone whose cellar was dry. The man with the old "
    "coins was seen once more at the horse fair, or so the carter swore, bargaining for a grey mare with a bell around "
    "her neck. He bought the bell, left the mare, and walked off along the dyke towards the sea without once looking "
    "round."
)
BOOK = [RIVER, WHO, MILLER, SILENCE, OWE, LEDGER, HAND, EASTER]
VERSE = (
    "{} is lit, the wick is low,\nAnd who would sit where no winds blow?\n"
    "The oar is dry, the rope is long,\nAnd who would try a boat so strong?"
)
FRIDAY = "I will come on Friday, and I will bring the lantern that you lent me in the autumn."
OWN, GRAMMAR = "fine_tune", "grammar"  # the rules of a phase of one's own writing, and all rules


@pytest.fixture(autouse=True)
def _formats() -> None:
    pytest.importorskip("trafilatura")
    pytest.importorskip("mwparserfromhell")


def exclude(rules: str) -> Exclude:
    return Exclude() if rules == GRAMMAR else _fine_tune().exclude


def _fine_tune() -> Phase:
    return config_module.load(PROJECT / "configs" / "quickstart.toml").phase_named("fine_tune")


def documents(case: str, rules: str = OWN) -> list[pieces.ScreenedDocument]:
    source, ledger = sources.folder(str(CASES / case)), Ledger("")
    read = sources.read(source, sources.inputs(source), ledger)
    return [pieces.screen(document, exclude(rules), None, ledger) for document in read]


def paragraphs(case: str, rules: str = OWN) -> list[str]:
    """Return the paragraphs that are kept of a file, or of all documents in it."""
    return [
        part for document in documents(case, rules) for piece in document.pieces for part in piece.text.split("\n\n")
    ]


def lines(case: str, rules: str = OWN) -> list[str]:
    """Return the lines that are kept, without the marks of list items."""
    kept = (line for part in paragraphs(case, rules) for line in part.split("\n"))
    return [re.sub(r"^(?:[-*\u2022]|\d+\.) ", "", line) for line in kept]


def text(case: str, rules: str = OWN) -> str:
    return " ".join(" ".join(paragraphs(case, rules)).split())


def prepared(folder: Path, *cases: str) -> Corpus:
    """Prepare a corpus of some folders by the rules of a phase of one's own writing."""
    folders = tuple(sources.folder(str(CASES / case)) for case in cases)
    phase: Phase = dataclasses.replace(cast(Any, _fine_tune()), sources=folders)
    return corpus.prepare(phase, folder, silent)


def prepared_text(result: Corpus) -> str:
    return "\n\n".join(record["text"] for split in corpus.SPLITS for record in result.read(split))


both_rules = pytest.mark.parametrize("rules", [OWN, GRAMMAR])


# --- Essays and notes ------------------------------------------------------------------------------------------------


@both_rules
def test_01_quotations_are_no_forum(rules: str) -> None:
    quoted = [
        "A story should be given time to go out of the room and come back.",
        "The light under willows deceives. I know of no better rule.",
    ]
    kept = [" ".join(part.split()) for part in paragraphs("01-quotations.md", rules)]  # short lines may be verse
    assert kept == [RIVER, quoted[0], MILLER, SILENCE, OWE, quoted[1], HAND, EASTER]


@both_rules
def test_03_updates_are_no_forum(rules: str) -> None:
    updates = ["Update: the boat has been found.", "Edit: it was blue."]
    assert paragraphs("03-update.md", rules) == [RIVER, updates[0], MILLER, SILENCE, updates[1], LEDGER]


@both_rules
def test_04_two_links_are_no_social_post(rules: str) -> None:
    linked = (
        "I have been reading an essay on rivers, and the reply of those who doubted it, and I think that the first was "
        "right in all but one thing."
    )
    assert paragraphs("04-two-links.md", rules) == [RIVER, linked, MILLER]


@pytest.mark.parametrize("case", ["one-file", "twelve-essays", "thirty-mails"])
def test_05_little_text_is_enough(case: str, tmp_path: Path) -> None:
    result = prepared(tmp_path, f"05-own-writing/{case}")
    assert result.problem == ""
    kept = {split: result.ledger["splits"][split]["characters"] for split in corpus.SPLITS}
    size = sum(path.stat().st_size for path in (CASES / "05-own-writing" / case).iterdir())
    assert sum(kept.values()) > 0.95 * size
    assert 0.04 < kept["validation"] / sum(kept.values()) < 0.15


@both_rules
def test_06_two_books_in_one_file_are_both_kept(rules: str) -> None:
    assert paragraphs("06-two-books-in-one-file.txt", rules) == BOOK


@both_rules
@pytest.mark.parametrize("case", ["08-front-matter.md", "08c-front-matter-hugo.md"])
def test_08_front_matter_gives_the_title(case: str, rules: str) -> None:
    assert paragraphs(case, rules) == [RIVER, WHO, MILLER, SILENCE]
    assert documents(case, rules)[0].title == "The boat"


@both_rules
def test_09_obsidian(rules: str) -> None:
    kept = paragraphs("09-obsidian.md", rules)
    met = "I met Anna at the Old Mill, which was important to me and to her."  # a word is crossed out
    bell = "The bell was never heard again."
    assert [part for part in kept if part != "What she said"] == [RIVER, met, bell, MILLER]  # a title may stay


@both_rules
def test_11_liquid(rules: str) -> None:
    kept = paragraphs("11-liquid.md", rules)
    assert kept[:2] == [RIVER, MILLER]
    assert not re.search(r"[{}%<>]|head\.html|boat\.png|caption", "\n".join(kept))


@both_rules
def test_12_headings_and_items_begin_a_block(rules: str) -> None:
    items = [
        "the boat, which was green or blue, as the light under the willows had it",
        "the oars, which were worth more than the rest of it",
    ]
    kept = lines("12-headings-glued.md", rules)
    assert kept == ["The Boat", RIVER, "The Ledger", LEDGER, "The Bell", EASTER, *items]


@both_rules
def test_13_wrapped_at_100(rules: str) -> None:
    assert paragraphs("13-wrapped-at-100.txt", rules) == BOOK


@both_rules
def test_15_prose_and_verse(rules: str) -> None:
    lamp, lantern = VERSE.format("The lamp"), VERSE.format("The lantern")
    assert paragraphs("15-prose-and-verse.txt", rules) == [RIVER, lamp, lamp, WHO, *[lantern] * 6, MILLER]


@both_rules
def test_17_one_sentence_a_line(rules: str) -> None:
    assert paragraphs("17-one-sentence-a-line.md", rules) == [RIVER, WHO, MILLER, SILENCE]


@both_rules
def test_30_lines_that_begin_with_i_are_no_contents(rules: str) -> None:
    assert paragraphs("30-diary-I.txt", rules) == [
        "I got up before it was light.",
        "I made tea, and let it go cold.",
        "I wrote to Anna about the boat.",
        "I walked as far as the weir, and came back by the road.",
        RIVER,
        WHO,
    ]


@both_rules
def test_32_times_in_a_diary_are_no_chat(rules: str) -> None:
    assert paragraphs("32-diary-times.txt", rules) == [
        "9:15 -- Left for the mill with the lantern and a piece of bread.",
        "10:40 -- Nobody there but the cat, who had been at the flour.",
        "11:20 -- The boy came back with his boots in his hand.",
        "12:05 -- Rain.",
        RIVER,
        WHO,
    ]


@both_rules
def test_33_escapes_are_no_formulas(rules: str) -> None:
    assert paragraphs("33-escapes.md", rules) == [
        RIVER,
        "He paid $40 for the boat, $5 for the oars, and never asked what they were worth.",
        "[laughs] He never told us where the coins had come from.",
        MILLER,
    ]


@both_rules
def test_34_speech_is_no_post(rules: str) -> None:
    assert paragraphs("34-dialogue.txt", rules) == [
        RIVER,
        "\u201cI dunno,\u201d he said. \u201cI'm gonna ask my dad.\u201d",
        "\u201cWhat!?\u201d she cried. \u201cNo!! Not again!\u201d",
        WHO,
    ]


@both_rules
def test_35_a_topic_is_no_notice(rules: str) -> None:
    assert paragraphs("35-notes-javascript.md", rules) == [
        RIVER,
        "The plugin is written in JavaScript, and I wrote it in a weekend.",
        WHO,
        "I had to read the terms of service twice before I understood them.",
    ]


@both_rules
def test_50_clippings(rules: str) -> None:
    kept = paragraphs("50-clippings.txt", rules)
    title = "The Boat and the Bell (A. Berg)"
    assert [part for part in kept if part != title] == [SILENCE, OWE]  # the book's title may stay


# --- Drafts and journals ---------------------------------------------------------------------------------------------


def test_28_the_last_version_stays(tmp_path: Path) -> None:
    final = (CASES / "28-drafts" / "bridge-final.md").read_text(encoding="utf-8").strip()
    kept = prepared_text(prepared(tmp_path, "28-drafts", "05-own-writing/twelve-essays"))
    assert all(kept.count(part) == 1 for part in final.split("\n\n"))


def test_29_a_template_costs_no_day(tmp_path: Path) -> None:
    result = prepared(tmp_path, "29-journal", "05-own-writing/twelve-essays")
    assert result.ledger["sources"][0]["dropped"] == {}
    kept = prepared_text(result)
    for path in (CASES / "29-journal").iterdir():
        answers = [part for part in path.read_text(encoding="utf-8").split("\n\n") if not part.startswith("#")]
        assert len(answers) == 3
        assert all(answer.strip() in kept for answer in answers), path.name


# --- Mail ------------------------------------------------------------------------------------------------------------


@both_rules
def test_18_answers_below_and_between_stay(rules: str) -> None:
    assert paragraphs("18-mail-answer-below.eml", rules) == [
        "Hi Tom,",
        "Yes, the miller knows it. It belonged to his cousin above the weir, and he sold it in spring to a man who "
        "paid in old coins.",
        "I will, with the lantern that you lent me.",
        "Anna",
    ]


@both_rules
def test_20_outlooks_quoted_mail_goes(rules: str) -> None:
    assert paragraphs("20-mail-outlook.eml", rules) == [FRIDAY, "Anna"]


@both_rules
def test_21_footers_go(rules: str) -> None:
    assert paragraphs("21-mail-footer.eml", rules) == [FRIDAY]


@both_rules
def test_22_apples_folder_is_read(rules: str) -> None:
    assert paragraphs("22-apple-mail", rules) == [RIVER, "Anna"]


# --- Web pages, wikis, records ---------------------------------------------------------------------------------------


@both_rules
def test_23_templates_keep_their_words(rules: str) -> None:
    kept = text("23-wikipedia.xml", rules)
    for words in (
        "The Aue (",
        "is a river.",
        "93 km",
        "12 m",
        "12,345 people",
        "the water brings back what is thrown into it",
        "1840",
        "filled in later",
        "The coup failed.",
    ):
        assert words in kept
    assert not re.search(r"\(\s*[;,)]|[;,(]\s*\)|[{}|]", kept)


@both_rules
def test_24_the_article_and_not_the_page(rules: str) -> None:
    kept = paragraphs("24-short-article.html", rules)
    assert [part for part in kept if part != "The boat"] == [RIVER, WHO]


@both_rules
def test_25_tags_between_words_leave_a_blank(rules: str) -> None:
    fine, affairs = (
        " ".join(" ".join(piece.text for piece in document.pieces).split())
        for document in documents("25-html-in-jsonl.jsonl", rules)
    )
    assert fine == (
        "He said that it was fine. She did not believe him. So they went home, each by another road, and did not speak "
        "of it again."
    )
    assert affairs == f"Home affairs Q. I should like to ask about the mill. {RIVER}"


@both_rules
def test_48_a_page_saved_as_text(rules: str) -> None:
    assert paragraphs("48-page-saved-as.txt", rules) == [RIVER, WHO]


# --- Documents -------------------------------------------------------------------------------------------------------


@both_rules
@pytest.mark.parametrize("case", ["39-dropcap.docx", "42-strict.docx"])
def test_word(case: str, rules: str) -> None:
    assert paragraphs(case, rules) == [RIVER, WHO]


@both_rules
def test_41_verse_of_an_e_book_keeps_its_lines(rules: str) -> None:
    assert paragraphs("41-poem.epub", rules) == [VERSE.format("The lamp"), RIVER]


@both_rules
def test_43_latex(rules: str) -> None:
    kept = [part.replace("\u2019", "'") for part in paragraphs("43-essay.tex", rules)]
    assert [part for part in kept if part in ("The flood", RIVER, MILLER, SILENCE)] == [
        "The flood", RIVER, MILLER, SILENCE
    ]  # fmt: skip
    assert "He said so twice." in kept
    assert not re.search(r"[\\{}~%]|berg1911|sec:flood|csquotes|a remark", "\n".join(kept))
    last = r"As I said in section(?: \d)?, [\"\u201c]the light[\"\u201d] deceives\s?[\u2014-]{1,3}\s?sometimes\."
    assert any(re.fullmatch(last, part) for part in kept)


def test_47_items_of_a_word_list_are_items() -> None:
    items = ["bread and cheese", "a length of rope", "the lantern from the mill", "oars"]
    assert lines("47-list.docx", OWN) == [*items, RIVER]
    assert all(f"- {item}" in text("47-list.docx", OWN) for item in items)
    assert paragraphs("47-list.docx", GRAMMAR) == [RIVER]


# --- Characters ------------------------------------------------------------------------------------------------------


@both_rules
def test_26_fractions_and_raised_signs(rules: str) -> None:
    first, second = paragraphs("26-fractions.txt", rules)
    assert re.fullmatch(
        r"Take 1(?:\u00bd| 1[/\u2044]2) cups of flour, (?:\u00be|3[/\u2044]4) of a cup of milk and "
        r"2(?:\u00bc| 1[/\u2044]4) spoons of salt; the kitchen was 20 m\u00b2 large, and the clock said half past "
        r"six\u00b3? when the bread was done\.",
        first,
    )
    assert re.fullmatch(r"(?:\u00b3 ?)?The clock was always late\.", second)


@both_rules
def test_37_soft_hyphens_join_words(rules: str) -> None:
    assert paragraphs("37-soft-hyphens.txt", rules) == [RIVER, WHO, MILLER]


@both_rules
def test_44_mac_roman(rules: str) -> None:
    said = (
        "It\u2019s late, she said\u2014\u201cthe caf\u00e9 is shut.\u201d "
        "He\u2019d gone home... and paid \u00a35 for it."
    )
    first, *rest = paragraphs("44-macroman.txt", rules)
    assert first.replace("\u2026", "...") == said
    assert rest == [RIVER, WHO]


def test_every_case_has_its_test() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    names = [path.name for path in CASES.iterdir()]
    assert [name for name in names if name not in tests] == []
