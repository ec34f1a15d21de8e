"""Checks of the text that goes in and of the text that the model writes."""

import json
from collections.abc import Iterator
from typing import Any

from llm60_jax.config import Phase
from llm60_jax.record.doctor.findings import Finding, longer, stuck, text_facts
from llm60_jax.record.history import History

# Order is measured by `gain` and `by_chance` of `data.tokens.bigrams.Order`.
_LEAST_WORD_GAIN = 0.12  # gain of a text's words; prose has 0.15 to 0.35
_MOST_BY_CHANCE = 0.8  # share of pairs that repeat by chance; beyond it the gain says nothing
_LEAST_GAIN_KEPT = 0.5  # gain of the batches, as a share of their text's
_MOST_DUPLICATES = 0.5  # share of the characters
_MANY_EPOCHS = 4  # more passes over the same text teach little
_LEAST_WHOLE_WORDS = 0.30  # share of words that are one token
_MOST_UNUSED = 0.40  # share of the vocabulary that a text never uses
_TOKENS_PER_PIECE = 50  # tokens of text for each piece of the vocabulary before unused pieces count
_MOST_LOOPS = 100.0  # looped words in 1,000, beyond those of human text


def no_order(history: History, phase: Phase) -> Iterator[Finding]:
    """Find tokens without order, which teach frequencies only: in the text, or in the batches alone."""
    words, tokens = (_gain(text_facts(history, phase).get(name)) for name in ("word_order", "order"))
    measured = [_gain(row["stage_end"].get("order")) for row in history.of(phase, "stage_end")]
    batches = [gain for gain in measured if gain is not None]
    if words is not None and words < _LEAST_WORD_GAIN:
        yield Finding(
            "word salad",
            phase.name,
            f"neighbouring words repeat {words:.0%} more often than shuffled words; prose has 15 % to 35 %"
            f"{_stuck_too(history, phase)}",
            "the phase's text has no word order: lists, tables, or shuffled words",
            f"look at the text: python tools/inspect_data.py; replace phase.{phase.name}.sources by clean prose and "
            "begin phase 1 again in a new --workdir",
        )
    elif tokens is not None and batches and min(batches) < _LEAST_GAIN_KEPT * tokens:
        yield Finding(
            "shuffled tokens",
            phase.name,
            f"neighbouring tokens of the batches repeat {min(batches):.0%} more often than shuffled ones, those of the "
            f"text {tokens:.0%}{_stuck_too(history, phase)}",
            "the loader does not give the model the text: rows are cut or shuffled between data and step",
            "this is an error in the input pipeline (llm60_jax/data/tokens/packing.py, loader.py), not a setting: run "
            "tests/test_data_packing.py and tests/test_data_loader.py, and report it",
        )


def duplicated(history: History, phase: Phase) -> Iterator[Finding]:
    """Find text that was mostly duplicates, so that the rest is read again and again."""
    facts = text_facts(history, phase)
    share = facts.get("duplicate_share", 0.0)
    if share > _MOST_DUPLICATES:
        often = facts["epochs"] > _MANY_EPOCHS
        shorter = f" or shorten the phase: --set {phase.times(_MANY_EPOCHS / facts['epochs'])}" if often else ""
        yield Finding(
            "duplicated text",
            phase.name,
            f"{share:.0%} of the text was dropped as duplicates; the remaining {facts['tokens']:,} tokens are read "
            f"{facts['epochs']:.1f} times",
            "the sources hold the same documents several times",
            f"remove the copies (python tools/inspect_data.py lists them), and add other text to "
            f"phase.{phase.name}.sources{shorter}",
        )


def foreign_tokenizer(history: History, phase: Phase) -> Iterator[Finding]:
    """Find a vocabulary that does not fit the text."""
    facts = text_facts(history, phase)
    if not facts or facts["whole_word_share"] >= _LEAST_WHOLE_WORDS:
        return
    enough_text = facts["tokens"] >= _TOKENS_PER_PIECE * history.config.model.vocab_size
    if enough_text and facts["unused_share"] > _MOST_UNUSED:
        yield Finding(
            "foreign tokenizer",
            phase.name,
            f"{facts['whole_word_share']:.0%} of words are one token, {facts['bytes_per_token']:.2f} bytes a token, "
            f"and {facts['unused_share']:.0%} of the vocabulary never occurs",
            "the tokenizer was trained on other text: another language, or code",
            "train the tokenizer on this text: name phases with similar text in tokenizer.phases and begin in a new "
            "--workdir. python tools/inspect_data.py shows the fit",
        )


def poor_grammar(history: History, phase: Phase) -> Iterator[Finding]:
    """Find grammar that the gate refused. Section 14: "Poor grammar: bad phase-1 data: restart phase 1"."""
    failed = [
        check
        for check in history.gates.get(phase.name, {}).get("checks", [])
        if check["name"].startswith("grammar: ") and not check["passed"]
    ]
    if not failed:
        return
    examples = ", ".join(
        f"{check['name'].removeprefix('grammar: ')} {_share(check['found'])} ({check['asked']})" for check in failed[:4]
    )
    rows, facts = history.of(phase, "minimal_pairs"), text_facts(history, phase)
    curve = f"; minimal pairs {rows[0]['minimal_pairs']:.0%} -> {rows[-1]['minimal_pairs']:.0%}" if rows else ""
    cause = "too little or unclean text in phase 1; fine-tuning never fixes broken grammar"
    if facts:
        cause += f" ({facts['tokens']:,} tokens of text, read {facts['epochs']:.1f} times)"
    yield Finding(
        "poor grammar",
        phase.name,
        f"{len(failed)} phenomena below the gate's minimum: {examples}{curve}",
        cause,
        "look at the text (python tools/inspect_data.py), clean it or add to it, and begin phase 1 again in a new "
        f"--workdir; if its loss still falls, {longer(phase)}",
    )


def repetition(history: History, phase: Phase) -> Iterator[Finding]:
    """Find a model whose texts go round in loops."""
    evidence = history.gates.get(phase.name, {}).get("evidence", {})
    generated, human = (evidence.get(author, {}).get("looped_words") for author in ("generated", "human"))
    if generated is None or human is None or generated - human <= _MOST_LOOPS:
        return
    sampling = history.config.sampling
    settings = ["--set sampling.repetition_penalty=1.2"] if sampling.repetition_penalty < 1.2 else []
    settings += ["--set sampling.top_p=0.95"] if sampling.top_p > 0.95 else []
    change = f"change the sampling: {' '.join(settings)}; " if settings else ""
    yield Finding(
        "repetition",
        phase.name,
        f"{generated:.0f} of 1,000 generated words are in loops; in human text {human:.0f}",
        "the model is undertrained for its sampling settings, or its text repeats itself",
        f"{change}train longer, or add text to phase.{phase.name}.sources",
    )


def _gain(order: dict[str, Any] | None) -> float | None:
    """Return the gain of an order, or None where so few words are used that all pairs repeat anyway."""
    return None if order is None or order["by_chance"] > _MOST_BY_CHANCE else float(order["gain"])


def _stuck_too(history: History, phase: Phase) -> str:
    losses = stuck(history, phase)
    if losses is None:
        return ""
    return f"; held-out loss {losses.validation_loss:.2f}, token frequencies alone give {losses.unigram_entropy:.2f}"


def _share(value: Any) -> str:
    return f"{value:.0%}" if isinstance(value, (int, float)) else json.dumps(value)
