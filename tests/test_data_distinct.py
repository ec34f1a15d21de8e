"""Duplicates in a phase: drafts, journals with a template, versions in several sources."""

import random

import pytest

from llm60_jax.data.clean import dedup
from llm60_jax.data.corpus import distinct
from llm60_jax.data.corpus.distinct import Distinct
from llm60_jax.data.corpus.pieces import Piece, ScreenedDocument, id_of


def prose(seed: int, words: int = 120) -> str:
    pick = random.Random(seed)
    return " ".join(f"{pick.choice('bcdfglmnprst')}{pick.choice('aeiou')}{pick.randrange(10**6)}" for _ in range(words))


def document(name: str, *texts: str) -> ScreenedDocument:
    made = [Piece(id_of("", text), text, dedup.sketch_of(dedup.shingles(text))) for text in texts]
    return ScreenedDocument(name, name, "", "empty", made)


def kept(documents: list[ScreenedDocument], compared: Distinct | None = None) -> list[str]:
    judged = (compared or Distinct()).judged(documents)
    return [document.file for document, fates in judged if any(not fate.reason for fate in fates)]


DRAFT = "\n\n".join(prose(seed) for seed in range(4))
FINAL = "\n\n".join([DRAFT, *(prose(seed) for seed in range(10, 13))])


@pytest.mark.parametrize("names", [("draft.md", "final.md"), ("final.md", "old.md")])
def test_the_longer_version_stays_whatever_its_name(names: tuple[str, str]) -> None:
    texts = {"final.md": FINAL}
    documents = [document(name, texts.get(name, DRAFT)) for name in names]
    assert kept(documents) == ["final.md"]


def test_of_equally_long_versions_the_later_stays() -> None:
    first, second = f"{DRAFT} mill", f"{DRAFT} boat"
    assert kept([document("v1.md", first), document("v2.md", second)]) == ["v2.md"]
    assert kept([document("v1.md", DRAFT), document("v2.md", DRAFT)]) == ["v2.md"]


def test_ten_versions_of_one_text_are_one() -> None:
    versions = [document(f"v{n:02}.md", "\n\n".join([DRAFT, *(prose(50 + i) for i in range(n))])) for n in range(10)]
    assert kept(versions) == ["v09.md"]


def test_an_earlier_source_keeps_its_text() -> None:
    compared = Distinct()
    assert kept([document("a.md", DRAFT)], compared) == ["a.md"]
    judged = list(compared.judged([document("b.md", DRAFT, prose(99))]))
    assert [fate.reason for _, fates in judged for fate in fates] == ["duplicate", ""]


QUESTIONS = (
    "What did I see today that I had never noticed before, and where was it standing?",
    "Whom did I speak with, and what will I remember of it a year from now?",
    "What would I do in another way if this day were given to me once more?",
)


def day(number: int, words: int = 11) -> ScreenedDocument:
    answers = (prose(100 * number + place, words) for place in range(3))
    lines = [line for pair in zip(QUESTIONS, answers, strict=True) for line in pair]
    return document(f"{number:02}.md", "\n\n".join(lines))


def test_a_journal_with_a_template_loses_no_day() -> None:
    days = [day(number) for number in range(60)]
    assert kept(days) == [document.file for document in days]
    # The same days without what makes the questions a template: too few of them.
    assert len(kept(days[:4])) < 4


def test_a_repeated_day_of_a_journal_is_still_found() -> None:
    days = [day(number, 40) for number in range(60)]
    again = days[7]._replace(file="again.md")
    edited = document("edited.md", days[9].pieces[0].text + " And more.")
    assert kept([*days, again, edited]) == [d.file for d in [*days, again, edited] if d.file not in ("07.md", "09.md")]


def test_documents_beyond_a_window_are_compared_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct, "WINDOW_CHARACTERS", 10)
    assert kept([document("draft.md", DRAFT), document("final.md", FINAL)]) == ["draft.md"]
