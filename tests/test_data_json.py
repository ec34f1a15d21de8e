"""JSON files: arrays of texts, notes, notebooks; chat exports refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_files import ONE, TWO, read, texts

from llm60_jax.data.read import items, json_files, plain
from llm60_jax.data.read.items import Broken, Document


def test_an_array_of_records_yields_a_document_each(tmp_path: Path) -> None:
    data = json.dumps([{"title": "T", "text": ONE}, {"text": TWO, "title": 5}])
    expected = [Document("a.json:1", "T", ONE), Document("a.json:2", "a.json:2", TWO)]
    assert read(tmp_path / "a.json", data) == expected
    assert read(tmp_path / "a.JSON", "\ufeff " + data.replace('", "', '" ,\n"')) == [
        item._replace(name=item.name.replace("json", "JSON"), title=item.title.replace("json", "JSON"))
        for item in expected
    ]
    assert read(tmp_path / "a.json", data.encode("utf-16")) == expected


@pytest.mark.parametrize(
    "value",
    [
        [ONE, TWO],
        {"entries": [{"text": ONE}, {"text": TWO}], "version": "1.0", "tags": ["a", "b"]},
        {
            "metadata": {"version": "1.0"},
            "entries": [{"creationDate": "2024", "text": ONE, "photos": [{"md5": "1"}]}, {"text": TWO}],
        },
        {"posts": [{"content": ONE}, {"content": TWO}]},
        [{"body": ONE}, {"entry": TWO}],
        {"items": [{"content": {"title": "T", "text": ONE}}, {"content": {"text": TWO}}]},
        {"activeNotes": [{"content": ONE}, {"content": TWO}], "trashedNotes": [{"content": "gone"}]},
        {"texts": [ONE, TWO], "labels": ["essay"]},
        [{"textContent": ONE}, {"textContent": TWO}, {"textContent": "gone", "isTrashed": True}],
    ],
)
def test_common_exports_are_read(tmp_path: Path, value: Any) -> None:
    assert texts(read(tmp_path / "a.json", json.dumps(value))) == [ONE, TWO]


def test_a_single_note_is_a_document(tmp_path: Path) -> None:
    assert read(tmp_path / "a.json", json.dumps({"title": "T", "textContent": ONE, "labels": [{"name": "x"}]})) == [
        Document("a.json", "T", ONE)
    ]


def test_json_lines_under_the_name_json_lose_nothing(tmp_path: Path) -> None:
    lines = [json.dumps({"title": "T", "text": ONE}), json.dumps({"body": TWO})]
    expected = [Document("a.json:1", "T", ONE), Document("a.json:2", "a.json:2", TWO)]
    assert read(tmp_path / "a.json", "\n".join(lines)) == expected
    assert read(tmp_path / "a.json", "\n".join(json.dumps(json.loads(line), indent=1) for line in lines)) == expected
    assert texts(read(tmp_path / "a.json", f"[{lines[0]}]\n[{lines[1]}]")) == [ONE, TWO]
    assert read(tmp_path / "a.json", f"{lines[0]}\nno JSON") == [expected[0], Broken("a.json", "unreadable")]


@pytest.mark.parametrize("value", [{"2025-03-03": ONE, "2025-03-04": TWO}, {"a": {"text": ONE}, "b": {"body": TWO}}])
def test_an_object_of_texts_yields_a_document_for_each_key(tmp_path: Path, value: dict[str, Any]) -> None:
    documents = read(tmp_path / "a.json", json.dumps(value))
    assert [(item.title, item.text) for item in documents if isinstance(item, Document)] == [
        (key, text) for key, text in zip(value, (ONE, TWO), strict=True)
    ]
    assert read(tmp_path / "a.json", json.dumps(value | {"version": "1"})) == [Broken("a.json", "no_field")]


def test_a_note_that_was_thrown_away_is_not_read(tmp_path: Path) -> None:
    assert read(tmp_path / "a.json", json.dumps({"isTrashed": True, "textContent": ONE})) == []
    assert texts(read(tmp_path / "a.json", json.dumps({"isTrashed": False, "textContent": ONE}))) == [ONE]
    checklist = {"isTrashed": True, "listContent": [{"text": ONE}, {"text": TWO}]}
    assert read(tmp_path / "a.json", json.dumps(checklist)) == []


def test_json_lines_are_read_by_the_same_fields_as_json(tmp_path: Path) -> None:
    lines = [{"title": "T", "content": ONE}, {"body": TWO}, {"x": 1}]
    assert read(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines))) == [
        Document("a.jsonl:1", "T", ONE),
        Document("a.jsonl:2", "a.jsonl:2", TWO),
        Broken("a.jsonl:3", "no_field"),
    ]
    assert read(tmp_path / "a.jsonl", json.dumps(lines[0]), "story") == [Broken("a.jsonl:1", "no_field")]


def test_a_named_field_is_the_only_one_that_is_read(tmp_path: Path) -> None:
    data = json.dumps([{"text": ONE, "story": TWO}, {"text": ONE}])
    assert read(tmp_path / "a.json", data, "story") == [
        Document("a.json:1", "a.json:1", TWO),
        Broken("a.json:2", "no_field"),
    ]
    assert read(tmp_path / "a.json", json.dumps([{"x": 1}, {"x": 2}])) == [Broken("a.json", "no_field")]
    assert read(tmp_path / "a.json", json.dumps({"name": "a package", "files": ["a"]})) == [
        Broken("a.json", "no_field")
    ]
    results = read(tmp_path / "a.json", json.dumps([{"x": 1}, {"text": ONE}, {"x": 2}]))
    assert results == [
        Broken("a.json:1", "no_field"),
        Document("a.json:2", "a.json:2", ONE),
        Broken("a.json:3", "no_field"),
    ]


@pytest.mark.parametrize(
    "value",
    [
        [{"title": "T", "mapping": {"1": {"message": {"author": {"role": "user"}, "content": {"parts": [ONE]}}}}}],
        [{"title": "T", "mapping": {}, "current_node": "1"}],
        {"title": "T", "mapping": {"1": {"message": None}}, "current_node": "1"},
        [{"uuid": "1", "name": "T", "chat_messages": [{"sender": "human", "text": ONE}]}],
        {"uuid": "1", "chat_messages": [{"sender": "human", "text": ONE}]},
        {"name": "Group", "type": "personal_chat", "messages": [{"type": "message", "from": "A", "text": ONE}]},
        {"participants": [{"name": "A"}], "messages": [{"sender_name": "A", "content": ONE}]},
        [{"type": "message", "user": "U1", "text": ONE, "ts": "1"}],
        [{"conversations": [{"from": "human", "value": ONE}]}],
        {"guild": {}, "channel": {}, "messages": [{"author": {"name": "A"}, "content": ONE}]},
    ],
)
def test_chat_exports_are_refused_by_name(tmp_path: Path, value: Any) -> None:
    assert read(tmp_path / "conversations.json", json.dumps(value)) == [Broken("conversations.json", "chat_export")]
    assert items.HINTS["chat_export"].startswith("they are chat")


def test_a_notebook_yields_its_markdown(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# A boat\n", "\n", ONE]},
        {"cell_type": "code", "source": "x = 1", "outputs": []},
        {"cell_type": "markdown", "source": TWO},
    ]
    data = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4})
    assert read(tmp_path / "a.ipynb", data) == [Document("a.ipynb", "A boat", f"A boat\n\n{ONE}\n\n{TWO}")]
    assert read(tmp_path / "a.ipynb", json.dumps({"cells": [], "nbformat": 4})) == []


def test_bytes_that_are_not_utf_8_are_repaired(tmp_path: Path) -> None:
    data = json.dumps([{"text": "The caf\u00e9 is shut. \u201cNo!\u201d"}, {"text": ONE}], ensure_ascii=False).encode(
        "cp1252"
    )
    first, second = read(tmp_path / "a.json", data)
    assert isinstance(first, Document)
    assert (first.text, first.repaired) == ("The caf\u00e9 is shut. \u201cNo!\u201d", True)
    assert second == Document("a.json:2", "a.json:2", ONE)


def test_a_large_array_is_read_as_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "BLOCK_BYTES", 50)
    monkeypatch.setattr(items, "LARGEST", 2_000)
    data = json.dumps(
        {"version": 1, "entries": [{"text": f"{ONE} {number} caf\u00e9"} for number in range(200)]}, ensure_ascii=False
    )
    assert texts(read(tmp_path / "a.json", data)) == [f"{ONE} {number} caf\u00e9" for number in range(200)]
    data = json.dumps([{"text": ONE}, {"text": "x" * 5_000}, {"text": TWO}])
    assert read(tmp_path / "a.json", data) == [Document("a.json:1", "a.json:1", ONE), Broken("a.json", "too_large")]


@pytest.mark.parametrize(
    "data", ['[{"text": "a"}, {"te', "[" * 200_000, '{"a": ' * 100_000, "[1 2]", "null", "[{}}", '{"a" 1}', "[nul"]
)
def test_broken_json_is_named(tmp_path: Path, data: str) -> None:
    results = read(tmp_path / "a.json", data)
    assert results[-1] == Broken("a.json", "unreadable")
    assert texts(results) == (["a"] if '"a"}' in data else [])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["text", "title", "mapping", "messages", "cells", "a"]), inner)
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(VALUES, st.integers(1, 64))
def test_any_json_ends_without_an_error_in_any_block_size(tmp_path: Path, value: Any, block: int) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8", errors="replace")
    whole = _items(path)
    before, plain.BLOCK_BYTES = plain.BLOCK_BYTES, block
    try:
        assert _items(path) == whole
    finally:
        plain.BLOCK_BYTES = before


def _items(path: Path) -> list[Any]:
    try:
        return list(json_files.json_file(path, "a.json", "text", "title"))
    except items.Unreadable:
        return ["unreadable"]
