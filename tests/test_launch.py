"""The real command: exit codes, messages, and a run that is interrupted and resumed bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import compare_samples
import pytest
from conftest import PROJECT, metrics, tiny_tree, to_toml, without_time, write_corpus

import launch as command_line
from llm60_jax.kernels import processor

QUICK = PROJECT / "tests" / "quick_launch.py"


def launch(*arguments, **options):
    return subprocess.run(
        [sys.executable, str(QUICK), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=PROJECT,
        **options,
    )


def refused(code, *arguments, words=(), by=launch, **options):
    """Runs the command, expects an exit code, one clear message, no traceback."""
    done = by(*arguments, **options)
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.startswith("launch.py: ")
    for word in words:
        assert word in done.stderr
    return done


@pytest.fixture
def here(capsys, monkeypatch):
    """The command in this process, for what is refused before anything is computed: it starts in no time."""
    monkeypatch.setattr(os, "environ", os.environ.copy())

    def run(*arguments):
        command = [str(argument) for argument in arguments]
        code = command_line.main(command)
        return subprocess.CompletedProcess(command, code, *capsys.readouterr())

    return run


def test_help_has_examples():
    real = [sys.executable, str(PROJECT / "launch.py"), "--help"]
    done = subprocess.run(real, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout == launch("--help").stdout
    assert "examples:" in done.stdout
    assert "exit codes:" in done.stdout


def test_dry_run_prints_the_plan_and_leaves_nothing(tiny_file, tree):
    done = launch(tiny_file, "--dry-run")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if " -> " in line]
    assert len(rows) == 15
    assert rows[0][:9] == ["grammar", "1", "256", "2", "16", "8", "2", "of", "4"]
    assert "30 steps of 128 tokens, 3,840 in all" in done.stdout
    (text,) = [line.split() for line in done.stdout.splitlines() if line.startswith("vocabulary ") and "about" in line]
    assert text[1] == "60"
    assert "Its text suffices for training, validation and vocabulary" in done.stdout
    assert not Path(tree["workdir"]).exists()


def test_a_dry_run_says_what_the_native_kernels_lack(tiny_file, monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/c++")
    settings = [tiny_file, "--dry-run", "--set", "model.heads=1", "--set"]  # heads that the kernels claim
    done = launch(*settings, "train.kernels=auto")
    known = processor.here()  # nothing is lacking where the processor has no instruction set of ours
    assert ("note: XLA is used because CXX is '/nowhere/c++'" in done.stdout) == bool(known)
    refused(5, *settings, "train.kernels=native", words=["train.kernels is 'native', but"])


@pytest.mark.slow
def test_dry_run_of_the_real_model(texts, here):
    sets = [
        f"--set=phase.{name}.sources.0.path={texts / 'text' / name}" for name in ("grammar", "vocabulary", "fine_tune")
    ]
    # So little text cannot have so large a vocabulary, which the dry run finds out; the plan is shown all the same.
    done = refused(2, "configs/llm60.toml", "--dry-run", *sets, words=["model.vocab_size: 32,000 is too many"], by=here)
    assert "62,256 steps of 4,096 tokens, 255,000,576 in all; 59,469,440 parameters" in done.stdout
    missing = refused(
        2, "configs/llm60.toml", "--dry-run", words=["data/raw/grammar", "no such file or folder"], by=here
    )
    assert "62,256 steps" in missing.stdout  # the plan is shown all the same


def test_configuration_errors(tiny_file, tmp_path, here):
    refused(2, tmp_path / "absent.toml", words=["absent.toml", "no such configuration file"], by=here)
    refused(2, tiny_file, "--set", "train.rematt=full", words=["train.rematt", "did you mean 'remat'"], by=here)
    refused(2, tiny_file, "--set", "phase.grammar.tokens=256", words=["phase.grammar.tokens", "too few"], by=here)
    refused(2, tiny_file, "--dry-run", "--set", "seed=one", words=["seed", "integer"], by=here)
    refused(
        2, tiny_file, "--dry-run", "--set", 'evaluation_text=["nowhere"]', words=["nowhere", "no such file"], by=here
    )
    with pytest.raises(SystemExit, match="2"):
        here(tiny_file, "--sett", "seed=1")


@pytest.mark.slow
def test_text_errors_come_before_anything_expensive(tiny_file, tmp_path, here):
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"\x89PNG")
    few = write_corpus(tmp_path / "few", 5, 0)
    for path, words in [
        (tmp_path / "nowhere", ["nowhere", "no such file or folder"]),
        (tmp_path / "empty", ["empty", "no text files"]),
        (tmp_path / "pictures", ["pictures", "accepted are .txt"]),
    ]:
        for dry in ([], ["--dry-run"]):
            refused(2, tiny_file, *dry, "--set", f"phase.vocabulary.sources.0.path={path}", words=words, by=here)
    path = f"phase.vocabulary.sources.0.path={few}"
    for dry in ([], ["--dry-run"]):
        words = ["phase.vocabulary.sources", "1,584 characters of distinct text"]
        refused(2, tiny_file, *dry, "--set", path, words=words, by=here)


def test_a_corpus_too_small_for_the_vocabulary(tiny_file, tmp_path, here):
    override = ["--set", "model.vocab_size=8000", "--set", f"data_dir={tmp_path / 'data'}"]
    for dry in ([], ["--dry-run"]):
        words = ["model.vocab_size", "8,000", "largest value that works"]
        refused(2, tiny_file, *dry, *override, words=words, by=here)


@pytest.mark.slow
def test_a_directory_that_cannot_be_written(tiny_file, tmp_path, here):
    (tmp_path / "file").write_text("")
    refused(5, tiny_file, "--workdir", tmp_path / "file" / "run", words=["cannot be written"], by=here)
    words = ["data_dir", "cannot be written"]
    refused(5, tiny_file, "--set", f"data_dir={tmp_path / 'file' / 'data'}", words=words, by=here)


def state_digest(folder):
    done = subprocess.run(
        [sys.executable, "tools/inspect_checkpoint.py", str(folder), "--json"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["state_sha256"] == facts["recorded_state_sha256"]
    return facts["state_sha256"]


def finished(folder, tree):
    """One uninterrupted run: its file, its run directory, its output."""
    (folder / "tiny.toml").write_text(to_toml(tree | {"workdir": str(folder / "run")}))
    done = launch(folder / "tiny.toml")
    assert done.returncode == 0, done.stderr
    return folder / "tiny.toml", folder / "run", done.stdout


@pytest.fixture(scope="module")
def whole(texts, tmp_path_factory):
    """A run of the tiny configuration."""
    return finished(tmp_path_factory.mktemp("whole"), tiny_tree(texts))


@pytest.fixture(scope="module")
def short(texts, tmp_path_factory):
    """A run of two phases of six steps, in two stages each."""
    tree = tiny_tree(texts)
    few = {"tokens": 6 * 128, "context": [[0.0, 16]], "freeze": [[0.0, 0], [0.5, 2]]}
    tree["phase"] = [phase | few for phase in tree["phase"][:2]]
    return finished(tmp_path_factory.mktemp("short"), tree)


STRICT = ("--set", "phase.grammar.gate.min_fall=50.0")
NOT_PASSED = ("gate grammar: not passed", "fall of validation loss", "at least 50")


@pytest.fixture(scope="module")
def stopped(short, tmp_path_factory):
    """A run whose first gate did not open, in a directory of an odd name."""
    workdir = tmp_path_factory.mktemp("stopped") / "é 😀 [x]"
    assert "resumed" not in refused(3, short[0], *STRICT, "--workdir", workdir, words=NOT_PASSED).stdout
    return workdir


@pytest.mark.slow
def test_a_run_leaves_what_the_readme_promises(whole):
    _, workdir, output = whole
    rows = metrics(workdir)
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 31))
    assert [row["tokens"] for row in steps] == [128 * step for step in range(1, 31)]
    assert [row["frozen"] for row in steps[:10]] == [0, 0, 2, 2, 2, 4, 4, 4, 4, 4]
    assert [row["context"] for row in steps[:10]] == [16, 16, 16, 32, 32, 32, 32, 64, 64, 64]
    assert {"phase", "stage", "learning_rate", "tokens_per_second", "grad_norm"} <= steps[0].keys()
    evaluated = [(row["phase"], row["step"]) for row in rows if "validation_loss" in row]
    assert evaluated == [  # regularly, and late in a phase for the plateau test
        (name, start + offset)
        for name, start in (("grammar", 0), ("vocabulary", 10), ("fine_tune", 20))
        for offset in (0, 5, 7, 8, 9, 10)
    ]
    scored = {row["phase"]: set(row.get("earlier_phases", {})) for row in rows if "validation_loss" in row}
    assert scored == {"grammar": set(), "vocabulary": {"grammar"}, "fine_tune": {"grammar", "vocabulary"}}
    pieces = {row["step"]: set(row["pieces"]) for row in rows if "pieces" in row}
    assert pieces[20] == {"grammar", "vocabulary", "fine_tune"}
    losses = [row["validation_loss"] for row in rows if "validation_loss" in row]
    assert losses[0] > losses[5]
    for name in ("grammar", "vocabulary", "fine_tune"):
        assert (workdir / "phases" / name / "manifest.json").exists()
        assert json.loads((workdir / "gates" / f"{name}.json").read_text())["passed"] is True
        assert f"samples at the end of phase {name}" in output
    samples = compare_samples.read(workdir)
    assert [(one["step"], one["phase"]) for one in samples if one["step"] % 10 == 0] == [
        (10, "grammar"), (20, "vocabulary"), (30, "fine_tune"),
    ]  # fmt: skip
    assert [one["step"] for one in samples] == [
        2,
        4,
        5,
        8,
        10,
        12,
        15,
        16,
        20,
        22,
        24,
        25,
        28,
        30,
    ]  # with every checkpoint
    for one in samples:
        assert [(text["prompt"], text["kind"]) for text in one["texts"]] == [
            ("The", "short"), ("The quiet", "short"), ("The", "long"), ("The quiet", "long"),
        ]  # fmt: skip
        assert all(text["text"].startswith(text["prompt"]) for text in one["texts"])
    assert compare_samples.main([str(workdir), "--prompt", "The"]) == 0
    assert compare_samples.main([str(workdir), "--prompt", "A"]) == 2
    assert compare_samples.main([str(workdir / "samples")]) == 2
    kept = {path.name for path in (workdir / "checkpoints").iterdir()}
    assert {"2", "5", "12", "15", "22", "25"} <= kept  # before each freeze, for ever
    assert len(kept) <= 6 + 2
    for name in ("config.json", "plan.json", "log.txt", "tokenizer/tokenizer.model"):
        assert (workdir / name).exists()


@pytest.mark.slow
def test_the_same_command_again_does_no_work_twice(whole):
    path, workdir, _ = whole
    before = (workdir / "metrics.jsonl").read_text()
    done = launch(path)
    assert done.returncode == 0
    assert "resumed at step 30 of 30" in done.stdout
    assert "compiled" not in done.stdout
    assert "tokenizing" not in done.stdout
    assert (workdir / "metrics.jsonl").read_text() == before


def interrupted(path, workdir, number, after_step):
    """Starts the command, signals it once `after_step` is logged, and returns its exit code and message."""
    process = subprocess.Popen(
        [sys.executable, str(QUICK), str(path), "--workdir", str(workdir)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    path_of_rows, deadline = workdir / "metrics.jsonl", time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        reached = f'"step": {after_step}, "tokens": {after_step * 128}, "phase"'
        if path_of_rows.exists() and reached in path_of_rows.read_text():
            os.killpg(process.pid, number)
            break
        time.sleep(0.005)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


@pytest.mark.slow
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(short, tmp_path):
    path, reference, _ = short
    workdir = tmp_path / "run"
    code, errors = interrupted(path, workdir, signal.SIGTERM, 8)
    assert code == 128 + signal.SIGTERM, errors
    assert "To go on: python " in errors
    assert "Traceback" not in errors
    stopped_at = max(int(p.name) for p in (workdir / "checkpoints").iterdir())
    assert 8 <= stopped_at < 12
    done = launch(path, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    assert f"resumed at step {stopped_at} of 12" in done.stdout
    for name in ("grammar", "vocabulary"):
        assert state_digest(workdir / "phases" / name) == state_digest(reference / "phases" / name)
    assert without_time(metrics(workdir)) == without_time(metrics(reference))


@pytest.mark.slow
def test_a_changed_configuration_or_text_is_refused(short, tmp_path):
    path, _, _ = short
    refused(2, path, "--set", "seed=8", words=["seed: 7 in the run, 8 now", "--workdir"])
    other = write_corpus(tmp_path / "other", 60, 99)
    override = f"phase.vocabulary.sources.0.path={other}"
    refused(2, path, "--set", override, words=["changed under this run", "data of phase vocabulary: "])


@pytest.mark.slow
def test_a_gate_that_does_not_open_stops_the_run_and_can_be_judged_again(short, stopped, tmp_path):
    path, reference, _ = short
    workdir = shutil.copytree(stopped, tmp_path / "run")
    again = refused(3, path, *STRICT, "--workdir", workdir, words=NOT_PASSED)
    assert "resumed at step 6" in again.stdout
    assert not (workdir / "phases" / "grammar").exists()
    assert json.loads((workdir / "gates" / "grammar.json").read_text())["passed"] is False
    assert launch(path, "--workdir", workdir).returncode == 0
    assert state_digest(workdir) == state_digest(reference)


@pytest.mark.slow
def test_lost_metrics_do_not_change_the_verdict(short, tmp_path):
    path, reference, _ = short
    workdir = tmp_path / "run"
    assert interrupted(path, workdir, signal.SIGINT, 3)[0] == 130
    (workdir / "metrics.jsonl").unlink()
    assert launch(path, "--workdir", workdir).returncode == 0
    gate = "gates/grammar.json"
    assert json.loads((workdir / gate).read_text()) == json.loads((reference / gate).read_text())
    refused(2, path, "--workdir", workdir, "--set", "train.validation_tokens=100", words=["train.validation_tokens"])


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_set_aside_and_replaced(whole, tmp_path):
    path, reference, _ = whole
    workdir = tmp_path / "run"
    shutil.copytree(reference, workdir)
    meta = workdir / "phases" / "fine_tune" / "meta.json"
    meta.write_bytes(meta.read_bytes().replace(b"step", b"stop", 1))
    done = launch(path, "--workdir", workdir)
    assert done.returncode == 0
    assert "meta.json: its content differs" in done.stderr
    assert "set aside as fine_tune.damaged" in done.stderr
    assert state_digest(workdir / "phases" / "fine_tune") == state_digest(reference / "phases" / "fine_tune")


@pytest.mark.slow
def test_a_reader_that_goes_away_does_not_end_the_run(short, tmp_path):
    path, reference, _ = short
    workdir = tmp_path / "run"
    command = [sys.executable, str(QUICK), str(path), "--workdir", str(workdir)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 0, errors
    assert state_digest(workdir) == state_digest(reference)


HANG_UP = """
import os, pty, select, sys, time
metrics, command = sys.argv[1], sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(command[0], command)
deadline = time.monotonic() + 200
while time.monotonic() < deadline and not (os.path.exists(metrics) and '"step": 3,' in open(metrics).read()):
    if select.select([terminal], [], [], 0.01)[0]:
        os.read(terminal, 65536)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.slow
def test_a_closed_terminal_saves_and_exits_with_129(short, tmp_path):
    path, _, _ = short
    command = [sys.executable, str(QUICK), str(path), "--workdir", str(tmp_path), "--set", "phase.grammar.tokens=38400"]
    watched = [sys.executable, "-c", HANG_UP, str(tmp_path / "metrics.jsonl"), *command]
    assert subprocess.run(watched, cwd=PROJECT).returncode == 129
    assert list((tmp_path / "checkpoints").glob("*/manifest.json"))


@pytest.mark.slow
def test_failures_and_tracebacks_are_in_the_log(short, stopped, tmp_path):
    path, workdir = short[0], shutil.copytree(stopped, tmp_path / "run")
    assert "ERROR gate grammar: not passed" in (workdir / "log.txt").read_text()
    # An error of our own, provoked.
    code = (
        "import sys, launch; from llm60_jax.run import gates\n"
        "gates.judge = lambda *a, **k: 1 / 0\n"
        f"sys.exit(launch.main([{str(path)!r}, '--workdir', {str(workdir)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "internal error" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in (workdir / "log.txt").read_text()


@pytest.mark.slow
def test_odd_directories(stopped, tiny_file):
    assert (stopped / "gates" / "grammar.json").exists()
    refused(2, tiny_file, "--workdir", "", words=["workdir"])
    refused(2, tiny_file, "--set", 'workdir="a\\u0000b"', words=["workdir"])


@pytest.mark.slow
def test_machine_limits_are_told_before_training(tiny_file):
    refused(5, tiny_file, "--dry-run", "--set", "model.dim=1000000", words=["parameters", "GB of memory"])
    done = refused(5, tiny_file, env={**os.environ, "JAX_PLATFORMS": "cuda"}, words=["JAX finds no usable device"])
    assert "JAX_PLATFORMS=cpu" in done.stderr


def test_inspect_names_what_is_not_there(tmp_path):
    done = subprocess.run(
        [sys.executable, "tools/inspect_checkpoint.py", str(tmp_path)], capture_output=True, text=True, cwd=PROJECT
    )
    assert done.returncode == 2
    assert "neither a checkpoint nor a run directory" in done.stderr
