"""Finds out what a model gives away of the text it was trained on, before it is given away itself."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm60_jax import checkpoint
from llm60_jax.checkpoint import Trained
from llm60_jax.data.corpus.corpus import SPLITS, recorded
from llm60_jax.errors import DamageError, GateError, InputError
from llm60_jax.evaluate import privacy
from llm60_jax.machine import cli, manifest, terminal
from llm60_jax.machine.signals import Interrupts

EXAMPLES = """examples:
  python tools/check_privacy.py runs/llm60                          its newest checkpoint
  python tools/check_privacy.py runs/llm60/phases/fine_tune --prefixes 2000 --secrets 100 --decoys 1000
  python tools/check_privacy.py runs/llm60/phases/fine_tune \\
    --accept-leak-risk --why "all of this text is on my website"

The report goes to RUN/privacy/; it names documents by the first digits of their id, and shows no private string. Exit
code 3 means that the model should not be given away: train fewer epochs, take the strings out of the text, or accept
the risk, which is recorded. A checkpoint also holds the optimizer's state: it is as private as the text itself.
"""


def texts_of(trained: Trained, data_dir: Path) -> tuple[list[Mapping[str, str]], list[Mapping[str, str]]]:
    """The documents that the phase of a checkpoint trained on, and those it was validated with.

    Raises:
      InputError: they are no longer in `data_dir`.
      DamageError: they are not what they were.
    """
    phase = trained.meta["phase"]
    found: dict[str, list[Mapping[str, str]]] = {split: [] for split in SPLITS}
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
            found[split] += corpus.read(split)
    if not found["train"]:
        raise InputError(f"{trained.folder}: records no text of phase {phase}")
    return found["train"], found["validation"]


def check(trained: Trained, data_dir: Path, settings: privacy.PrivacySettings, track: Any) -> privacy.Report:
    """Measures a checkpoint, beside the one that its phase began from."""
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
    return privacy.check(trained, before, training, held_out, planted, settings, track)


def _do(options: argparse.Namespace) -> None:
    interrupts = Interrupts()
    interrupts.install()
    trained = checkpoint.open_(options.checkpoint)
    settings = privacy.PrivacySettings(options.prefixes, options.secrets, options.decoys, options.seed)
    data_dir = options.data_dir or Path(trained.config.data_dir)
    report = check(trained, data_dir, settings, terminal.Tracker(interrupts, quiet=options.json))
    run = trained.folder.absolute().parents[1]
    path = privacy.keep(run, trained.folder, report, options.why)
    if options.json:
        print(json.dumps(report.to_tree() | {"override": options.why if report.refused else None}))
    else:
        terminal.say(report.describe())
    if report.refused and not options.why:
        raise GateError(f"{trained.folder}: should not be given away; the report is {path}")
    if report.refused:
        terminal.say(f"the risk is accepted, and recorded in {path}: {options.why}")


def main(arguments: list[str] | None = None) -> int:
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a run directory or a checkpoint")
    default = privacy.PrivacySettings()
    for name, told in (
        ("prefixes", "beginnings of training text, and of held-out text"),
        ("secrets", "private strings of the training text"),
        ("decoys", "strings of the same form, for each of them"),
    ):
        number = getattr(default, name)
        parser.add_argument(f"--{name}", type=int, default=number, metavar="N", help=f"{told} (default {number})")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where the prepared text is, if it was moved")
    parser.add_argument("--accept-leak-risk", action="store_true", help="let a refused model pass; needs --why")
    parser.add_argument("--why", metavar="REASON", help="why the risk is acceptable; recorded for good")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.accept_leak_risk != bool((options.why or "").strip()):
        parser.error("--accept-leak-risk needs --why REASON, and the other way round")
    if min(options.prefixes, options.secrets, options.decoys) < 1:
        parser.error("--prefixes, --secrets and --decoys must be 1 or more")
    return cli.guarded("check_privacy.py", lambda: _do(options))


if __name__ == "__main__":
    sys.exit(main())
