"""The curves of a run as charts, for its report. Pure functions; a chart without a point is left out."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llm60_jax.record.charts import Band, Line, chart
from llm60_jax.record.history import History


def losses(run: History) -> list[str]:
    """Return the training loss and the held-out losses of all phases."""
    lines = [Line("training", _points(run.rows, "loss"))]
    held_out: dict[str, list[tuple[float, float]]] = {}
    for row in run.rows:
        if "validation_loss" in row:
            held_out.setdefault(row["phase"], []).append((row["tokens"], row["validation_loss"]))
            for name, score in row.get("earlier_phases", {}).items():
                held_out.setdefault(name, []).append((row["tokens"], score["validation_loss"]))
    lines += [Line(f"held out: {name}", sorted(points)) for name, points in held_out.items()]
    return _drawn(chart("nats a token, over tokens; stages shaded", lines, _bands(run), x_unit="tokens"))


def compared(runs: Sequence[tuple[str, History]]) -> list[str]:
    """Return training loss, held-out loss and minimal pairs of several runs over one another, by tokens.

    Args:
      runs: a name and a run each. The held-out loss is that of the phase under way.
    """
    return _drawn(
        *(
            chart(title, [Line(name, _points(run.rows, field)) for name, run in runs], x_unit="tokens")
            for title, field in (
                ("training loss, nats a token", "loss"),
                ("held-out loss of the phase under way, nats a token", "validation_loss"),
                ("share of minimal pairs judged right", "minimal_pairs"),
            )
        )
    )


def schedule(run: History) -> list[str]:
    """Return learning rate, context, blocks where the model grows, frozen blocks and gradient norm."""
    bands = _bands(run)
    ends = [(edge, row) for row, (start, stop) in _spans(run) for edge in (start, stop)]
    grows = [("blocks", "blocks")] if len({row["blocks"] for row in run.plan}) > 1 else []
    return _drawn(
        chart("learning rate", [Line("learning rate", _points(run.rows, "learning_rate"))], bands, include=[0]),
        *(
            chart(f"{name}, as planned", [Line(name, [(x, row[field]) for x, row in ends], True)], bands, include=[0])
            for name, field in (("context", "context"), *grows, ("frozen blocks", "frozen"))
        ),
        chart("gradient norm", [Line("gradient norm", _points(run.rows, "grad_norm"))], bands, include=[0]),
    )


def grammar(run: History) -> dict[str, list[str]]:
    """Return the share of minimal pairs judged right: `whole`, and one chart for each of the `phenomena`."""
    rows = [row for row in run.rows if "minimal_pairs" in row]
    whole = chart(
        "share of minimal pairs judged right, in all",
        [Line("all phenomena", [(row["tokens"], row["minimal_pairs"]) for row in rows])],
        _bands(run),
        x_unit="tokens",
    )

    def curve(name: str) -> str:
        shares = ((row["tokens"], row["minimal_pairs_by_phenomenon"].get(name)) for row in rows)
        line = Line("right", [(x, share) for x, share in shares if share is not None])
        return chart(name.replace("_", " "), [line], _bands(run), include=[0, 1])

    names = sorted({name for row in rows for name in row["minimal_pairs_by_phenomenon"]})
    phenomena = _drawn(*(curve(name) for name in names))
    return {"whole": _drawn(whole), "phenomena": phenomena} if whole or phenomena else {}


def rarity(run: History) -> list[str]:
    """Return the held-out loss by the rarity of tokens."""
    rows = [row for row in run.rows if row.get("loss_by_rarity")]
    names = ["the commonest half of the text", "up to 75 %", "up to 90 %", "up to 97 %", "the rarest 3 %"]
    lines = [
        Line(
            name,
            [(row["tokens"], row["loss_by_rarity"][place]) for row in rows if row["loss_by_rarity"][place] is not None],
        )
        for place, name in enumerate(names)
    ]
    return _drawn(chart("held-out loss by how rare a token is", lines, _bands(run), x_unit="tokens"))


def depth(run: History) -> list[str]:
    """Return what each block adds and the loss after each block, for every phase."""
    looks = [(phase.name, row["depth"]) for phase in run.begun for row in run.of(phase, "depth")[-1:]]
    return [drawing for name, look in looks for drawing in blocks(look, f"{name}: ")]


def blocks(look: Mapping[str, Any], before: str = "") -> list[str]:
    """Return what each block adds to the stream, and the loss when it is read after each block.

    Args:
      look: `contributions` [L] and `losses` [L + 1] of a model of L blocks (evaluate/depth.py).
      before: stands before the titles.
    """
    added = look["contributions"]
    return _drawn(
        # The first block adds several times the embedding; on its scale the others would look alike.
        chart(
            f"{before}what each block adds, as a share of the stream (the first: {added[0]:.3g})",
            [Line("contribution", list(enumerate(added[1:], 2)))],
            include=[0],
            x_unit="block",
        ),
        chart(
            f"{before}loss when read after each block (untrained, so from above)",
            [Line("loss", list(enumerate(look["losses"])))],
            x_unit="block",
        ),
    )


def speed(run: History) -> list[str]:
    """Return the tokens per second."""
    rates = [(row["tokens"], row["tokens_per_second"]) for row in run.rows if row.get("tokens_per_second")]
    return _drawn(chart("tokens a second", [Line("tokens/s", rates)], _bands(run), include=[0], x_unit="tokens"))


def _spans(run: History) -> list[tuple[dict[str, Any], tuple[int, int]]]:
    """Return each row of the plan with its first and last token in the run."""
    edges = list(itertools.accumulate((row["tokens"] for row in run.plan), initial=0))
    return list(zip(run.plan, itertools.pairwise(edges), strict=True))


def _bands(run: History) -> list[Band]:
    """Return the stages up to the run's last token, every second one shaded."""
    last = max((row["tokens"] for row in run.rows), default=0)
    return [
        Band(
            f"{row['phase']} {row['stage'] + 1}: context {row['context']}, "
            f"{row['frozen']} of {row['blocks']} blocks frozen",
            start,
            min(stop, last),
            shaded=number % 2 == 1,
        )
        for number, (row, (start, stop)) in enumerate(_spans(run))
        if start < last
    ]


def _points(rows: Iterable[dict[str, Any]], field: str) -> list[tuple[float, float]]:
    return [(row["tokens"], row[field]) for row in rows if isinstance(row.get(field), (int, float))]


def _drawn(*charts: str) -> list[str]:
    """Return the charts that have a point."""
    return [drawing for drawing in charts if drawing]
