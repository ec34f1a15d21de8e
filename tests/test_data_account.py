"""The ledger as a reader sees it: rows, JSON values, and the page."""

import html.parser
import json
from pathlib import Path
from typing import Any

import pytest

from llm60_jax import config as config_module
from llm60_jax.data.corpus import account, corpus, joining
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.machine.progress import silent


def ledger() -> Ledger:
    made = Ledger("books", licence="CC0 <1.0>")
    made.documents_in, made.documents_kept = 4, 2
    for file, characters in (("a.txt", 600), ("b.txt", 400)):
        made.read(file, characters)
    made.keep("a.txt", 500)
    made.drop("code", "b.txt", "b.txt")
    made.drop_part("code", "b.txt", "x = 1;" * 50)
    made.drop_part("list", "a.txt", "- <b>bread</b>")
    made.drop("not_text", "c.txt", "c.txt")
    return made


def test_rows_are_sorted_by_what_they_took_and_add_up() -> None:
    rows = account.rows(ledger())
    assert [(row.what, row.documents, row.parts, row.characters, row.tokens) for row in rows] == [
        ("in", 4, 0, 1000, None),
        ("kept", 2, 0, 500, None),
        ("code", 1, 1, 300, None),
        ("list", 0, 1, 14, None),
        ("not_text", 1, 0, 0, None),
    ]
    assert rows[0].documents == sum(row.documents for row in rows[1:])
    assert rows[1].share == 0.5


def test_tokens_are_counted_where_text_is_kept_and_else_estimated() -> None:
    rows = {row.what: row for row in account.rows(ledger(), tokens=100)}
    assert {what: row.tokens for what, row in rows.items()} == {
        "in": 200, "kept": 100, "code": 60, "list": 3, "not_text": 0,
    }  # fmt: skip
    assert rows["kept"].cells(first=True) == ("books", "kept", "2", "", "500", "100", "50.00%")
    assert rows["code"].cells(first=False) == ("", "code", "1", "1", "300", "~60", "30.00%")


class Page(html.parser.HTMLParser):
    """A parser that checks that every tag is closed, and collects tags and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_samples_and_obeys_none_of_them(tmp_path: Path) -> None:
    made = corpus.Corpus(
        "grammar",
        "d",
        tmp_path,
        tmp_path / "train.jsonl",
        tmp_path / "validation.jsonl",
        {
            "sources": [ledger().to_tree()],
            "splits": {split: {"documents": 1, "characters": 1} for split in joining.SPLITS},
            "too_few": "phase.grammar.sources: <too> few",
        },
        notes=("3 documents left out: a & b",),
    )
    page = Page()
    page.feed(account.page([(made, {"books": 100})]))
    assert not page.open
    assert "b" not in page.tags  # a sample's markup is text
    for words in ("- <b>bread</b>", "CC0 <1.0>", "<too> few", "a & b", "c.txt", "30.00%", "~60"):
        assert words in page.text


def test_the_account_of_a_phase_adds_up(tiny: config_module.Config, tmp_path: Path) -> None:
    phase = tiny.phase[0]
    made = corpus.prepare(phase, tmp_path / "data", silent)
    tree = account.tree(phase, made, {})
    assert json.loads(json.dumps(tree)) == tree
    assert tree["documents_in"] == 60 == tree["documents_kept"] + sum(tree["dropped"].values())
    assert len(tree["files"]) == 60
    assert "tokens" not in tree
    assert account.tree(phase, made, {"grammar": 7})["tokens"] == 7


@pytest.mark.parametrize("order", [1, -1])
def test_accounts_of_parts_add_up_to_the_whole(order: int) -> None:
    parts, whole = [ledger(), ledger()][::order], Ledger("books", licence="CC0 <1.0>")
    for part in parts:
        whole.add(Ledger.of(part.to_tree()))
    assert whole.documents_in == 8
    assert whole.dropped == {"code": 2, "not_text": 2}
    assert whole.files["b.txt"].dropped == {"code": 600}
    assert whole.examples["code"] == ["b.txt", "b.txt"]
    for _ in range(20):
        whole.add(ledger())
    assert len(whole.samples["list"]) == 20
