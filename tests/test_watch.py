"""Runs are watched from their files: only what was appended is read, nothing is written, little is computed."""

import collections
import hashlib
import itertools
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time

import pytest
from conftest import metrics
from made_runs import longer, made

from llm60_jax import plan
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import files
from llm60_jax.plan import flops
from llm60_jax.record import charts, curves, forecast, history, report, status
from llm60_jax.record.charts import Line
from llm60_jax.record.tail import Tail, Thinned
from llm60_jax.serve import watch
from llm60_jax.serve.watch import Watch, WatchedRun


@pytest.fixture
def run(base, tmp_path):
    """A copy of a finished run of one phase."""
    return shutil.copytree(base, tmp_path / "run")


def append(run, text):
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(text)


def following(run, **fields):
    """A logged step after the last row of a run."""
    last = [row for row in metrics(run) if "loss" in row][-1]
    step = metrics(run)[-1]["step"] + 1
    return last | {"step": step, "tokens": step * 128} | fields


def contents(folder):
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- The rows --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tail(run):
    config = history.read(run).config
    tail = Tail(run / "metrics.jsonl")
    return lambda: (tail.read(config), tail)


def test_only_what_was_appended_is_read(run, tail, monkeypatch):
    from llm60_jax.record import shapes

    parsed = []
    real = shapes.parse
    monkeypatch.setattr(shapes, "parse", lambda data, *rest: parsed.append(len(data)) or real(data, *rest))
    whole = (run / "metrics.jsonl").stat().st_size
    changed, rows = tail()
    assert (changed, rows.rows, parsed) == (True, metrics(run), [whole])
    assert tail()[0] is False
    line = json.dumps(following(run))
    append(run, line[:20])
    assert tail()[0] is False  # a line without its end waits
    append(run, line[20:] + "\n")
    assert tail()[0] is True
    assert tail()[0] is False
    assert rows.rows == metrics(run)
    assert parsed == [whole, len(line) + 1]


@pytest.mark.parametrize("how", ["replaced", "rewritten", "shorter"])
def test_a_file_that_changed_before_its_end_starts_over(run, tail, how):
    tail()
    path, rows = run / "metrics.jsonl", metrics(run)
    rows = rows[:-1] if how == "shorter" else [row | {"later": True} for row in rows]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if how == "replaced":
        files.write_text(path, text)
    else:
        path.write_text(text, encoding="utf-8")
    changed, now = tail()
    assert changed
    assert now.rows == rows
    path.unlink()
    assert (tail()[0], tail()[0], now.rows) == (True, False, [])


def test_what_cannot_be_read_is_named_by_its_line(run, tail):
    tail()
    count = len(metrics(run))
    append(run, "}{\n")
    again = next(row for row in metrics_of(run) if "loss" in row)
    append(run, json.dumps(again) + "\n")
    _, now = tail()
    assert len(now.rows) == count
    assert [line.split(":")[0] for line in now.skipped] == [f"line {count + 1}", f"line {count + 2}"]
    assert "a second time" in now.skipped[1]
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()
    with pytest.raises(DamageError, match="not a regular file"):
        tail()


def metrics_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if line != "}{"]


def test_thinned_rows_keep_means_and_events():
    thinned, losses = Thinned(), []
    for step in range(1, 30_001):
        place = {"step": step, "tokens": step, "phase": "a", "stage": step // 10_000}
        losses.append(math.sin(step))
        thinned.add({**place, "loss": losses[-1], "grad_norm": 2.0})
        if step % 100 == 0:
            thinned.add({**place, "validation_loss": 1.0})
    logged = [row for row in thinned.rows if "loss" in row]
    assert sum("validation_loss" in row for row in thinned.rows) == 300
    assert 250 <= len(logged) <= 1000
    assert [row["step"] for row in logged] == sorted({row["step"] for row in logged})
    gaps = [after["step"] - before["step"] for before, after in itertools.pairwise([{"step": 0}, *logged])]
    mean = sum(gap * row["loss"] for gap, row in zip(gaps, logged, strict=True)) / 30_000
    assert mean == pytest.approx(sum(losses) / 30_000, abs=1e-12)
    assert {row["grad_norm"] for row in logged} == {2.0}
    stages = {row["stage"] for row in logged}
    assert stages == {0, 1, 2, 3}


# --- State and time --------------------------------------------------------------------------------------------------


def lock(run, pid, computer=None):
    (run / "lock").write_text(f"pid {pid} on {computer or platform.node()}, since 2026-01-01 10:00:00")


def test_the_state_of_a_run_comes_from_its_files(run, monkeypatch):
    assert status.of(history.read(run)).word == "finished"
    lock(run, os.getpid())
    assert status.of(history.read(run)) == ("under way", f"process {os.getpid()}", os.getpid())
    shutil.rmtree(run / "phases" / "grammar")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock(run, ended.pid)
    killed = status.of(history.read(run))
    assert (killed.word, killed.pid) == ("interrupted", None)
    assert "was killed" in killed.reason
    (run / "lock").write_text("")
    assert status.of(history.read(run)) == ("interrupted", "the same command resumes it", None)
    gate = json.loads((run / "gates" / "grammar.json").read_text())
    check = {"name": "fall", "found": 0.1, "asked": "at least 1", "passed": False}
    (run / "gates" / "grammar.json").write_text(json.dumps(gate | {"passed": False, "checks": [check]}))
    assert status.of(history.read(run))[:2] == ("stopped", "the gate of grammar did not pass: fall")
    append(run, json.dumps({**place_of(run), "stopped": "20 steps were refused"}) + "\n")
    assert status.of(history.read(run))[:2] == ("stopped", "20 steps were refused")


def place_of(run):
    return {name: metrics(run)[-1][name] for name in ("step", "tokens", "phase", "stage")}


def test_a_process_on_another_computer_is_judged_by_its_log(run):
    lock(run, 1, "elsewhere")
    found = status.holder(run)
    assert found == (1, "elsewhere")
    assert status.is_alive(run, found)
    os.utime(run / "log.txt", (time.time() - 700,) * 2)
    assert not status.is_alive(run, found)


def test_a_later_process_of_the_same_number_is_not_the_run(run):
    lock(run, os.getpid())
    os.utime(run / "lock", (1e9, 1e9))  # signed before this process began
    assert not status.is_alive(run, status.holder(run))


@pytest.mark.parametrize("text", ["", "pid", "pid 1 on", "pid 99999999999 on x, since 1", "\0" * 300, "<b>"])
def test_a_lock_that_names_nobody_is_nobody(run, text):
    (run / "lock").write_text(text)
    assert status.holder(run) is None


def test_a_pipe_in_the_place_of_a_lock_is_nobody(run):
    (run / "lock").unlink(missing_ok=True)
    os.mkfifo(run / "lock")
    assert status.holder(run) is None


def test_the_time_left_follows_the_operations_of_later_stages(tree, tmp_path):
    whole = made(longer(tree), tmp_path)
    config = whole.config
    stages = plan.build(config).stages
    first = stages[0]
    rows = [row for row in whole.rows if row["step"] <= first.stop_step - 1 and "stage_end" not in row]
    under_way = whole._replace(rows=rows)
    cost = [flops.step_flops(config.model, plan.key(config, stage)) for stage in stages]
    assert len(set(cost)) > 3
    per_operation = 128 / 900.0 / cost[0]
    expected = per_operation * sum(c * stage.steps for c, stage in zip(cost, stages, strict=True))
    done = 128 / 900.0 * first.steps
    assert forecast.remaining(under_way, first.stop_step) == pytest.approx(expected - done, rel=1e-9)
    assert forecast.remaining(under_way, plan.build(config).steps) == 0
    # A second stage that was measured goes on at its own speed.
    slow = next(row for row in whole.rows if "loss" in row and row["stage"] == 1)
    rows = [*rows, slow | {"tokens_per_second": 90.0}]
    second = stages[1]
    left = forecast.remaining(whole._replace(rows=rows), second.start_step)
    per_operation = (128 / 900 / cost[0] + 128 / 90 / cost[1]) / 2
    later = sum(per_operation * c * stage.steps for c, stage in list(zip(cost, stages, strict=True))[2:])
    assert left == pytest.approx(second.steps * 128 / 90 + later, rel=1e-9)
    assert forecast.remaining(whole._replace(rows=[]), 0) == math.inf


# --- Fragments -------------------------------------------------------------------------------------------------------


def test_a_watched_run_is_only_read(run):
    before = contents(run)
    shelf = Watch(lambda: {"run": run})
    shelf.list()
    shelf.run("run").now()
    shelf.run("run").sections()
    assert contents(run) == before


def test_nothing_is_drawn_unless_a_file_changed(run, monkeypatch):
    drawn = []
    real = report.fragment
    monkeypatch.setattr(report, "fragment", lambda run, names: drawn.append(names) or real(run, names))
    monkeypatch.setattr(watch, "BUDGET", 1e9)
    watched = WatchedRun(run)
    first = watched.sections()
    assert 'id="loss"' in first.html
    assert "What the doctor says" in first.html
    assert watched.sections() is first
    assert len(drawn) == 2
    append(run, json.dumps(following(run)) + "\n")
    second = watched.sections()
    assert second.tag != first.tag
    assert len(drawn) == 4
    sample = {"step": 2, "phase": "grammar", "texts": [{"prompt": "The", "text": "The end of it."}]}
    (run / "samples" / "00000099.json").write_text(json.dumps(sample | {"step": 99}))
    assert "The end of it." in watched.sections().html


def test_drawing_stays_within_its_budget(monkeypatch):
    clock, spent, drawn = [100.0], [0.0], []
    monkeypatch.setattr(watch.time, "thread_time", lambda: spent[0])

    def draw():
        drawn.append(clock[0])
        spent[0] += 0.5
        return str(len(drawn))

    paced = watch._Paced(draw, lambda: clock[0])
    for second in range(1000):
        clock[0] = 100.0 + second
        paced.get(second)
    assert len(drawn) == math.ceil(1000 * watch.BUDGET / 0.5)
    assert sum(0.5 for _ in drawn) / 1000 <= watch.BUDGET + 0.5 / 1000


def test_drawing_that_fails_stays_within_its_budget_too(monkeypatch):
    spent, drawn = [0.0], []
    monkeypatch.setattr(watch.time, "thread_time", lambda: spent[0])

    def draw():
        drawn.append(1)
        spent[0] += 0.5
        raise DamageError("of the test")

    paced = watch._Paced(draw, lambda: 100.0)
    with pytest.raises(DamageError):
        paced.get(1)
    paced.get(2)
    assert len(drawn) == 1


def test_runs_that_are_gone_are_forgotten(run, tmp_path):
    places = {"first": run, "second": shutil.copytree(run, tmp_path / "second")}
    watching = Watch(lambda: places)
    watching.compare(["first", "second"])
    first = watching.run("first")
    del places["second"]
    assert [line.name for line in watching.list()] == ["first"]
    assert watching._watched == {run: first}
    assert not watching._compared


def test_the_panel_shows_where_a_run_stands(run, monkeypatch):
    lock(run, os.getpid())
    shutil.rmtree(run / "phases" / "grammar")
    html = WatchedRun(run).now().html
    for text in ("under way", "held-out loss", "learning rate", "frozen blocks", "processor", "memory", "disk"):
        assert text in html
    assert "of training steps left" in html
    assert f"process {os.getpid()}" in html


def test_what_is_no_run_is_a_line_of_the_list(tmp_path, run):
    (tmp_path / "empty").mkdir()
    (tmp_path / "early").mkdir()
    lock(tmp_path / "early", os.getpid())
    (run / "config.json").write_text("{")
    places = {name: tmp_path / name for name in ("empty", "early", "run")}
    found = {line.name: line.state for line in Watch(lambda: places).list()}
    assert found == {"empty": "no run yet", "early": "preparing", "run": "unreadable"}
    with pytest.raises(InputError, match="no such run; those that are: empty, early, run"):
        Watch(lambda: places).run("other")


def test_several_runs_stand_over_one_another(run, tmp_path):
    places = {"first": run, "second": shutil.copytree(run, tmp_path / "second")}
    shelf = Watch(lambda: places)
    html = shelf.compare(["first", "second"]).html
    assert html.count("<figure>") >= 2
    assert html.count('<i class="c0"></i>first') == html.count('<i class="c1"></i>second') >= 2
    for names in (["first"], [f"{n}" for n in range(7)]):
        with pytest.raises(InputError, match="choose two to 6 runs"):
            shelf.compare(names)


def test_a_line_keeps_its_colour_where_others_have_no_points():
    drawing = charts.chart("x", [Line("a", []), Line("b", [(0, 1), (1, 2)])], x_unit="tokens")
    assert '<i class="c1"></i>b' in drawing
    assert 'stroke="var(--c1)"' in drawing


def test_ticks_of_a_narrow_range_differ():
    drawing = charts.chart("x", [Line("a", [(0, 10.42), (1, 10.48)])])
    labels = [part.split("<")[0] for part in drawing.split('text-anchor="end">')[1:]]
    assert {"10.42", "10.44", "10.46", "10.48"} <= set(labels)


def test_the_processor_s_share_is_that_since_the_call_before(run, monkeypatch):
    lock(run, os.getpid())
    watched, seconds = WatchedRun(run), itertools.count(1)
    monkeypatch.setattr(watch.facts.psutil, "cpu_times", lambda: cpu_times(3 * (n := next(seconds)), 7 * n))
    assert "% of" not in watched.now().html.split("processor")[1].split("memory")[0]
    assert "30% of " in watched.now().html


def cpu_times(user, idle):
    return collections.namedtuple("Times", "user idle")(user, idle)


def test_the_last_tick_that_is_shown_has_the_unit():
    drawing = charts.chart("x", [Line("a", [(0, 1), (61, 2)])], x_unit="tokens")
    assert drawing.count(" tokens</text>") == 1


def test_fragments_are_the_report_s_sections(run):
    whole = history.read(run)
    page = report.page(whole)
    for name in report._sections():
        piece = report.fragment(whole, [name])
        assert [line for line in piece.splitlines() if line and line not in page] == []
    with pytest.raises(KeyError):
        report.fragment(whole, ["nothing"])
    assert " style=" not in page.replace("<style>", "")  # the page forbids them


def test_watching_imports_no_jax():
    code = "import sys; import llm60_jax.serve.page; assert 'jax' not in sys.modules, 'jax'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_blocks_are_drawn_for_any_text():
    drawings = curves.blocks({"contributions": [3.0, 0.5, 0.2], "losses": [6.0, 5.0, 4.0, 3.5]})
    assert [drawing.count("<polyline") for drawing in drawings] == [1, 1]


def test_the_blocks_of_a_model_are_drawn_where_it_grows(tree, tmp_path):
    seen = made(tree, tmp_path)
    first, *others = seen.plan
    growing = seen._replace(plan=[first | {"blocks": 1}, *others])
    assert len(curves.schedule(growing)) == len(curves.schedule(seen)) + 1
    assert "parameters: 6 layers of width 32" in report.headline(seen)
    early = growing._replace(rows=[row for row in seen.rows if row["step"] <= first["stop_step"]][-1:])
    assert "parameters: 1 of 6 layers of width 32" in report.headline(early)


# --- Over HTTP -------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(run, tmp_path):
    serving = pytest.importorskip("serving")
    shutil.copytree(run, tmp_path / "a run & <b>")
    with serving.served([run, tmp_path / "a run & <b>"]) as running:
        yield running.client


def test_a_browser_that_has_the_fragment_gets_none(run, client):
    for path in ("/api/runs/now", "/api/runs/sections"):
        first = client.get(path, params={"run": "run"})
        assert (first.status_code, first.headers["content-type"]) == (200, "text/html; charset=utf-8")
        again = client.get(path, params={"run": "run"}, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = client.get(path, params={"run": "run"}, headers={"If-None-Match": '"other"'})
        assert other.text == first.text
    both = client.get("/api/runs/compared", params={"run": ["run", "a run & <b>"]})
    assert "a run &amp; &lt;b&gt;" in both.text
    assert "<b>" not in both.text
    assert [line["state"] for line in client.get("/api/runs").json()] == ["finished", "finished"]


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("/api/runs/now?run=no", 404, "no: there is no such run; those that are: "),
        ("/api/runs/sections?run=../run", 404, "there is no such run"),
        ("/api/runs/now", 404, "there is no such run"),
        ("/api/runs/compared?run=run", 404, "choose two to 6 runs"),
        ("/static/..%2fapp.py", 404, ""),
        ("/static/page.py", 404, "no such file"),
        ("/static/", 404, ""),
    ],
)
def test_what_is_not_there_is_one_line(client, path, code, words):
    answer = client.get(path)
    assert answer.status_code == code
    message = answer.json()["error"]["message"]
    assert words in message
    assert "\n" not in message


def test_a_folder_whose_name_is_no_text_is_listed(run, tmp_path):
    serving = pytest.importorskip("serving")
    os.rename(run, tmp_path / os.fsdecode(b"run\xff"))
    with serving.served([tmp_path / os.fsdecode(b"run\xff")]) as running:
        assert [line["name"] for line in running.client.get("/api/runs").json()] == ["run\udcff"]


def test_the_page_and_its_files_come_from_here_alone(client):
    page = client.get("/")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    names = [part.split('"')[0] for part in page.text.split("/static/")[1:]]
    assert {"page.js", "style.css", "page.css", "icon.svg"} <= set(names)
    for name in [*names, "common.js", "write.js", "watch.js", "inside.js"]:
        file = client.get(f"/static/{name}")
        assert file.status_code == 200
        assert file.headers["content-type"].split(";")[0] in ("text/css", "text/javascript", "image/svg+xml")
        assert not [word for word in ("https://", "@import", "url(", "eval(", "//cdn") if word in file.text]
    assert not [word for word in ("http", " style=", "<style", "onclick") if word in page.text]
    scripts = [client.get(f"/static/{name}.js").text for name in ("page", "common", "write", "watch", "inside")]
    assert sum(text.count("innerHTML") for text in scripts) == 2  # the server's fragments, in watch.js and inside.js
