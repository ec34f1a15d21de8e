"""What would more tokens bring? A power law through the held-out losses of a run, or of several, with its interval."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.config import Phase
from llm60_jax.errors import InputError
from llm60_jax.machine import cli
from llm60_jax.machine.signals import Interrupts
from llm60_jax.machine.terminal import columns
from llm60_jax.record import extrapolation, history, reference
from llm60_jax.record.extrapolation import LEAST, Forecast
from llm60_jax.record.history import History

EXAMPLES = """examples:
  # what the first phase of a run would reach with 2, 4, 8 and 16 times the tokens so far
  python tools/extrapolate.py runs/evening
  # ... and with 200 million
  python tools/extrapolate.py runs/evening --tokens 200_000_000
  # the last losses of finished runs that differ in phase.grammar.tokens alone
  python tools/extrapolate.py runs/tokens_1m runs/tokens_2m runs/tokens_4m runs/tokens_8m

Losses are bits per byte on the held-out text of the phase. The interval has 90 %, if the law holds; it knows
nothing of text that repeats. Give runs of several lengths the same train.validation_tokens.
"""
ONE_RUN = (
    "One run was read. Its rate falls to its end, and the loss falls faster with it, so a finished run promises too "
    "much. Several runs of different lengths do not."
)
_LEAST_SPAN = 3.0  # times the tokens of the first point that the last one must have
_LOG = logging.getLogger("llm60_jax")


class Back(NamedTuple):
    """What the first half of the tokens would have said of the last measurement."""

    tokens: float
    forecast: Forecast
    came: float


def _measured(paths: Sequence[Path], name: str | None) -> tuple[str, list[tuple[float, float]]]:
    """Return the phase's name, and tokens with bits per byte: the late measurements of one run, or the last one of
    each of several."""
    runs = [history.read(path) for path in paths]
    for run in runs:
        for line in run.skipped:
            _LOG.warning("%s: %s", run.path, line)
    phases = [cli.phase_of(run.config, name) if name is not None else run.config.phase[0] for run in runs]
    for run, phase in zip(runs, phases, strict=True):
        if not run.stages(phase):
            raise InputError(f"{run.path}: plan.json is missing or damaged, so the tokens of a phase are not known")
    if len(runs) == 1:
        return phases[0].name, _of_the_law(runs[0], phases[0])
    _require_alike(runs, phases)
    ends = sorted(_points(run, phase)[-1] for run, phase in zip(runs, phases, strict=True))
    if (counts := len({tokens for tokens, _ in ends})) < LEAST:
        raise InputError(f"these runs have {counts} different numbers of tokens; a law needs {LEAST} or more")
    return phases[0].name, ends


def _points(run: History, phase: Phase) -> list[tuple[float, float]]:
    points = [(float(point.tokens), point.bits_per_byte) for point in reference.points(run, phase)]
    return [point for point in points if min(point) > 0]


def _of_the_law(run: History, phase: Phase) -> list[tuple[float, float]]:
    """Return the points of one run after the first tenth of the phase and after its last blocks came; before, the loss
    follows no power law."""
    smaller = sum(stage.tokens for stage in run.stages(phase) if stage.blocks < run.config.model.layers)
    late = [point for point in _points(run, phase) if point[0] >= 0.1 * phase.tokens and point[0] > smaller]
    if len(late) < LEAST or late[-1][0] < _LEAST_SPAN * late[0][0]:
        span = f" from {late[0][0]:,.0f} to {late[-1][0]:,.0f} tokens" if late else ""
        raise InputError(
            f"{run.path}: phase {phase.name} has {len(late)} measurements of the whole model after its first tenth"
            f"{span}; a law needs {LEAST} or more, and the last with {_LEAST_SPAN:g} times the tokens of the first"
        )
    return extrapolation.spread(late)


def _require_alike(runs: Sequence[History], phases: Sequence[Phase]) -> None:
    """Raise InputError unless all runs have finished the phase, and differ in its tokens alone."""
    kinds = []
    for run, phase in zip(runs, phases, strict=True):
        if not run.of(phase, "phase_end") or not _points(run, phase):
            raise InputError(f"{run.path}: phase {phase.name} has not ended, so its loss is from within its schedule")
        if phase != run.config.phase[0] or run.config.start is not None:
            raise InputError(f"{run.path}: phase {phase.name} begins with trained weights; several runs need the first")
        if run.was_extended:
            raise InputError(f"{run.path}: it was extended, so its rate has no end like that of the others")
        kinds.append(_kind(run, phase))
    for run, kind in zip(runs, kinds, strict=True):
        for what in sorted({*kind, *kinds[0]}):
            if kind.get(what) != kinds[0].get(what):
                raise InputError(f"{run.path} and {runs[0].path} differ in {what}; they may differ in tokens only")


def _kind(run: History, phase: Phase) -> dict[str, Any]:
    """Return what several runs must have in common, by its name in a message."""
    tables = reference.decisive(run.config, phase)
    tables[f"phase.{phase.name}"] = {name: x for name, x in tables.pop("phase")[0].items() if name != "tokens"}
    facts = run.of(phase, "data")[-1]["data"] if run.of(phase, "data") else {}
    return {
        **{f"{table}.{field}": value for table, fields in tables.items() for field, value in fields.items()},
        "the text": [facts.get(name) for name in ("documents", "unigram_entropy")],
        "the held-out tokens": run.of(phase, "validation_loss")[-1].get("validation_tokens"),
    }


def _back(points: Sequence[tuple[float, float]]) -> Back | None:
    """Return None where the first half has too few points, or follows no law."""
    first = [point for point in points if point[0] <= points[-1][0] / 2]
    if len({tokens for tokens, _ in first}) < LEAST:
        return None
    try:
        return Back(first[-1][0], extrapolation.forecast(first, [points[-1][0]])[0], points[-1][1])
    except InputError:
        return None


def _print(points: Sequence[tuple[float, float]], forecasts: Sequence[Forecast], back: Back | None) -> None:
    lines = [(f"{tokens:,.0f}", f"{loss:.3f}", "measured") for tokens, loss in points]
    for tokens, low, middle, high in forecasts:
        lines.append((f"{tokens:,.0f}", f"{middle:.3f}", f"{low:.3f} to {high:.3f}"))
    print(columns(("tokens", "bits per byte", "90 %"), lines))
    if back is None:
        print("The first half of the tokens has too few points to foretell the last one.")
        return
    low, middle, high = back.forecast[1:]
    verdict = "inside" if low <= back.came <= high else "outside"
    print(
        f"From the points up to {back.tokens:,.0f} tokens the last one was expected at {middle:.3f} ({low:.3f} to "
        f"{high:.3f}). It came to {back.came:.3f}, {verdict} the interval."
    )


def _extrapolate(options: argparse.Namespace, interrupts: Interrupts) -> None:
    phase, points = _measured(options.runs, options.phase)
    last = points[-1][0]
    if options.tokens and min(options.tokens) <= last:
        raise InputError(f"--tokens: {min(options.tokens):,} is not beyond the last measurement, at {last:,.0f}")
    wanted = sorted({*options.tokens, *(last * times for times in (2, 4, 8, 16))})
    try:
        forecasts = extrapolation.forecast(points, wanted)
    except InputError as error:
        raise InputError(f"{', '.join(map(str, options.runs))}: {error}") from None
    back = _back(points)
    if options.json:
        result: dict[str, Any] = {
            "runs": [str(path) for path in options.runs],
            "phase": phase,
            "note": ONE_RUN if len(options.runs) == 1 else None,
            "points": points,
            "forecasts": [each._asdict() for each in forecasts],
            "back_test": back and {"from_tokens": back.tokens, **back.forecast._asdict(), "came": back.came},
        }
        print(json.dumps(result))
        return
    _print(points, forecasts, back)
    if len(options.runs) == 1:
        print(ONE_RUN)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run, or several")
    parser.add_argument("--phase", metavar="NAME", help="the phase (default: the first)")
    parser.add_argument("--tokens", type=_count, nargs="+", default=[], metavar="N", help="further numbers to forecast")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("extrapolate.py", parser, arguments, _extrapolate)


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 10**15:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of tokens; write 200000000 or 200_000_000")
    return value


if __name__ == "__main__":
    sys.exit(main())
