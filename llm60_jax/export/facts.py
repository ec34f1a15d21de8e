"""What is known of a trained model, for its card: text, tokens, gates, measures. Nothing is written.

Only what belongs to the checkpoint counts: a run may have gone on, or begun again, since it was
saved. What is missing or cannot be read is "not recorded".
"""

import contextlib
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.checkpoint import Trained
from llm60_jax.config import HubSource, Phase
from llm60_jax.config.sources import Source
from llm60_jax.data.corpus import corpus
from llm60_jax.data.read import packages
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.errors import DamageError
from llm60_jax.evaluate import judgement
from llm60_jax.evaluate.judgement import Blimp
from llm60_jax.machine import files, manifest
from llm60_jax.record import shapes, store
from llm60_jax.record.workdir import WorkDir

LOCAL = "local files"  # the name of a source that has no public one; a folder's own may name a person
_NOTES = {
    "not judged": "no gate judged this state of it",
    "not passed": "it did not pass its gate",
    "overridden": "it was closed against its gate",
}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


class Text(NamedTuple):
    """A source of a phase's text."""

    name: str  # public
    licence: str  # "" if it is not known
    documents: int


class Pairs(NamedTuple):
    """Minimal pairs of one phenomenon."""

    right: float  # share
    pairs: int | None = None  # None if it is not recorded


class PhaseFacts(NamedTuple):
    """A phase that the model went through."""

    name: str
    goal: str
    tokens: int  # trained on, repetitions included
    text_tokens: int | None  # in its training text
    texts: tuple[Text, ...]  # () if they are not recorded
    gate: str  # "passed", "overridden", "not passed" or "not judged"
    override: str  # why it was closed against its gate, or ""
    loss: float | None  # of its held-out text, nats per token, when the phase ended
    bits_per_byte: float | None


class Earlier(NamedTuple):
    """A phase of the runs that this one began from."""

    name: str
    texts: tuple[Text, ...]
    gate: str = "not recorded"
    override: str = ""


class Facts(NamedTuple):
    """All that the card says of a checkpoint."""

    step: int
    tokens: int
    is_closed: bool  # the end of a phase
    phases: tuple[PhaseFacts, ...]
    earlier: tuple[Earlier, ...]
    grammar: dict[str, Pairs]  # minimal pairs by phenomenon
    blimp: Blimp | None  # if tools/evaluate.py measured it
    datasets: tuple[str, ...]  # ids of the hub
    words_of: tuple[str, ...]  # phases of fine-tuning whose words are in the vocabulary
    notes: list[str]  # what the user should know before the model leaves


def of(trained: Trained) -> Facts:
    """Return what the run directory and the prepared text still tell of a checkpoint."""
    meta = trained.meta
    rows = [row for row in WorkDir(_run(trained)).rows() if row["step"] <= meta["step"]]
    own, earlier = _texts(trained)
    phases, notes = [], []
    grammar: dict[str, Pairs] = {}
    for phase in trained.config.phase:
        tokens = _tokens(meta, phase.name)
        if tokens:
            gate = _gate(trained, phase.name)
            of_phase = [row for row in rows if row["phase"] == phase.name]
            phases.append(_phase(trained, phase, tokens, gate, of_phase, own.get(phase.name, ())))
            grammar = _grammar(gate, of_phase) or grammar
            if phases[-1].gate != "passed":
                notes.append(f"phase {phase.name}: {_NOTES[phases[-1].gate]}")
    if not meta["closed"]:
        notes.append(f"step {meta['step']:,} is not the end of a phase; it lies inside phase {meta['phase']}")
    return Facts(
        step=meta["step"],
        tokens=meta["tokens"],
        is_closed=meta["closed"],
        phases=tuple(phases),
        earlier=tuple(_judged_before(trained, phase) for phase in earlier),
        grammar=grammar,
        blimp=judgement.recorded(_run(trained), trained.folder, meta["state_sha256"]),
        datasets=_datasets(trained, [phase.name for phase in phases]),
        words_of=_words_of(trained),
        notes=notes,
    )


def _run(trained: Trained) -> Path:
    return trained.folder.absolute().parents[1]


def _tokens(meta: Mapping[str, Any], phase: str) -> int:
    """Return the tokens that a checkpoint was trained on in a phase, by the plan that it holds."""
    total = 0
    for row in meta["plan"]:
        if row["phase"] == phase and row["steps"]:
            done = min(max(meta["step"] - row["start_step"], 0), row["steps"])
            total += done * row["tokens"] // row["steps"]
    return total


def _phase(
    trained: Trained,
    phase: Phase,
    tokens: int,
    gate: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    texts: tuple[Text, ...],
) -> PhaseFacts:
    """Return what is known of a phase. `gate` is {} without one, `rows` are its rows of metrics.jsonl."""
    measured = _last(rows, "validation_loss")
    evidence = gate.get("evidence") or measured
    return PhaseFacts(
        name=phase.name,
        goal=trained.config.goal(phase).replace("_", " "),
        tokens=tokens,
        text_tokens=_last(rows, "data").get("data", {}).get("tokens"),
        texts=texts,
        gate=_verdict(gate),
        override=gate.get("override") or "",
        loss=_number(evidence, "validation_loss"),
        bits_per_byte=_number(evidence, "bits_per_byte"),
    )


def _verdict(gate: Mapping[str, Any]) -> str:
    """Return a key of `_NOTES`, or "passed"."""
    if not gate:
        return "not judged"
    return "passed" if gate["passed"] else "overridden" if gate.get("override") else "not passed"


def _judged_before(trained: Trained, phase: Earlier) -> Earlier:
    """Add the gate of a phase whose checkpoint this run began from, if that run is still there."""
    for name, state in trained.meta["progress"].ancestors.items():
        if Path(name).is_absolute() and Path(name).name == phase.name:
            gate = _read_gate(Path(name).parents[1], phase.name, state)
            return phase._replace(gate=_verdict(gate), override=gate.get("override") or "") if gate else phase
    return phase


def _gate(trained: Trained, phase: str) -> dict[str, Any]:
    """Return the gate of a phase if it judged the state that this checkpoint is or began from; else {}."""
    run, meta = _run(trained), trained.meta
    judged = meta["progress"].ancestors.get(f"phases/{phase}")
    if phase == meta["phase"]:
        judged = meta["state_sha256"] if meta["closed"] else None
        if trained.folder.parent.name == "adapters":  # the gate judged the merged model
            with contextlib.suppress(DamageError):
                judged = store.identity(run / "phases" / phase, manifest.read)[1]
    return _read_gate(run, phase, judged) if judged else {}


def _read_gate(run: Path, phase: str, state_sha256: str) -> dict[str, Any]:
    """Return the gate of a phase of a run if it judged a state, else {}."""
    try:
        gate = json.loads(files.read_text(run / "gates" / f"{phase}.json"))
    except (DamageError, ValueError, RecursionError):
        return {}
    is_whole = not shapes.problem(shapes.Gate, gate)
    return gate if is_whole and gate.get("state_sha256") == state_sha256 else {}


def _grammar(gate: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Pairs]:
    """Return the minimal pairs at the end of a phase, else at its last evaluation; {} without any."""
    try:
        scores = dict(gate.get("evidence", {}).get("grammar", {}))
        judged = {str(name): Pairs(float(score["accuracy"]), int(score["pairs"])) for name, score in scores.items()}
        if not all(math.isfinite(pairs.right) for pairs in judged.values()):
            judged = {}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        judged = {}
    shares = _last(rows, "minimal_pairs_by_phenomenon").get("minimal_pairs_by_phenomenon", {})
    return judged or {name: Pairs(share) for name, share in shares.items() if math.isfinite(share)}


def _last(rows: Sequence[Mapping[str, Any]], field: str) -> Mapping[str, Any]:
    """Return the last row that has a field, or {}."""
    return next((row for row in reversed(rows) if field in row), {})


def _number(tree: Mapping[str, Any], field: str) -> float | None:
    value = tree.get(field)
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:  # an integer beyond float64
        return None


def _texts(trained: Trained) -> tuple[dict[str, tuple[Text, ...]], list[Earlier]]:
    """Return the sources of this run's text by phase, and those of the runs before it.

    A phase whose prepared text is gone has the sources ().
    """
    config = trained.config
    own: dict[str, tuple[Text, ...]] = {}
    earlier: list[Earlier] = []
    for name, entry in reversed(trained.meta["corpora"].items()):  # the runs before come first
        label = entry["phase"]
        folder = corpus.recorded(Path(config.data_dir), name, entry).folder
        is_own = label in config.phase_names and label not in own
        configured = config.phase_named(label).sources if is_own else ()
        texts = tuple(
            Text(_public(ledger, configured[number : number + 1]), ledger.licence, ledger.documents_kept)
            for number, ledger in enumerate(_ledgers(folder))
        )
        if is_own:
            own[label] = texts
        else:
            earlier.insert(0, Earlier(label, texts))
    return own, earlier


def _ledgers(folder: Path) -> list[Ledger]:
    """Return the ledgers of a corpus; [] if it is gone."""
    try:
        ledgers = [Ledger.of(tree) for tree in json.loads(files.read_text(folder / "ledger.json"))["sources"]]
    except (DamageError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    is_whole = all(
        type(ledger.source) is type(ledger.licence) is str and type(ledger.documents_kept) is int for ledger in ledgers
    )
    return ledgers if is_whole else []


def _public(ledger: Ledger, source: Sequence[Source]) -> str:
    """Return the name of a package or of a data set of the hub, else `LOCAL`.

    Args:
      source: the configured source, or nothing if it is not known.
    """
    is_package = ledger.source in packages.LICENCES
    is_configured = any(isinstance(entry, HubSource) and ledger.source.startswith(entry.name) for entry in source)
    return ledger.source if is_package or is_configured else LOCAL


def _datasets(trained: Trained, phases: Collection[str]) -> tuple[str, ...]:
    """Return the ids of the data sets of the hub that some phases read."""
    names = [
        source.name
        for phase in trained.config.phase
        for source in phase.sources
        if phase.name in phases and isinstance(source, HubSource) and _HUB_ID.fullmatch(source.name)
    ]
    return tuple(dict.fromkeys(names))


def _words_of(trained: Trained) -> tuple[str, ...]:
    """Return the phases of fine-tuning whose words the vocabulary was learnt from."""
    settings, config = trained.config.tokenizer, trained.config
    named = settings.phases if settings else ()
    return tuple(name for name in named if config.goal(config.phase_named(name)) == "fine_tune")
