"""Rows of runs as a run leaves them, made without training."""

import json

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.record import doctor
from llm60_jax.record.history import History

DATA = {
    "documents": 40, "tokens": 200_000, "epochs": 1.0, "kept_share": 0.9, "duplicate_share": 0.02,
    "bytes_per_token": 3.6, "whole_word_share": 0.6, "unused_share": 0.02, "unigram_entropy": 5.0,
    "order": {"repeated": 0.6, "by_chance": 0.3, "tokens": 32_768, "gain": 0.43},
    "word_order": {"repeated": 0.5, "by_chance": 0.33, "tokens": 32_768, "gain": 0.26},
}  # fmt: skip
PASSED = {"generated": {"looped_words": 10.0}, "human": {"looped_words": 0.0}}


def longer(tree):
    """A configuration of three phases of fifty steps each."""
    for phase in tree["phase"]:
        phase |= {"tokens": 50 * 128, "learning_rate": [1e-3, 3e-4]}
    return tree


def made(tree, path):
    """The rows of a finished run in which nothing is wrong."""
    parsed = config_module.parse(tree, "x")
    whole = plan.build(parsed)
    rows, gates = [], {}
    for phase in parsed.phase:
        start, stop = whole.phase_span(phase.name)
        earlier = [before.name for before in parsed.phase[: parsed.phase.index(phase)]]

        def at(step, stage, name=phase.name):
            return {"step": step, "tokens": step * 128, "phase": name, "stage": stage}

        rows.append({**at(start, 0), "data": dict(DATA)})
        for step in range(start, stop + 1):
            stage, level = whole.stage_at(min(step, stop - 1)), 5.0 - 2.0 * (step - start) / (stop - start)
            shape = {"context": stage.context, "frozen": stage.frozen_blocks}
            fields = {"loss": level, "learning_rate": 1e-3, "tokens_per_second": 900.0, "grad_norm": 1.0}
            if step > start:
                rows.append({**at(step, stage.index), **shape, **fields})
            if (step - start) % 10 == 0:
                score = {"validation_loss": level + 0.1, "validation_error": 0.05, "bits_per_byte": 2.0}
                old = (
                    {"earlier_phases": {name: {**score, "validation_loss": 3.1} for name in earlier}} if earlier else {}
                )
                pairs = {"minimal_pairs": 0.6, "minimal_pairs_by_phenomenon": {"agreement": 0.6}}
                rare = {"loss_by_rarity": [1.0, 2.0, 3.0, 4.0, None]}
                rows.append({**at(step, stage.index), **score, **old, **pairs, **rare})
        for stage in whole.phase_stages(phase.name):
            account = {
                "tokens_per_second": 900.0, "compile_seconds": 2.0, "temporary_bytes": 1e6, "resident_bytes": 1e8,
                "peak_resident_bytes": 2e8, "order": dict(DATA["order"]),
                "seconds": {"steps": 30.0, "data": 0.2, "compile": 1.0, "evaluation": 3.0, "saving": 1.0},
            }  # fmt: skip
            rows.append({**at(stage.stop_step, stage.index), "stage_end": account})
        layers = parsed.model.layers
        depth = {"contributions": [0.3] * layers, "losses": [6.0 - 0.5 * n for n in range(layers + 1)]}
        rows.append({**at(stop, 4), "depth": depth})
        gates[phase.name] = {"passed": True, "override": None, "checks": [], "evidence": json.loads(json.dumps(PASSED))}
    return History(path, parsed, rows, plan.to_rows(whole, parsed), gates, [])


def symptoms(run):
    """What the doctor finds: pairs of phase and symptom."""
    return [(finding.phase, finding.symptom) for finding in doctor.examine(run)]
