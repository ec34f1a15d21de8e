"""Shared by all tests: a compilation cache for the session, a tiny configuration, and a small made-up corpus."""

import json
import math
import os
import random
import signal
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Tests send signals; a shell starts what runs in the background with Ctrl-C ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Before jax is imported: subprocesses of the tests inherit it, so each program is compiled once a session.
_CACHE = tempfile.TemporaryDirectory(prefix="llm60_jax-compiled-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Programs of the tests run for milliseconds: compiling them well would take most of the suite's time. XLA ends the
# process at a flag that it does not know, so the second one is only given to versions that have it.
_FLAGS = ["--xla_backend_optimization_level=0"]
if metadata.version("jax").startswith("0.10."):
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # compiles in half the time, runs at four fifths of the speed
os.environ.setdefault("XLA_FLAGS", " ".join(_FLAGS))

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 4)  # in this process, for what trains on several; all else uses the first

import made_runs  # noqa: E402

from llm60_jax import config as config_module  # noqa: E402
from llm60_jax.config import Exclude, FolderSource, Phase  # noqa: E402
from llm60_jax.machine import facts  # noqa: E402
from llm60_jax.record.history import History  # noqa: E402
from llm60_jax.record.history import without_time as without_time  # noqa: E402

PROJECT = Path(__file__).resolve().parents[1]
# Processes that tests start run the checkout beside them, also where another one is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))


# By the time that their slow tests take. They begin first: else a process runs one of them alone at the end.
_LONGEST = ("test_launch", "test_processes", "test_mesh", "test_use", "test_kernels_sabotage", "test_trials")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _LONGEST.index(item.path.stem) if item.path.stem in _LONGEST else len(_LONGEST))


@pytest.fixture(autouse=True)
def _all_is_one(request, monkeypatch):
    """Let "all" devices be one, as on a CPU that is not cut, except where meshes are tested."""
    if request.module.__name__ not in ("test_mesh", "test_ahead"):
        counted = facts.counted_devices
        monkeypatch.setattr(facts, "counted_devices", lambda wanted: counted(1 if wanted == "all" else wanted))


NOUNS = ["river", "garden", "letter", "captain", "window", "harbour", "teacher", "kitchen", "lantern", "orchard"]
VERBS = ["crossed", "remembered", "opened", "followed", "painted", "found", "carried", "watched", "repaired"]
ADJECTIVES = ["quiet", "broken", "golden", "narrow", "distant", "patient", "heavy", "early", "careful", "bright"]

WORDS = [
    "the",
    "a",
    "old",
    "river",
    "house",
    "light",
    "walked",
    "under",
    "found",
    "café",
    "morning",
    "and",
    "of",
    "1945",
]


def write_corpus(folder: Path, documents: int, seed: int) -> Path:
    """A folder of short invented English texts, one file each; the same seed gives the same bytes."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    for number in range(documents):
        sentences = [
            f"The {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)} {rng.choice(VERBS)} the {rng.choice(NOUNS)}."
            for _ in range(rng.randint(3, 12))
        ]
        (folder / f"{number:03}.txt").write_text(" ".join(sentences) + f" So ends part {number}.\n", encoding="utf-8")
    return folder


def unruled_phase(*folders: Path) -> Phase:
    """A phase that takes the text of some folders without any exclusion rule."""
    return Phase(
        name="grammar",
        tokens=1,
        context=((0.0, 8),),
        freeze=((0.0, 0),),
        learning_rate=(1e-3, 1e-4),
        sources=tuple(FolderSource(kind="folder", path=str(folder)) for folder in folders),
        exclude=Exclude(rules=()),
    )


def tiny_tree(folder: Path) -> dict[str, Any]:
    """A configuration of six layers and three phases that trains in seconds, every mechanism switched on."""
    phases = []
    for name, peak in (("grammar", 3e-3), ("vocabulary", 2e-3), ("fine_tune", 5e-4)):
        phases.append(
            {
                "name": name,
                "tokens": 10 * 128,
                "context": [[0.0, 16], [0.3, 32], [0.7, 64]],
                "freeze": [[0.0, 0], [0.2, 2], [0.5, 4]],
                "learning_rate": [peak, peak / 3],
                "mlp_dropout": 0.05,
                "gate": {"min_fall": -100.0, "min_gain": 100.0, "max_grammar_loss": 1.0, "max_forgetting": 100.0},
                "exclude": {"rules": ["boilerplate", "list"]},  # the sentences repeat
                "sources": [{"kind": "folder", "path": str(folder / "text" / name)}],
            }
        )
    return {
        "workdir": str(folder / "run"),
        "data_dir": str(folder / "data"),
        "seed": 7,
        "model": {
            "vocab_size": 360,
            "layers": 6,
            "stacks": [2, 2, 2],
            "dim": 32,
            "heads": 2,
            "hidden_dim": 64,
            "max_context": 64,
        },
        "tokenizer": {"phases": ["grammar", "vocabulary"]},
        "train": {
            "tokens_per_step": 128,
            "micro_batch": [[16, 4], [32, 2], [64, 1]],
            "devices": 1,
            "kernels": "xla",  # most tests compile none
            "log_every": 1,
            "evaluate_every": 5,
            "save_every": 4,
            "validation_tokens": 512,
        },
        "sampling": {"prompts": ["The", "The quiet"], "tokens": 8},
        "phase": phases,
    }


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> Path:
    """Three folders of made-up text, one a phase, below `text/`."""
    folder = tmp_path_factory.mktemp("corpus")
    for seed, name in enumerate(("grammar", "vocabulary", "fine_tune")):
        write_corpus(folder / "text" / name, 60, seed)
    return folder


@pytest.fixture
def tree(texts: Path, tmp_path: Path) -> dict[str, Any]:
    """The tiny configuration over the made-up text, in a run directory of its own; prepared data is shared."""
    found = tiny_tree(texts)
    found["workdir"] = str(tmp_path / "run")
    return found


def few_pairs(patch: pytest.MonkeyPatch) -> None:
    """Lets a run judge some minimal pairs of each phenomenon instead of all: tiny models learn nothing of them."""
    from llm60_jax.evaluate.grammar import suite

    few = {name: some[:1] for name, some in suite.suite().items()}
    patch.setattr(suite, "suite", lambda: few)


COMPILED: dict[Any, Any] = {}


def shared_programs(patch: pytest.MonkeyPatch) -> None:
    """Lets the runs of a process share their compiled steps: tracing them is most of what a tiny run takes. A test
    that changes what a step computes puts an empty dict into the place of `COMPILED`."""
    from llm60_jax.training import programs

    real = programs.CompiledSteps._compile

    def compiled(self, key):
        known = self._config.model, self._config.optimizer, key
        if known not in COMPILED:
            COMPILED[known] = real(self, key), self.flops_by_part[key]
        program, self.flops_by_part[key] = COMPILED[known]
        self.compile_seconds.setdefault(key, 0.0)
        return program

    patch.setattr(programs.CompiledSteps, "_compile", compiled)


@pytest.fixture(scope="session")
def base(texts: Path, tmp_path_factory) -> Path:
    """The run directory of a finished run of one phase, which other runs go on from."""
    from llm60_jax.machine.signals import Interrupts
    from llm60_jax.run import loop

    found = tiny_tree(texts)
    found["workdir"] = str(tmp_path_factory.mktemp("base") / "run")
    found["tokenizer"] = {"phases": ["grammar"]}
    found["phase"] = [found["phase"][0] | {"tokens": 2 * 128, "context": [[0.0, 16]], "freeze": [[0.0, 0]]}]
    with pytest.MonkeyPatch.context() as patch:
        few_pairs(patch)
        shared_programs(patch)
        loop.launch(config_module.parse(found, "base"), Interrupts(), "again")
    return Path(found["workdir"])


@pytest.fixture
def tuning(tree: dict[str, Any], base: Path) -> dict[str, Any]:
    """A configuration of four steps of fine-tuning that go on from `base`; the lower two blocks are frozen."""
    del tree["tokenizer"]
    short = {"tokens": 4 * 128, "context": [[0.0, 16]], "freeze": [[0.0, 2]]}
    return tree | {"start": str(base / "phases" / "grammar"), "phase": [tree["phase"][2] | short]}


def signals_at(number: int | None, interrupts: Any) -> Callable[[Any], None]:
    """An observer through which Ctrl-C comes as step `number` is dispatched."""
    from llm60_jax.run.events import StepBegins

    def watch(event: Any) -> None:
        if isinstance(event, StepBegins) and event.number == number:
            interrupts.received = signal.SIGINT

    return watch


@pytest.fixture
def train(monkeypatch) -> Callable[..., Path]:
    """`train(tree, stop_after=None)` runs a configuration in this process and returns its run directory. With
    `stop_after` a signal comes during that step, and the state after it is saved."""
    from llm60_jax.errors import Interrupted
    from llm60_jax.machine.signals import Interrupts
    from llm60_jax.run import loop

    def run(tree: dict[str, Any], stop_after: int | None = None) -> Path:
        interrupts = Interrupts()
        watching = [signals_at(stop_after, interrupts)]
        config = config_module.parse(tree, "tree")
        with monkeypatch.context() as patch:
            few_pairs(patch)
            shared_programs(patch)
            if stop_after is None:
                loop.launch(config, interrupts, "again", watching=watching)
            else:
                with pytest.raises(Interrupted):
                    loop.launch(config, interrupts, "again", watching=watching)
                assert (Path(config.workdir) / "checkpoints" / str(stop_after) / "manifest.json").exists()
        return Path(config.workdir)

    return run


@pytest.fixture
def poisoned(monkeypatch) -> Callable[..., None]:
    """`poisoned(steps, times=inf)` gives the batches of these steps a weight that is not a number, the first `times`
    that they come."""
    from llm60_jax.run import feed

    def poison(steps, times=math.inf):
        real, seen = feed.batches, dict.fromkeys(steps, 0)

        def batches(run, phase, stage):
            class Batches:
                inner = real(run, phase, stage)

                def __next__(self):
                    batch = {name: np.array(array) for name, array in next(self.inner).items()}
                    number = run.step + 1
                    if number in seen and seen[number] < times:
                        seen[number] += 1
                        batch["weights"][0, 0, 0] = np.nan
                    return batch

                def get_state(self):
                    return self.inner.get_state()

            return Batches()

        monkeypatch.setattr(feed, "batches", batches)

    return poison


@pytest.fixture
def tiny(tree: dict[str, Any]) -> config_module.Config:
    return config_module.parse(tree, "tiny")


def to_toml(tree: dict[str, Any]) -> str:
    """Enough TOML for the trees of these tests: JSON values are valid TOML values, tables stand inline."""

    def value(item: Any) -> str:
        if isinstance(item, dict):
            return "{" + ", ".join(f"{key} = {value(entry)}" for key, entry in item.items()) + "}"
        if isinstance(item, list):
            return "[" + ", ".join(map(value, item)) + "]"
        return json.dumps(item)

    return "".join(f"{key} = {value(item)}\n" for key, item in tree.items())


@pytest.fixture
def tiny_file(tree: dict[str, Any], tmp_path: Path) -> Path:
    """The tiny configuration as a TOML file."""
    path = tmp_path / "tiny.toml"
    path.write_text(to_toml(tree), encoding="utf-8")
    return path


@pytest.fixture
def healthy(tree: dict[str, Any], tmp_path: Path) -> History:
    """The rows of a finished run of three phases in which nothing is wrong."""
    return made_runs.made(made_runs.longer(tree), tmp_path)


def metrics(workdir: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def state_of(folder: Path) -> str:
    """The digest over the training state that a checkpoint records."""
    return json.loads((folder / "meta.json").read_text(encoding="utf-8"))["state_sha256"]
