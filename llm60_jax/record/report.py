"""The report of a run, finished or not: `report.html`, one file without network or scripts.

The functions here compute what the page shows. The template sections.html beside this file arranges each section, for
the report and for the page that watches a run. All are pure, except `write`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax import plan
from llm60_jax.config import Phase
from llm60_jax.machine import files, pages
from llm60_jax.machine.terminal import duration, printable
from llm60_jax.record import curves, doctor, forecast
from llm60_jax.record.history import History

NAME = "report.html"
_TEMPLATE, _FRAGMENT = Path(__file__).with_name(NAME), Path(__file__).with_name("fragment.html")


class GateOutcome(NamedTuple):
    """A coloured word, and perhaps a reason."""

    word: str
    good: bool
    reason: str = ""


class Table(NamedTuple):
    """Headings and rows of a table."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str | GateOutcome]]


def write(run: History) -> Path:
    """Write the report of a run into its directory, and return its path."""
    path = run.path / NAME
    files.write_text(path, printable(page(run)))  # somebody may print the file in a terminal
    return path


def page(run: History) -> str:
    """Return the whole page. The template leaves out sections without content."""
    return pages.render(
        _TEMPLATE,
        name=str(run.path.name or run.path),
        headline=headline(run),
        skipped=run.skipped,
        content={name: contents(run) for name, contents in _sections().items()},
    )


def fragment(run: History, names: Sequence[str]) -> str:
    """Return the HTML of some sections, such as "loss" and "gates", in the given order and without a page's shell.

    Sections without content are left out. All text is escaped. Raise KeyError for an unknown name.
    """
    contents = _sections()
    return pages.render(_FRAGMENT, content={name: contents[name](run) for name in names})


def summary(run: History, phase: Phase) -> str:
    """Return the results of a phase as a few lines for the terminal."""
    scores, facts = run.of(phase, "validation_loss"), [row["data"] for row in run.of(phase, "data")]
    first, last = (scores[0], scores[-1]) if scores else ({}, {})
    evidence = run.gates.get(phase.name, {}).get("evidence", {})
    lines = [f"phase {phase.name} in short:"]
    if facts:
        lines.append(f"  text: {facts[-1]['tokens']:,} tokens, read {facts[-1]['epochs']:.2f} times")
    if last:
        lines.append(
            f"  held-out loss: {first['validation_loss']:.3f} -> {last['validation_loss']:.3f} "
            f"({last['bits_per_byte']:.3f} bits per byte)"
        )
    for name, score in last.get("earlier_phases", {}).items():
        before = first.get("earlier_phases", {}).get(name)
        start = f"{before['validation_loss']:.3f} -> " if before else ""
        lines.append(f"  held-out loss of {name}: {start}{score['validation_loss']:.3f}")
    if "grammar_mean" in evidence:
        lines.append(f"  minimal pairs: {evidence['grammar_mean']:.1%} right")
    if rare := evidence.get("rare_words"):
        lines.append(f"  rare words in their context: {rare['correct']} of {rare['pairs']} right")
    if shares := doctor.time_of(run, phase):
        parts = ", ".join(f"{share.name} {duration(share.seconds)} ({share.share:.0%})" for share in shares)
        lines.append(f"  time: {parts}")
    lines += _planned_time(run, phase)
    symptoms = [finding.symptom for finding in doctor.examine(run) if finding.phase == phase.name]
    lines.append("  the doctor: " + ", ".join(symptoms) if symptoms else "  the doctor finds nothing wrong")
    return "\n".join(lines)


def time_spent(run: History, phase: Phase) -> str:
    """Return how long a phase took and what share of it was evaluation; "" before its first stage has ended.

    Where that share is above the plan's, name the settings that decide it.
    """
    shares = {share.name: share.share for share in doctor.time_of(run, phase)}
    if not shares:
        return ""
    seconds = duration(doctor.seconds_of(run, phase))
    line = f"{seconds}, {shares['steps']:.0%} of it training steps, {shares['evaluation']:.0%} evaluation"
    if shares["evaluation"] <= plan.EVALUATION_SHARE:
        return line
    every, tokens = plan.evaluate_every(run.config, phase), plan.validation_tokens(run.config, phase)
    return (
        f"{line} (more than {plan.EVALUATION_SHARE:.0%}; train.evaluate_every is {every:,} steps, "
        f"train.validation_tokens is {tokens:,})"
    )


def _planned_time(run: History, phase: Phase) -> list[str]:
    """Return a line that compares the time of a phase's steps with its forecast, where there was one."""
    ends = [row["stage_end"] for row in run.of(phase, "stage_end")]
    measured = [end for end in ends if end.get("planned_seconds")]
    if not measured:
        return []
    planned = sum(end["planned_seconds"] for end in measured)
    spent = [end.get("seconds", {}) for end in measured]
    took = sum(seconds.get("steps", 0.0) + seconds.get("data", 0.0) for seconds in spent)
    which = "steps" if len(measured) == len(ends) else f"steps of the {len(measured)} stages measured before"
    return [f"  {which}: {duration(planned)} planned, {duration(took)} taken ({took / planned:.2f} times)"]


# --- Sections --------------------------------------------------------------------------------------------------------


def _sections() -> dict[str, Callable[[History], Any]]:
    """Return the functions that compute what each section of sections.html shows."""
    return {
        "phases": _phases,
        "doctor": lambda run: {"findings": doctor.examine(run)},
        "loss": curves.losses,
        "schedule": curves.schedule,
        "grammar": curves.grammar,
        "vocabulary": _vocabulary,
        "samples": _samples,
        "gates": _gates,
        "text": _text,
        "depth": curves.depth,
        "time": _time,
    }


def headline(run: History) -> str:
    """Return the size of the model and how much of its text it has seen."""
    model = run.config.model
    step, last = max(((row["step"], row["tokens"]) for row in run.rows), default=(0, 0))
    total = sum(row["tokens"] for row in run.plan)
    now = next((row["blocks"] for row in run.plan if step <= row["stop_step"]), model.layers)
    layers = f"{model.layers}" if now == model.layers else f"{now} of {model.layers}"
    return (
        f"{model.parameter_count:,} parameters: {layers} layers of width {model.dim}, "
        f"{model.vocab_size:,} tokens. "
        f"Trained on {last:,} of {total:,} tokens{f' ({last / total:.0%})' if total else ''}."
    )


def _phases(run: History) -> Table:
    rows: list[list[str | GateOutcome]] = []
    for phase in run.begun:
        scores, gate = run.of(phase, "validation_loss"), run.gates.get(phase.name)
        first, last = (scores[0], scores[-1]) if scores else ({}, {})
        error = last.get("validation_error")
        bits = f"{last['bits_per_byte']:.3f}" if last else ""
        loss = f"{last['validation_loss']:.3f}" + (f" ± {error:.3f}" if error else "") if last else ""
        rows.append(
            [
                phase.name,
                f"{phase.tokens:,}",
                f"{first['validation_loss']:.3f}" if first else "",
                loss,
                bits,
                f"{last['minimal_pairs']:.1%}" if "minimal_pairs" in last else "",
                duration(doctor.seconds_of(run, phase)),
                "open" if gate is None else _verdict(gate),
            ]
        )
    headings = [
        "phase", "tokens", "held-out loss at first", "at the end", "bits per byte", "minimal pairs", "time", "gate",
    ]  # fmt: skip
    return Table(headings, rows)


def _verdict(gate: dict[str, Any]) -> GateOutcome:
    if gate.get("passed"):
        return GateOutcome("passed", True)
    reason = gate.get("override")
    return GateOutcome("overridden", False, str(reason)) if reason else GateOutcome("not passed", False)


def _vocabulary(run: History) -> dict[str, Any]:
    figures = [
        ("mtld", "MTLD"), ("hdd", "HD-D"), ("rare_types", "rare types"), ("invented_words", "invented words in 1,000"),
        ("doubled_words", "doubled words in 1,000"), ("wrong_articles", "wrong a/an in 1,000"),
        ("unclosed_quotes", "unclosed quotes in 1,000"), ("unfinished_sentences", "unfinished sentences in 1,000"),
        ("looped_words", "words in loops in 1,000"), ("parse_rate", "parsed by link-parser"),
    ]  # fmt: skip
    cells: list[list[str]] = []
    for name, gate in run.gates.items():
        evidence = gate.get("evidence", {})
        for who, author in (("generated", "the model"), ("human", "held-out text")):
            values = evidence.get(who) or {}
            cells.append([name, author, *(_figure(values.get(field)) for field, _ in figures)])
    losses = curves.rarity(run)
    headings = ["phase", "text of", *(heading for _, heading in figures)]
    return {"losses": losses, "table": Table(headings, cells) if cells else None} if losses or cells else {}


def _samples(run: History) -> dict[str, Any]:
    """Return the last texts of each phase by prompt, to be shown side by side."""
    last = {sample["phase"]: sample for sample in run.samples if sample.get("texts")}
    if not last:
        return {}
    prompts: dict[tuple[str, str], dict[str, str]] = {}
    for name, sample in last.items():
        for text in sample["texts"]:
            prompts.setdefault((text["prompt"], text.get("kind", "short")), {})[name] = text["text"]
    speed = next(reversed(last.values())).get("tokens_per_second")
    return {
        "prompts": [
            {
                "prompt": prompt,
                "kind": kind,
                "texts": [(f"{name}, step {last[name]['step']:,}", text) for name, text in texts.items()],
            }
            for (prompt, kind), texts in prompts.items()
        ],
        "speed": f"{speed:,.0f} tokens/s" if speed else "",
    }


def _gates(run: History) -> list[dict[str, Any]]:
    return [
        {
            "phase": name,
            "verdict": _verdict(gate),
            "checks": Table(
                ["check", "found", "asked for", ""],
                [
                    [
                        check["name"],
                        _figure(check["found"]),
                        check["asked"],
                        GateOutcome("met", True) if check["passed"] else GateOutcome("not met", False),
                    ]
                    for check in gate.get("checks", [])
                ],
            ),
        }
        for name, gate in run.gates.items()
    ]


def _text(run: History) -> Table | None:
    rows = [
        [
            phase.name,
            f"{facts['documents']:,}",
            f"{facts['tokens']:,}",
            f"{facts['epochs']:.2f}",
            f"{facts['kept_share']:.1%}",
            f"{facts['duplicate_share']:.1%}",
            f"{facts['bytes_per_token']:.2f}",
            f"{facts['whole_word_share']:.0%}",
            f"{facts['unused_share']:.0%}",
        ]
        for phase in run.begun
        for facts in [row["data"] for row in run.of(phase, "data")[-1:]]
    ]
    headings = [
        "phase", "documents", "tokens", "epochs", "characters kept", "dropped as duplicates", "bytes a token",
        "words that are one token", "vocabulary unused",
    ]  # fmt: skip
    return Table(headings, rows) if rows else None


def _time(run: History) -> dict[str, Any]:
    stages, foreseen = [], forecast.stage_seconds(run)
    for row in run.rows:
        if "stage_end" in row:
            account, place = row["stage_end"], (row["phase"], row["stage"])
            spent = account.get("seconds", {})
            stages.append(
                [
                    f"{row['phase']} {row['stage'] + 1}",
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
    if not stages:
        return {}
    headings = [
        "stage", "tokens/s", "foreseen", "took", "waited for data", "compiled in", "temporaries", "resident", "at peak",
    ]  # fmt: skip
    shares = [
        [phase.name, share.name, duration(share.seconds), f"{share.share:.1%}"]
        for phase in run.begun
        for share in doctor.time_of(run, phase)
    ]
    return {
        "speed": curves.speed(run),
        "stages": Table(headings, stages),
        "shares": Table(["phase", "time for", "", "share"], shares),
    }


# --- Parts -----------------------------------------------------------------------------------------------------------


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else "-"
