"""What would more tokens bring? A power law through the held-out losses of a run, or of several, with its interval."""

import argparse
import json
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
  # what the first phase of a run would reach with 2, 4, 8 and 16 times its tokens
  python tools/extrapolate.py runs/evening
  # ... and with 200 million
  python tools/extrapolate.py runs/evening --tokens 200_000_000
  # the last loss of four runs of the same model, each with its own number of tokens
  python tools/extrapolate.py runs/tokens_1m runs/tokens_2m runs/tokens_4m runs/tokens_8m

Losses are bits per byte on the held-out text of the phase. The interval holds the loss with 90 % if the law holds.
One run's curve bends down where its rate falls towards the end, which makes a forecast from it too good. Several runs
with as many schedules do not have that fault.
"""


class Back(NamedTuple):
    """What the first half of the tokens would have said of the last measurement."""

    points: int
    forecast: Forecast
    came: float


def _measured(runs: Sequence[Path], name: str | None) -> list[tuple[float, float]]:
    """Return tokens and bits per byte: all late measurements of one run, or the last one of each of several."""
    found: list[tuple[float, float]] = []
    for path in runs:
        run = history.read(path)
        phase = cli.phase_of(run.config, name) if name else run.config.phase[0]
        points = [(float(point.tokens), point.bits_per_byte) for point in reference.points(run, phase)]
        found += points[-1:] if len(runs) > 1 else _of_the_law(points, run, phase)
    found.sort()
    counts = {tokens for tokens, _ in found}
    if len(counts) < LEAST and len(runs) == 1:
        raise InputError(
            f"{runs[0]} has {len(counts)} measurements of the whole model after the first tenth of the phase; a law "
            f"needs {LEAST} or more (train.evaluate_every)"
        )
    if len(counts) < LEAST:
        raise InputError(f"these runs have {len(counts)} different numbers of tokens; a law needs {LEAST} or more")
    return found


def _of_the_law(points: Sequence[tuple[float, float]], run: History, phase: Phase) -> list[tuple[float, float]]:
    """Return the points after the first tenth of a phase and after the last blocks came, in which a loss falls by a
    law."""
    whole = run.config.model.layers
    smaller = sum(stage.tokens for stage in run.stages(phase) if stage.blocks < whole)
    late = [point for point in points if point[0] >= 0.1 * phase.tokens and point[0] > smaller]
    return extrapolation.spread(late) if late else []


def _back(points: Sequence[tuple[float, float]]) -> Back | None:
    first = [point for point in points if point[0] <= points[-1][0] / 2]
    if len(first) < LEAST:
        return None
    return Back(len(first), extrapolation.forecast(first, [points[-1][0]])[0], points[-1][1])


def _print(points: Sequence[tuple[float, float]], forecasts: Sequence[Forecast], back: Back | None) -> None:
    lines = [(f"{tokens:,.0f}", f"{loss:.3f}", "measured") for tokens, loss in points]
    lines += [
        (f"{tokens:,.0f}", f"{middle:.3f}", f"{low:.3f} to {high:.3f}") for tokens, low, middle, high in forecasts
    ]
    print(columns(("tokens", "bits per byte", "with 90 %"), lines))
    if back is not None:
        low, middle, high = back.forecast[1:]
        verdict = "inside" if low <= back.came <= high else "outside"
        print(
            f"From the first {back.points} points, {points[back.points - 1][0]:,.0f} tokens, the last one was expected "
            f"at {middle:.3f} ({low:.3f} to {high:.3f}). It came to {back.came:.3f}, {verdict} of the interval."
        )


def _extrapolate(options: argparse.Namespace, interrupts: Interrupts) -> None:
    points = _measured(options.runs, options.phase)
    last = points[-1][0]
    wanted = sorted({*options.tokens, *(last * times for times in (2, 4, 8, 16))})
    forecasts, back = extrapolation.forecast(points, wanted), _back(points)
    if options.json:
        result: dict[str, Any] = {
            "points": points,
            "forecasts": [each._asdict() for each in forecasts],
            "back_test": back and {"points": back.points, **back.forecast._asdict(), "came": back.came},
        }
        print(json.dumps(result))
        return
    _print(points, forecasts, back)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = cli.parser(__doc__, EXAMPLES)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run directory, or several")
    parser.add_argument("--phase", metavar="NAME", help="the phase (default: the first)")
    parser.add_argument("--tokens", type=_count, nargs="+", default=[], metavar="N", help="forecast these, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return cli.run_tool("extrapolate.py", parser, arguments, _extrapolate)


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of tokens; write 200000000 or 200_000_000")
    return value


if __name__ == "__main__":
    sys.exit(main())
