"""Test the doctor on small runs with one known fault each, and on healthy runs."""

import argparse
import contextlib
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from llm60_jax import config as config_module
from llm60_jax.data import prepare
from llm60_jax.data.tokens import loader
from llm60_jax.data.tokens.tokenizer import BOS, EOS
from llm60_jax.errors import Failure, InputError, Interrupted
from llm60_jax.machine import cli, terminal
from llm60_jax.machine.progress import silent
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import doctor, history
from llm60_jax.run import loop

EXAMPLES = """examples:
  # ten faults and five healthy runs: about half an hour
  python tools/doctor_trial.py --folder runs/doctor
  # two of them
  python tools/doctor_trial.py --folder runs/doctor --only rate_x100 --only healthy_1

The text is that of configs/quickstart.toml. Finished runs are reused; delete a folder to repeat its
run. The exit code is 0 if the doctor misses at most one of several faults, and finds nothing in a
healthy run; else it is 1.
"""
QUICK = "configs/quickstart.toml"
MISSES_ALLOWED = 1  # among several faults

Tree = dict[str, Any]
Patch = contextlib.AbstractContextManager[Any]


class KnownCase(NamedTuple):
    """A run whose health is known; `named` lists the symptoms the doctor must name one of, or the
    field that departs from the playbook, none if healthy."""

    named: tuple[str, ...]
    change: Callable[[Tree, Path], None]
    patch: Callable[[], Patch] = contextlib.nullcontext


def base(folder: Path, data_dir: Path) -> Tree:
    """Return the quickstart's text and schedule for a smaller model, with gates that always
    pass."""
    tree = config_module.to_tree(config_module.load(QUICK))
    tree |= {"workdir": str(folder / "run"), "data_dir": str(data_dir)}
    tree["model"] |= {"vocab_size": 2048, "layers": 6, "stacks": [2, 2, 2], "dim": 64, "heads": 2, "hidden_dim": 128}
    tree["model"]["max_context"] = 128
    tree["tokenizer"]["sample_characters"] = 2_000_000
    tree["train"] |= {"micro_batch": [[32, 16], [64, 8], [128, 4]], "log_every": 10, "evaluate_every": 50}
    tree["train"] |= {"save_every": 200, "validation_tokens": 8192}
    tree["optimizer"] = {"name": "adafactor"}
    tree["train"]["kernels"] = "xla"  # so that a machine without a compiler lacks nothing
    open_gate = {"min_gain": 100.0, "min_fall": -100.0, "max_grammar_loss": 1.0, "max_forgetting": 5.0}
    lengths, rates = (409_600, 153_600, 102_400), ([1.5e-3, 5e-4], [1e-3, 3e-4], [2e-4, 7e-5])
    for phase, tokens, rate in zip(tree["phase"], lengths, rates, strict=True):
        phase |= {"tokens": tokens, "context": [[0.0, 32], [0.3, 64], [0.7, 128]], "gate": open_gate}
        phase |= {"freeze": [[0.0, 0], [0.2, 2], [0.5, 4]], "learning_rate": rate, "decay": "cosine"}
    return tree


def first_phase(tree: Tree, folder: Path) -> None:
    """Keep the first phase alone; most faults need no more."""
    tree["phase"], tree["tokenizer"]["phases"] = tree["phase"][:1], ["grammar"]


def settings(**fields: Any) -> Callable[[Tree, Path], None]:
    """Return a change to the first phase alone, with other settings."""

    def change(tree: Tree, folder: Path) -> None:
        first_phase(tree, folder)
        tree["phase"][0] |= fields

    return change


def too_fast(tree: Tree, folder: Path) -> None:
    first_phase(tree, folder)
    tree["phase"][0]["learning_rate"] = [100 * rate for rate in tree["phase"][0]["learning_rate"]]


# --- Text with faults ------------------------------------------------------------------------------------------------


def english(tree: Tree, count: int, place: int = 0) -> list[str]:
    """Return clean documents of a phase."""
    parsed = config_module.parse(tree, QUICK)
    corpora = prepare.prepare_text(parsed, silent, {})
    records = corpora[parsed.phase[place].name].read("train")
    return [record["text"] for record, _ in zip(records, range(count), strict=False)]


def in_folder(tree: Tree, folder: Path, texts: list[str], place: int = 0, rules: tuple[str, ...] = ()) -> None:
    """Let a phase train on texts in a folder."""
    for number, text in enumerate(texts):
        path = folder / "text" / f"{number:05}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    tree["phase"][place]["sources"] = [{"kind": "folder", "path": str(folder / "text")}]
    tree["phase"][place]["exclude"] = {"rules": list(rules)}


def copied(tree: Tree, folder: Path) -> None:
    first_phase(tree, folder)
    in_folder(tree, folder, 25 * english(tree, 120))


def salad(tree: Tree, folder: Path) -> None:
    first_phase(tree, folder)
    rng, texts = random.Random(0), english(tree, 2500)
    in_folder(tree, folder, [" ".join(rng.sample(words, len(words))) for words in map(str.split, texts)])


def foreign(tree: Tree, folder: Path) -> None:
    """Learn the tokenizer from another language: English with its letters exchanged."""
    tree["phase"] = tree["phase"][:2]
    letters = "abcdefghijklmnopqrstuvwxyz"
    other = "".join(random.Random(3).sample(letters, 26))
    table = str.maketrans(letters + letters.upper(), other + other.upper())
    in_folder(tree, folder, [text.translate(table) for text in english(tree, 2500)], place=1)
    tree["tokenizer"]["phases"] = ["vocabulary"]


def hundred_epochs(tree: Tree, folder: Path) -> None:
    in_folder(tree, folder, [text[:700] for text in english(tree, 60, place=2)], place=2)
    tree["phase"] = [tree["phase"][0], tree["phase"][2]]
    tree["tokenizer"]["phases"] = ["grammar"]
    tree["phase"][1] |= {"tokens": 1_024_000, "learning_rate": [1e-3, 3e-4]}


# --- Faults of the program -------------------------------------------------------------------------------------------


def changed_batches(change: Callable[[int, dict[str, np.ndarray]], None]) -> Callable[[], Patch]:
    """Pass every batch through `change(number in its stage, batch)`."""
    real = loader.batches

    class Batches:
        def __init__(self, *arguments: Any):
            self.inner, self.number = real(*arguments), 0

        def __next__(self) -> dict[str, np.ndarray]:
            batch = {name: np.array(array) for name, array in next(self.inner).items()}
            change(self.number, batch)
            self.number += 1
            return batch

        def get_state(self) -> Any:
            return self.inner.get_state()

        def set_state(self, state: Any) -> None:
            self.inner.set_state(state)

    return lambda: mock.patch.object(loader, "batches", Batches)


def not_a_number(number: int, batch: dict[str, np.ndarray]) -> None:
    if number == 30:
        batch["weights"][0, 0, 5] = np.nan


def shuffled(number: int, batch: dict[str, np.ndarray]) -> None:
    """Shuffle the words of every row; documents keep their borders, so the mask still fits."""
    rng, context = np.random.default_rng(number), batch["tokens"].shape[-1]
    for tokens, targets in zip(*(batch[name].reshape(-1, context) for name in ("tokens", "targets")), strict=True):
        words = np.flatnonzero((tokens != BOS) & (tokens != EOS))
        tokens[words] = tokens[rng.permutation(words)]
        targets[:-1] = tokens[1:]


def slow(number: int, batch: dict[str, np.ndarray]) -> None:
    time.sleep(0.2)


def healthy(seed: int, **fields: Any) -> KnownCase:
    """Return a healthy run with a seed and other settings of all phases."""

    def change(tree: Tree, folder: Path) -> None:
        tree["seed"] = seed
        for phase in tree["phase"]:
            phase |= fields

    return KnownCase((), change)


def with_adapters(tree: Tree, folder: Path) -> None:
    tree["seed"] = 15
    tree["phase"][2] |= {"lora": {}, "learning_rate": [2e-3, 5e-4]}


TRIALS = {
    "nan_in_a_batch": KnownCase(("NaN in a batch",), first_phase, changed_batches(not_a_number)),
    "rate_x100": KnownCase(("diverges", "spikes"), too_fast),
    "shuffled_tokens": KnownCase(("shuffled tokens",), first_phase, changed_batches(shuffled)),
    "duplicated_corpus": KnownCase(("duplicated text",), copied),
    "word_salad": KnownCase(("word salad",), salad),
    "frozen_from_the_start": KnownCase(("untrained blocks", "phase.grammar.freeze"), settings(freeze=[[0.0, 4]])),
    "never_ramped": KnownCase(("phase.grammar.context",), settings(context=[[0.0, 128]])),
    "starved_loader": KnownCase(("starved for data",), first_phase, changed_batches(slow)),
    "foreign_tokenizer": KnownCase(("foreign tokenizer",), foreign),
    "hundred_epochs": KnownCase(("overfitting",), hundred_epochs),
    "healthy_1": healthy(11),
    "healthy_2": healthy(12, mlp_dropout=0.0),
    "healthy_3": healthy(13, freeze_when="converged", freeze_delay=0.05),
    "healthy_4": healthy(14, reweight=None, learning_rate=[7e-4, 2e-4]),
    "healthy_5": KnownCase((), with_adapters),
}


class Diagnosis(NamedTuple):
    """The symptoms that the doctor found in a known case, and those it should find."""

    name: str
    expected: tuple[str, ...]
    found: tuple[str, ...]
    ended: str  # the message of a run that failed, else empty

    @property
    def passed(self) -> bool:
        return bool(set(self.expected) & set(self.found)) if self.expected else not self.found


def run(name: str, folder: Path, data_dir: Path, interrupts: Interrupts) -> Diagnosis:
    """Train one case, unless it is trained, and return the diagnosis. Raises Interrupted."""
    case, ended = TRIALS[name], folder / "ended.json"
    if not ended.exists():
        shutil.rmtree(folder, ignore_errors=True)
        tree = base(folder, data_dir)
        case.change(tree, folder)
        message = ""
        with case.patch():
            try:
                loop.launch(config_module.parse(tree, name), interrupts, "again")
            except Interrupted:
                raise
            except Failure as failure:  # a faulty run may stop itself
                message = str(failure)
        folder.mkdir(parents=True, exist_ok=True)
        ended.write_text(json.dumps(message), encoding="utf-8")
    whole = history.read(folder / "run")
    findings = doctor.examine(whole)
    departing = {line.partition(":")[0] for line in config_module.departures(whole.config)}
    symptoms = tuple(dict.fromkeys([*(f.symptom for f in findings), *(n for n in case.named if n in departing)]))
    return Diagnosis(name, case.named, symptoms, json.loads(ended.read_text(encoding="utf-8")))


def _rows(diagnoses: Sequence[Diagnosis]) -> Iterator[tuple[str, ...]]:
    for diagnosis in diagnoses:
        verdict = "right" if diagnosis.passed else "WRONG"
        yield diagnosis.name, " or ".join(diagnosis.expected) or "-", ", ".join(diagnosis.found) or "-", verdict


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR", help="where the runs stay")
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where prepared text stays (default data)"
    )
    parser.add_argument("--only", action="append", metavar="CASE", help=f"one of {', '.join(TRIALS)}; may be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    diagnoses: list[Diagnosis] = []

    def body(options: argparse.Namespace, interrupts: Interrupts) -> None:
        names = options.only or list(TRIALS)
        if unknown := [name for name in names if name not in TRIALS]:
            raise InputError(f"--only: there is no trial '{unknown[0]}'; there are {', '.join(TRIALS)}")
        with terminal.hushed(options.json):
            for name in terminal.Tracker(interrupts, options.json)(names, "known cases", len(names)):
                diagnoses.append(run(name, options.folder / name, options.data_dir, interrupts))
        if options.json:
            print(json.dumps([item._asdict() | {"passed": item.passed} for item in diagnoses], indent=2))
        else:
            print(terminal.columns(("trial", "expected", "the doctor", ""), _rows(diagnoses)))

    kept = "finished runs are kept in --folder; the same command goes on from there"
    code = cli.run_tool("doctor_trial.py", parser, arguments, body, kept)
    named = [diagnosis.passed for diagnosis in diagnoses if diagnosis.expected]
    left_alone = [diagnosis.passed for diagnosis in diagnoses if not diagnosis.expected]
    allowed = MISSES_ALLOWED if len(named) > 1 else 0
    return code or int(not all(left_alone) or named.count(False) > allowed)


if __name__ == "__main__":
    sys.exit(main())
