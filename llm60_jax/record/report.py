"""The report of a run, finished or not: `report.html`, one file without network or scripts. Pure, but for `write`.

Everything that is shown passes through `html.escape`: text of models and documents is never markup.
"""

import html
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from llm60_jax import plan
from llm60_jax.config import Phase
from llm60_jax.machine import files
from llm60_jax.machine.terminal import duration, printable
from llm60_jax.plan import flops
from llm60_jax.record import charts, doctor
from llm60_jax.record.charts import Band, Line, chart
from llm60_jax.record.history import History

NAME = "report.html"


def write(run: History) -> Path:
    """Makes the report of a run anew, in its directory."""
    path = run.path / NAME
    files.write_text(path, printable(page(run)))  # whoever looks at it in a terminal
    return path


def page(run: History) -> str:
    """The whole page."""
    sections = [
        ("Phases", _phases(run)),
        ("What the doctor says", _findings(run)),
        ("Loss", _losses(run)),
        ("Schedule", _schedule(run)),
        ("Grammar", _grammar(run)),
        ("Rare words and vocabulary", _vocabulary(run)),
        ("Texts the model writes", _samples(run)),
        ("Gates", _gates(run)),
        ("Text trained on", _text(run)),
        ("Depth", _depth(run)),
        ("Time and memory", _time(run)),
    ]
    shown = [(title, body) for title, body in sections if body]
    links = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title, _ in shown)
    body = "".join(f'<section id="{_anchor(title)}"><h2>{title}</h2>{content}</section>' for title, content in shown)
    name = html.escape(str(run.path.name or run.path))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}: report</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>{charts.STYLE}{_STYLE}</style></head>
<body><header><h1>{name}</h1><p>{_headline(run)}</p><nav>{links}</nav></header><main>{body}</main></body></html>
"""


def summary(run: History, phase: Phase) -> str:
    """What a phase has come to, in a few lines for the terminal."""
    scores, data = run.of(phase, "validation_loss"), [row["data"] for row in run.of(phase, "data")]
    first, last = (scores[0], scores[-1]) if scores else ({}, {})
    evidence = run.gates.get(phase.name, {}).get("evidence", {})
    lines = [f"phase {phase.name} in short:"]
    if data:
        lines.append(f"  text: {data[-1]['tokens']:,} tokens, read {data[-1]['epochs']:.2f} times")
    if last:
        lines.append(
            f"  held-out loss: {first['validation_loss']:.3f} -> {last['validation_loss']:.3f} "
            f"({last['bits_per_byte']:.3f} bits per byte)"
        )
    for name, score in last.get("earlier_phases", {}).items():
        before = first["earlier_phases"][name]["validation_loss"]
        lines.append(f"  held-out loss of {name}: {before:.3f} -> {score['validation_loss']:.3f}")
    if "grammar_mean" in evidence:
        lines.append(f"  minimal pairs: {evidence['grammar_mean']:.1%} right")
    if rare := evidence.get("rare_words"):
        lines.append(f"  rare words in their context: {rare['correct']} of {rare['pairs']} right")
    if shares := doctor.time_of(run, phase):
        told = ", ".join(f"{share.name} {duration(share.seconds)} ({share.share:.0%})" for share in shares)
        lines.append(f"  time: {told}")
    ends = [row["stage_end"] for row in run.of(phase, "stage_end")]
    if known := [end for end in ends if end.get("planned_seconds")]:
        planned, took = (sum(seconds) for seconds in zip(*map(_planned_and_taken, known), strict=True))
        of = "steps" if len(known) == len(ends) else f"steps of the {len(known)} stages measured before"
        lines.append(f"  {of}: {duration(planned)} planned, {duration(took)} taken ({took / planned:.2f} times)")
    found = [one for one in doctor.examine(run) if one.phase == phase.name]
    lines.append(
        "  the doctor finds nothing wrong" if not found else "  the doctor: " + ", ".join(f.symptom for f in found)
    )
    return "\n".join(lines)


# --- Sections --------------------------------------------------------------------------------------------------------


def _headline(run: History) -> str:
    model = run.config.model
    last = max((row["tokens"] for row in run.rows), default=0)
    whole = sum(row["tokens"] for row in run.plan)
    return (
        f"{model.parameter_count:,} parameters: {model.layers} layers of width {model.dim}, "
        f"{model.vocab_size:,} tokens. "
        f"Trained on {last:,} of {whole:,} tokens{f' ({last / whole:.0%})' if whole else ''}."
    )


def _phases(run: History) -> str:
    lines = []
    for phase in run.begun:
        scores, gate = run.of(phase, "validation_loss"), run.gates.get(phase.name)
        first, last = (scores[0], scores[-1]) if scores else ({}, {})
        error = last.get("validation_error")
        bits = f"{last['bits_per_byte']:.3f}" if last else ""
        loss = f"{last['validation_loss']:.3f}" + (f" ± {error:.3f}" if error else "") if last else ""
        lines.append(
            [
                html.escape(phase.name),
                f"{phase.tokens:,}",
                f"{first['validation_loss']:.3f}" if first else "",
                loss,
                bits,
                f"{last['minimal_pairs']:.1%}" if "minimal_pairs" in last else "",
                duration(doctor.seconds_of(run, phase)),
                _verdict(gate),
            ]
        )
    headings = [
        "phase", "tokens", "held-out loss at first", "at the end", "bits per byte", "minimal pairs", "time", "gate",
    ]  # fmt: skip
    return _table(headings, lines)


def _verdict(gate: dict[str, Any] | None) -> str:
    if gate is None:
        return "open"
    if gate.get("passed"):
        return '<b class="good">passed</b>'
    why = gate.get("override")
    return f'<b class="bad">overridden</b>: {html.escape(str(why))}' if why else '<b class="bad">not passed</b>'


def _findings(run: History) -> str:
    found = doctor.examine(run)
    if not found:
        return "<p>Nothing is wrong as far as the measurements go.</p>"
    return "".join(
        f'<article><h3 class="bad">{html.escape(one.phase)}: {html.escape(one.symptom)}</h3><dl><dt>measured</dt>'
        f"<dd>{html.escape(one.evidence)}</dd><dt>likely cause</dt><dd>{html.escape(one.cause)}</dd>"
        f"<dt>what to do</dt><dd>{html.escape(one.fix)}</dd></dl></article>"
        for one in found
    )


def _losses(run: History) -> str:
    lines = [Line("training", _points(run.rows, "loss"))]
    held_out: dict[str, list[tuple[float, float]]] = {}
    for row in run.rows:
        if "validation_loss" in row:
            held_out.setdefault(row["phase"], []).append((row["tokens"], row["validation_loss"]))
            for name, score in row.get("earlier_phases", {}).items():
                held_out.setdefault(name, []).append((row["tokens"], score["validation_loss"]))
    lines += [Line(f"held out: {name}", sorted(points)) for name, points in held_out.items()]
    return chart("nats a token, over tokens; stages shaded", lines, _bands(run), x_unit="tokens")


def _schedule(run: History) -> str:
    bands = _bands(run)
    ends = [(edge, row) for row, (start, stop) in _spans(run) for edge in (start, stop)]
    return _grid(
        chart("learning rate", [Line("learning rate", _points(run.rows, "learning_rate"))], bands, include=[0]),
        *(
            chart(f"{name}, as planned", [Line(name, [(x, row[field]) for x, row in ends], True)], bands, include=[0])
            for name, field in (("context", "context"), ("frozen blocks", "frozen"))
        ),
        chart("gradient norm", [Line("gradient norm", _points(run.rows, "grad_norm"))], bands, include=[0]),
    )


def _grammar(run: History) -> str:
    rows = [row for row in run.rows if "minimal_pairs" in row]
    whole = chart(
        "share of minimal pairs judged right, in all",
        [Line("all phenomena", [(row["tokens"], row["minimal_pairs"]) for row in rows])],
        _bands(run),
        x_unit="tokens",
    )
    names = sorted({name for row in rows for name in row["minimal_pairs_by_phenomenon"]})

    def curve(name: str) -> str:
        found = ((row["tokens"], row["minimal_pairs_by_phenomenon"].get(name)) for row in rows)
        line = Line("right", [(x, right) for x, right in found if right is not None])
        return chart(name.replace("_", " "), [line], _bands(run), include=[0, 1])

    small = [curve(name) for name in names]
    note = "<p>During training ten pairs of each phenomenon are judged; the gates judge all of them.</p>"
    return whole + (f'{note}<div class="small">{"".join(small)}</div>' if small else "")


def _vocabulary(run: History) -> str:
    rows = [row for row in run.rows if row.get("loss_by_rarity")]
    names = ["the commonest half of the text", "up to 75 %", "up to 90 %", "up to 97 %", "the rarest 3 %"]
    lines = [
        Line(
            name,
            [(row["tokens"], row["loss_by_rarity"][place]) for row in rows if row["loss_by_rarity"][place] is not None],
        )
        for place, name in enumerate(names)
    ]
    figures = [
        ("mtld", "MTLD"), ("hdd", "HD-D"), ("rare_types", "rare types"), ("invented_words", "invented words in 1,000"),
        ("doubled_words", "doubled words in 1,000"), ("wrong_articles", "wrong a/an in 1,000"),
        ("unclosed_quotes", "unclosed quotes in 1,000"), ("unfinished_sentences", "unfinished sentences in 1,000"),
        ("looped_words", "words in loops in 1,000"), ("parse_rate", "parsed by link-parser"),
    ]  # fmt: skip
    table = []
    for name, gate in run.gates.items():
        evidence = gate.get("evidence", {})
        for who, told in (("generated", "the model"), ("human", "held-out text")):
            found = evidence.get(who) or {}
            table.append([html.escape(name), told, *(_figure(found.get(field)) for field, _ in figures)])
    return chart("held-out loss by how rare a token is", lines, _bands(run), x_unit="tokens") + (
        _table(["phase", "text of", *(told for _, told in figures)], table) if table else ""
    )


def _samples(run: History) -> str:
    """The last texts of each phase, prompt by prompt, side by side."""
    last = {sample["phase"]: sample for sample in run.samples if sample.get("texts")}
    if not last:
        return ""
    blocks = []
    prompts: dict[tuple[str, str], dict[str, str]] = {}
    for name, sample in last.items():
        for text in sample["texts"]:
            prompts.setdefault((text["prompt"], text.get("kind", "short")), {})[name] = text["text"]
    for (prompt, kind), texts in prompts.items():
        cards = "".join(
            f"<article><h4>{html.escape(name)}, step {last[name]['step']:,}</h4><p>{html.escape(text)}</p></article>"
            for name, text in texts.items()
        )
        body = f'<div class="cards">{cards}</div>'
        title = f"{html.escape(prompt)} ... ({kind})"
        opened = " open" if kind == "short" else ""
        blocks.append(f"<details{opened}><summary>{title}</summary>{body}</details>")
    speed = next(reversed(last.values())).get("tokens_per_second")
    return "".join(blocks) + (f"<p>Written at {speed:,.0f} tokens/s.</p>" if speed else "")


def _gates(run: History) -> str:
    parts = []
    for name, gate in run.gates.items():
        lines = [
            [
                html.escape(check["name"]),
                _figure(check["found"]),
                html.escape(check["asked"]),
                '<b class="good">met</b>' if check["passed"] else '<b class="bad">not met</b>',
            ]
            for check in gate.get("checks", [])
        ]
        title = f"<h3>{html.escape(name)}: {_verdict(gate)}</h3>"
        parts.append(title + _table(["check", "found", "asked for", ""], lines))
    return "".join(parts)


def _text(run: History) -> str:
    lines = []
    for phase in run.begun:
        for row in run.of(phase, "data")[-1:]:
            data = row["data"]
            lines.append(
                [
                    html.escape(phase.name),
                    f"{data['documents']:,}",
                    f"{data['tokens']:,}",
                    f"{data['epochs']:.2f}",
                    f"{data['kept_share']:.1%}",
                    f"{data['duplicate_share']:.1%}",
                    f"{data['bytes_per_token']:.2f}",
                    f"{data['whole_word_share']:.0%}",
                    f"{data['unused_share']:.0%}",
                ]
            )
    headings = [
        "phase", "documents", "tokens", "epochs", "characters kept", "dropped as duplicates", "bytes a token",
        "words that are one token", "vocabulary unused",
    ]  # fmt: skip
    return _table(headings, lines) if lines else ""


def _depth(run: History) -> str:
    parts = []
    for phase in run.begun:
        for row in run.of(phase, "depth")[-1:]:
            found = row["depth"]
            added = found["contributions"]
            parts += [
                # The first block adds several times the embedding: beside it the others could not be told apart.
                chart(
                    f"{phase.name}: what each block adds, as a share of the stream (the first: {added[0]:.3g})",
                    [Line("contribution", list(enumerate(added[1:], 2)))],
                    include=[0],
                    x_unit="block",
                ),
                chart(
                    f"{phase.name}: loss when read after each block (untrained, so from above)",
                    [Line("loss", list(enumerate(found["losses"])))],
                    x_unit="block",
                ),
            ]
    return _grid(*parts) if parts else ""


def _time(run: History) -> str:
    stages, foreseen = [], _foreseen(run)
    for row in run.rows:
        if "stage_end" in row:
            account, place = row["stage_end"], (row["phase"], row["stage"])
            spent = account.get("seconds", {})
            stages.append(
                [
                    f"{html.escape(row['phase'])} {row['stage'] + 1}",
                    f"{account['tokens_per_second']:,.0f}",
                    duration(foreseen[place]) if place in foreseen else "",
                    duration(spent.get("steps", 0.0)),
                    f"{spent.get('data', 0.0):.1f} s",
                    f"{account['compile_seconds']:.1f} s",
                    f"{account['temporary_bytes'] / 2**20:,.0f} MiB",
                    f"{account['resident_bytes'] / 2**20:,.0f} MiB",
                    f"{account['peak_resident_bytes'] / 2**20:,.0f} MiB",
                ]
            )
    headings = [
        "stage", "tokens/s", "foreseen", "took", "waited for data", "compiled in", "temporaries", "resident", "at peak",
    ]  # fmt: skip
    shares = []
    for phase in run.begun:
        for share in doctor.time_of(run, phase):
            shares.append([html.escape(phase.name), share.name, duration(share.seconds), f"{share.share:.1%}"])
    if not stages:
        return ""
    note = (
        "<p>Foreseen: as the stage's program was measured on this machine before the run; where it was not, from the "
        "speed of the run's first stage and the operations of each later one. What recomputation takes is the share of "
        "the operations that it adds.</p>"
    )
    rates = [(row["tokens"], row["tokens_per_second"]) for row in run.rows if row.get("tokens_per_second")]
    speed = chart("tokens a second", [Line("tokens/s", rates)], _bands(run), include=[0], x_unit="tokens")
    return speed + _table(headings, stages) + note + _table(["phase", "time for", "", "share"], shares)


def _planned_and_taken(end: dict[str, Any]) -> tuple[float, float]:
    """Seconds of a stage's steps, by what its program took before the run, and in the run."""
    spent = end.get("seconds", {})
    return end["planned_seconds"], spent.get("steps", 0.0) + spent.get("data", 0.0)


# --- Parts -----------------------------------------------------------------------------------------------------------


def _foreseen(run: History) -> dict[tuple[str, int], float]:
    """Seconds of steps for each stage: as its program was measured before the run, else from the measured rate of the
    run's first stage."""
    ends = [row for row in run.rows if "stage_end" in row and row["stage_end"].get("planned_seconds") is not None]
    planned = {(row["phase"], row["stage"]): row["stage_end"]["planned_seconds"] for row in ends}
    return _by_operations(run) | planned


def _by_operations(run: History) -> dict[tuple[str, int], float]:
    """Seconds of steps for each stage, from the measured rate of the first one."""
    first = next((row["stage_end"] for row in run.rows if "stage_end" in row), None)
    if first is None or not first["tokens_per_second"]:
        return {}
    costs = {}
    for phase in run.config.phase:
        for stage in run.stages(phase):
            key = plan.key(run.config, stage)
            costs[phase.name, stage.index] = flops.step_flops(run.config.model, key) * stage.steps, stage.tokens
    cost, tokens = next(iter(costs.values()), (0, 0))
    if not cost:
        return {}
    per_operation = tokens / first["tokens_per_second"] / cost
    return {place: cost * per_operation for place, (cost, _) in costs.items()}


def _spans(run: History) -> list[tuple[dict[str, Any], tuple[int, int]]]:
    """Each row of the plan, with the tokens of the run between which it lies."""
    edges = list(itertools.accumulate((row["tokens"] for row in run.plan), initial=0))
    return list(zip(run.plan, itertools.pairwise(edges), strict=True))


def _bands(run: History) -> list[Band]:
    """The stages, every second one shaded, as far as the run has come."""
    last = max((row["tokens"] for row in run.rows), default=0)
    return [
        Band(
            f"{row['phase']} {row['stage'] + 1}: context {row['context']}, {row['frozen']} blocks frozen",
            start,
            min(stop, last),
            shaded=number % 2 == 1,
        )
        for number, (row, (start, stop)) in enumerate(_spans(run))
        if start < last
    ]


def _points(rows: Iterable[dict[str, Any]], field: str) -> list[tuple[float, float]]:
    return [(row["tokens"], row[field]) for row in rows if isinstance(row.get(field), (int, float))]


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else "-"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML: escape what was not written here."""
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _grid(*parts: str) -> str:
    return f'<div class="grid2">{"".join(parts)}</div>'


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


_STYLE = """
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,sans-serif}
header,main{max-width:72rem;margin:auto;padding:0 1rem}h1{margin:1.5rem 0 .2rem}h2{margin:2.2rem 0 .6rem}
h3{margin:1rem 0 .4rem}h4{margin:0 0 .3rem;color:var(--soft);font-weight:600}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1rem}a{color:var(--c0)}
figure{margin:0 0 1rem;min-width:0;max-width:46rem}figcaption{font-weight:600;margin-bottom:.2rem}
.wide{overflow-x:auto;margin-bottom:1rem}table{border-collapse:collapse;font-size:.9rem}
th{text-align:left;color:var(--soft);font-weight:600;vertical-align:bottom}
th,td{padding:.25rem .8rem .25rem 0}td:not(:first-child):not(:last-child){white-space:nowrap}
td{border-top:1px solid var(--grid);font-variant-numeric:tabular-nums}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:0 1.5rem}
.small{display:grid;grid-template-columns:repeat(auto-fill,minmax(10rem,1fr));gap:0 1rem}
.small figcaption{font-weight:400;font-size:.85rem}.small .legend{display:none}.small svg text{font-size:20px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,18rem),1fr));gap:.8rem}
article{background:var(--card);padding:.7rem .9rem;border-radius:.4rem;margin-bottom:.8rem}
article p{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}summary{cursor:pointer;margin:.6rem 0}
dl{margin:0;display:grid;grid-template-columns:8rem 1fr;gap:.2rem .6rem}dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}@media(max-width:40rem){dl{grid-template-columns:1fr}}
.good{color:var(--good)}.bad{color:var(--bad)}
"""
