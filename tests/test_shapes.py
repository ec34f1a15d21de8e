"""Foreign and damaged files of a run: skipped, named, and harmless to whoever reads it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import doctor as doctor_tool
import pytest
import report as report_tool
from conftest import PROJECT, tiny_tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_runs import made

from llm60_jax import config as config_module
from llm60_jax.record import history, report, shapes
from llm60_jax.record.metrics import MetricsLog
from llm60_jax.record.workdir import WorkDir


def write(path: Path, tree: dict[str, Any]) -> list[dict[str, Any]]:
    """Write the files of a finished run of three phases, and return its rows."""
    run = made(tree, path)
    for folder in ("gates", "samples"):
        (path / folder).mkdir(parents=True)
    config = config_module.to_tree(run.config)
    (path / "config.json").write_text(json.dumps({"config": config, "digests": {}, "changes": []}))
    (path / "plan.json").write_text(json.dumps(run.plan))
    for name, gate in run.gates.items():
        (path / "gates" / f"{name}.json").write_text(json.dumps(gate))
    text = {"prompt": "The", "text": "The river.", "kind": "short"}
    sample = {"step": 5, "phase": "grammar", "tokens_per_second": 10.0, "texts": [text]}
    (path / "samples" / "5.json").write_text(json.dumps(sample))
    put(path, run.rows)
    return run.rows


def put(path: Path, rows: list[Any], *more: bytes) -> None:
    lines = [json.dumps(row).encode() for row in rows]
    (path / "metrics.jsonl").write_bytes(b"".join(line + b"\n" for line in [*lines, *more]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shapes")
    write(path / "run", tiny_tree(path))
    return path / "run"


@pytest.fixture
def rows(run: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows of `run`, whose file holds them again after the test."""
    whole = (run / "metrics.jsonl").read_bytes()
    yield WorkDir(run).rows()
    (run / "metrics.jsonl").write_bytes(whole)


def shown(path: Path) -> history.History:
    """Read a run in every way in which it is shown."""
    read = history.read(path)
    doctor_tool.as_text(read), json.dumps(doctor_tool.as_json(read))
    report.page(read)
    for phase in read.config.phase:
        report.summary(read, phase)
    return read


def test_a_whole_run_is_read_without_a_word(run: Path) -> None:
    read = shown(run)
    assert read.skipped == []
    assert read.rows
    assert read.gates.keys() == {"grammar", "vocabulary", "fine_tune"}
    assert len(read.plan) == 15
    assert len(read.samples) == 1


def test_samples_come_in_the_order_of_steps(run: Path) -> None:
    for name, step in (("4", 100), ("6", 20), ("7", 3)):
        (run / "samples" / f"{name}.json").write_text(json.dumps({"step": step, "phase": "grammar", "texts": []}))
    assert [sample["step"] for sample in history.read(run).samples] == [3, 5, 20, 100]
    for name in "467":
        (run / "samples" / f"{name}.json").unlink()


POSITION = {"step": 3, "tokens": 3 * 128, "phase": "grammar", "stage": 0}
STEP = POSITION | {"loss": 2.0, "context": 16, "frozen": 0, "learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b"3", "is 3, not an object"),
        (b"null", "is null, not an object"),
        (POSITION | {"step": "7"}, "step is text"),
        (POSITION | {"step": 1.5}, "step is 1.5"),
        (POSITION | {"step": True}, "step is true or false"),
        (POSITION | {"step": -1}, "step is -1"),
        (POSITION | {"step": 10**20, "tokens": 128 * 10**20}, "step is 100000000000000000000"),
        ({"step": 1, "tokens": 128, "stage": 0}, "phase is missing"),
        (POSITION | {"phase": "other"}, "the run has no phase 'other'"),
        (POSITION | {"tokens": 999}, "tokens is 999, and after 3 steps it was 384"),
        (STEP | {"loss": [2.0]}, "loss is a list"),
        (STEP | {"loss": float("nan")}, "loss is not finite"),
        (STEP | {"loss": float("inf")}, "loss is not finite"),
        (STEP | {"loss": None}, "loss is null"),
        (POSITION | {"loss": 2.0}, "context is missing beside loss"),
        (STEP | {"loss": 2.5}, "loss of step 3 is there a second time"),
        (POSITION | {"stage_end": 5}, "stage_end is 5"),
        (POSITION | {"stage_end": None}, "stage_end is null"),
        (POSITION | {"stage_end": {"tokens_per_second": 9.0}}, "stage_end.compile_seconds is missing"),
        (POSITION | {"depth": {"contributions": [], "losses": [1.0, 2.0]}}, "depth.contributions has 0 entries"),
        (POSITION | {"earlier_phases": {"grammar": 3}}, "earlier_phases.grammar is 3"),
        (POSITION | {"loss_by_rarity": [1.0]}, "loss_by_rarity has 1 entries"),
        (POSITION | {"tokens_per_second": {"a": {"b": [[]]}}}, "tokens_per_second is an object"),
    ],
)
def test_a_row_that_no_run_writes_is_skipped_and_named(
    run: Path, rows: list[dict[str, Any]], line: bytes | dict[str, Any], why: str
) -> None:
    put(run, rows, line if isinstance(line, bytes) else json.dumps(line).encode())
    read = shown(run)
    assert read.rows == rows
    assert read.skipped == [f"metrics.jsonl: 1 row skipped: line {len(rows) + 1}: {why}"]


def test_tools_and_a_resumed_run_name_what_they_skip(
    run: Path, rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    put(run, [{"step": "a"}, *rows, POSITION | {"phase": "x"}], b"{}", b"{", b"[]", b"3", b'{"step": 5, "lo')
    words = ["metrics.jsonl: 7 rows skipped: line 1: step is text; ", "; and 2 more"]
    for tool, arguments in ((doctor_tool, []), (doctor_tool, ["--json"]), (report_tool, [])):
        assert tool.main([str(run), *arguments]) == 0
        errors = capsys.readouterr().err
        assert all(word in errors for word in words)
        assert "Traceback" not in errors
    assert words[0] in (run / "report.html").read_text()
    log = MetricsLog(WorkDir(run))
    assert log.rows == rows
    assert words[0] in caplog.text
    log.rewind(10)
    assert WorkDir(run).read_rows() == ([row for row in rows if row["step"] <= 10], [])


def test_a_row_that_is_being_written_is_not_named(run: Path, rows: list[dict[str, Any]]) -> None:
    put(run, rows)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 4, "lo')
    assert shown(run).skipped == []


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("plan.json", "[", "not JSON"),
        ("plan.json", "{}", "is an object, not a list"),
        ("plan.json", "[3]", "row 1: it is 3"),
        ("plan.json", '[{"phase": "grammar"}]', "row 1: stage is missing"),
        ("gates/grammar.json", "[]", "it is a list"),
        ("gates/grammar.json", '{"passed": "yes"}', "passed is text"),
        ("gates/grammar.json", '{"passed": true, "checks": [{"name": 3}]}', "checks.0.name is 3"),
        ("gates/grammar.json", '{"passed": true, "evidence": {"generated": {"mtld": []}}}', "evidence.generated.mtld"),
        ("samples/5.json", '{"step": 5}', "phase is missing"),
        ("samples/6.json", '{"step": 6, "phase": "grammar", "texts": [{"prompt": "The"}]}', "texts.0.text is missing"),
        ("samples/6.json", b"\xff", "cannot be read"),
    ],
)
def test_other_files_are_skipped_and_named(run: Path, name: str, content: str | bytes, why: str) -> None:
    before = (run / name).read_bytes() if (run / name).exists() else None
    (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (line,) = shown(run).skipped
    assert line.startswith(f"{name}: skipped: ")
    assert why in line
    (run / name).unlink()
    if before is not None:
        (run / name).write_bytes(before)


def test_a_plan_of_another_configuration_is_skipped(run: Path) -> None:
    whole = (run / "plan.json").read_text()
    for change, why in (({"frozen": 3}, "no stack ends at frozen = 3"), ({"phase": "x"}, "the run has no phase 'x'")):
        plan = json.loads(whole)
        plan[4] |= change
        (run / "plan.json").write_text(json.dumps(plan))
        read = shown(run)
        assert read.plan == []
        assert read.skipped == [f"plan.json: skipped: row 5: {why}"]
    (run / "plan.json").write_text(whole)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**25)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
NAMES = st.sampled_from(sorted(shapes.Row.model_fields))


def _changed(row: dict[str, Any], path: list[int], value: Any) -> Any:
    """Return a row with the value at a place replaced."""
    if not path or not isinstance(row, dict | list) or not row:
        return value
    keys = sorted(row) if isinstance(row, dict) else range(len(row))
    key = list(keys)[path[0] % len(keys)]
    copy = dict(row) if isinstance(row, dict) else list(row)
    copy[key] = _changed(row[key], path[1:], value)
    return copy


@st.composite
def damage(draw: Any, rows: list[dict[str, Any]]) -> list[Any]:
    """Draw rows of which some are changed, with garbage before and after them."""
    fields = st.dictionaries(NAMES, VALUES)
    mixed: list[Any] = list(rows)
    places = st.lists(st.integers(0, 30), min_size=1, max_size=4)
    for at, path, value in draw(st.lists(st.tuples(st.integers(0, len(rows) - 1), places, VALUES), max_size=8)):
        mixed[at] = _changed(mixed[at], path, value)
    garbage = draw(st.lists(VALUES | fields | fields.map(lambda some: POSITION | some), max_size=5))
    return [*garbage, *mixed, *garbage]


@pytest.mark.parametrize("examples", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_no_garbage_ends_a_reader(run: Path, rows: list[dict[str, Any]], examples: int) -> None:
    whole = {name: (run / name).read_bytes() for name in ("gates/grammar.json", "samples/5.json", "plan.json")}

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(mixed=damage(rows), changes=st.tuples(*[st.tuples(st.lists(st.integers(0, 30)), VALUES)] * 3))
    def read(mixed: list[Any], changes: Any) -> None:
        put(run, mixed)
        for (name, content), (path, value) in zip(whole.items(), changes, strict=True):
            (run / name).write_text(json.dumps(_changed(json.loads(content), path, value)))
        shown(run)
        MetricsLog(WorkDir(run))

    try:
        read()
    finally:
        for name, content in whole.items():
            (run / name).write_bytes(content)


def test_the_page_on_metrics_names_the_fields_of_the_table() -> None:
    page = (PROJECT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    assert shapes.Row.model_fields.keys() - {"bits_per_byte_error", "validation_error"} <= named
    nested = [shape.model_fields for shape in (shapes.StageEnd, shapes.Text, shapes.PhaseEnd)]
    allowed = set().union(shapes.Row.model_fields, *nested, {"start", "_error"})
    assert named <= allowed


def test_the_rows_of_a_run_fit_the_table(run: Path) -> None:
    assert {name for row in WorkDir(run).rows() for name in row} <= shapes.Row.model_fields.keys()
