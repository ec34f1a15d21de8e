"""Measure what a trained model reveals of its training text, before you share it."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from llm60_jax import checkpoint
from llm60_jax.checkpoint import Trained
from llm60_jax.data.corpus.corpus import SPLITS, recorded
from llm60_jax.errors import DamageError, GateError, InputError
from llm60_jax.evaluate import privacy
from llm60_jax.machine import cli, manifest, terminal
from llm60_jax.machine.progress import Track
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  # the newest checkpoint of a run
  python tools/check_privacy.py runs/llm60
  # the end of a phase, with larger samples: slower and more certain
  python tools/check_privacy.py runs/llm60/phases/fine_tune --prefixes 2000 --secrets 100 --decoys 1000
  # accept the risk, and record why
  python tools/check_privacy.py runs/llm60/phases/fine_tune \\
    --accept-leak-risk --why "all of this text is on my website"

The report goes to RUN/privacy/. It names documents by the first digits of their id and shows no
private string. Exit code 3 means: do not share this model. Train fewer epochs, remove the strings
from the text, or accept the risk. A checkpoint also holds the optimizer's state, so it is as
private as the text itself.
"""
_SAMPLES = {
    "prefixes": "beginnings of training text, and of held-out text",
    "secrets": "private strings of the training text",
    "decoys": "look-alike strings for each private string",
}


def texts_of(trained: Trained, data_dir: Path) -> tuple[list[Mapping[str, str]], list[Mapping[str, str]]]:
    """Return the training and the validation documents of a checkpoint's phase.

    Raises:
      InputError: `data_dir` no longer holds them.
      DamageError: they have changed.
    """
    phase = trained.meta["phase"]
    records: dict[str, list[Mapping[str, str]]] = {split: [] for split in SPLITS}
    for name, entry in trained.meta["corpora"].items():
        if entry.get("phase") != phase:
            continue
        corpus = recorded(data_dir, name, entry)
        if not manifest.exists(corpus.folder):
            raise InputError(
                f"{corpus.folder}: the text of phase {phase} is not here; prepare it again, or name --data-dir"
            )
        manifest.verify(corpus.folder)
        for split in SPLITS:
            records[split] += corpus.read(split)
    if not records["train"]:
        raise InputError(f"{trained.folder}: records no text of phase {phase}")
    return records["train"], records["validation"]


def check(
    trained: Trained, data_dir: Path, settings: privacy.PrivacySettings, track: Track, anew: bool
) -> privacy.PrivacyReport:
    """Measure a checkpoint, and beside it the checkpoint that its phase began from."""
    training, held_out = texts_of(trained, data_dir)
    run = trained.folder.absolute().parents[1]
    base = checkpoint.base_of(run, trained.meta)
    before = None
    if base is not None and base[0] != trained.folder:
        try:
            before = checkpoint.open_(base[0])
        except (InputError, DamageError) as error:
            terminal.say(f"note: {error}")
    planted = privacy.planted_in(trained)
    states = [model and model.meta["state_sha256"] for model in (trained, before)]
    identity = [states, trained.meta["corpora"], dataclasses.asdict(settings)]
    with Unfinished(data_dir, "check_privacy", identity, anew=anew) as unfinished:
        return privacy.check(trained, before, training, held_out, planted, settings, track, unfinished.part)


def _check_privacy(options: argparse.Namespace, interrupts: Interrupts) -> None:
    if options.accept_leak_risk != bool((options.why or "").strip()):
        raise InputError("--accept-leak-risk and --why REASON must be used together")
    for name in _SAMPLES:
        if getattr(options, name) < 1:
            raise InputError(f"--{name}: {getattr(options, name)}, but it must be 1 or more")
    trained = checkpoint.open_(options.checkpoint)
    settings = privacy.PrivacySettings(options.prefixes, options.secrets, options.decoys, options.seed)
    data_dir = options.data_dir or Path(trained.config.data_dir)
    report = check(trained, data_dir, settings, terminal.Tracker(interrupts, options.json), options.anew)
    run = trained.folder.absolute().parents[1]
    path = privacy.keep(run, trained.folder, report, options.why)
    if options.json:
        print(json.dumps(report.to_tree() | {"override": options.why if report.refused else None}))
    else:
        terminal.say(report.describe())
    if report.refused and not options.why:
        raise GateError(f"{trained.folder}: do not share this model; the report is {path}")
    if report.refused:
        terminal.say(f"the risk is accepted; {path} records why: {' '.join(options.why.split())}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a run directory or a checkpoint")
    defaults = privacy.PrivacySettings()
    for name, meaning in _SAMPLES.items():
        default = getattr(defaults, name)
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{meaning} (default {default})")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the samples (default 0)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where the prepared text is, if you moved it")
    parser.add_argument("--accept-leak-risk", action="store_true", help="let a refused model pass; needs --why")
    parser.add_argument("--why", metavar="REASON", help="why the risk is acceptable; recorded for good")
    cli.add_anew(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("check_privacy.py", parser, arguments, _check_privacy)


if __name__ == "__main__":
    sys.exit(main())
