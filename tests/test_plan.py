import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT, tiny_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.errors import InputError

LLM60 = config_module.load(PROJECT / "configs" / "llm60.toml")

# phase, steps, context, sequences, micro-batch, accumulation, frozen
TABLE = [
    ("grammar", 9766, 128, 32, 2, 16, 0),
    ("grammar", 4882, 128, 32, 2, 16, 20),
    ("grammar", 9766, 256, 16, 2, 8, 20),
    ("grammar", 9766, 256, 16, 2, 8, 40),
    ("grammar", 14648, 512, 8, 1, 8, 40),
    ("vocabulary", 2441, 128, 32, 2, 16, 0),
    ("vocabulary", 1221, 128, 32, 2, 16, 20),
    ("vocabulary", 2442, 256, 16, 2, 8, 20),
    ("vocabulary", 2441, 256, 16, 2, 8, 40),
    ("vocabulary", 3662, 512, 8, 1, 8, 40),
    ("fine_tune", 244, 128, 32, 2, 16, 0),
    ("fine_tune", 122, 128, 32, 2, 16, 20),
    ("fine_tune", 245, 256, 16, 2, 8, 20),
    ("fine_tune", 244, 256, 16, 2, 8, 40),
    ("fine_tune", 366, 512, 8, 1, 8, 40),
]


def test_the_exact_stage_table_of_llm60():
    built = plan.build(LLM60)
    rows = [
        (s.phase, s.steps, s.context, s.sequences, s.micro_batch, s.accumulation, s.frozen_blocks) for s in built.stages
    ]
    assert rows == TABLE
    assert (built.steps, built.tokens) == (62_256, 255_000_576)
    steps = [sum(s.steps for s in built.phase_stages(p.name)) for p in LLM60.phase]
    assert steps == [48_828, 12_207, 1_221]


def test_the_short_phase_of_fifty_steps():
    short = config_module.load(PROJECT / "configs" / "llm60.toml", ["phase.grammar.tokens=204800"])
    assert [s.steps for s in plan.build(short).phase_stages("grammar")] == [10, 5, 10, 10, 15]


fractions = st.lists(st.integers(1, 99), max_size=4, unique=True).map(lambda f: [0.0, *(n / 100 for n in sorted(f))])


@settings(max_examples=200, deadline=None)
@given(fractions, fractions, st.integers(1, 5000))
def test_stages_tile_each_phase_without_gap_or_overlap(context_at, freeze_at, steps):
    tree = tiny_tree(Path("x"))
    phase = tree["phase"][0]
    phase["tokens"] = steps * 128
    phase["context"] = [[f, (16, 32, 64)[i % 3]] for i, f in enumerate(context_at)]
    phase["freeze"] = [[f, min(2 * i, 4)] for i, f in enumerate(freeze_at)]
    c = config_module.parse(tree, "x")
    try:
        built = plan.build(c)
    except InputError as error:
        least = int(str(error).rsplit("at least ", 1)[1].split(" ")[0].replace(",", ""))
        tree["phase"][0]["tokens"] = least
        plan.build(config_module.parse(tree, "x"))  # the remedy in the message works
        return
    at_step = 0
    for name in ("grammar", "vocabulary", "fine_tune"):
        at_token = 0
        for stage in built.phase_stages(name):
            assert stage.start_step == at_step < stage.stop_step
            assert stage.token_start == at_token
            assert stage.sequences * stage.context == 128
            assert stage.tokens == stage.steps * 128
            at_step, at_token = stage.stop_step, at_token + stage.tokens
    assert at_step == built.steps
    for step in {0, built.steps // 2, built.steps - 1}:
        stage = built.stage_at(step)
        assert stage.start_step <= step < stage.stop_step
    frozen = [stage.frozen_blocks for stage in built.phase_stages("grammar")]
    assert frozen == sorted(frozen)


def test_the_key_of_a_stage_holds_its_settings_and_those_of_its_phase():
    built = plan.build(LLM60)
    keys = [plan.key(LLM60, stage) for stage in built.stages]
    assert [(key.context, key.micro_batch, key.accumulation, key.frozen_blocks) for key in keys] == [
        (context, micro_batch, accumulation, frozen) for _, _, context, _, micro_batch, accumulation, frozen in TABLE
    ]
    assert {key.tokens for key in keys} == {4096}
    assert {key.noise.mlp for key in keys} == {0.05}
    with pytest.raises(KeyError):
        plan.key(LLM60, dataclasses.replace(built.stages[0], phase="gramar"))


def test_steps_outside_the_plan():
    built = plan.build(LLM60)
    for step in (-1, built.steps):
        with pytest.raises(IndexError):
            built.stage_at(step)


def test_learning_rate_warms_up_and_ends_exactly():
    built = plan.build(LLM60)
    for phase in LLM60.phase:
        peak, final = phase.learning_rate
        stages = built.phase_stages(phase.name)
        start, stop = stages[0].start_step, stages[-1].stop_step
        rates = [plan.learning_rate(built, phase, step) for step in range(start, stop)]
        assert rates[0] == pytest.approx(peak / (phase.warmup * (stop - start)))
        assert max(rates) == pytest.approx(peak, rel=1e-3)
        assert rates[-1] == pytest.approx(final, rel=1e-12)
        top = rates.index(max(rates))
        assert abs(top - phase.warmup * (stop - start)) <= 1
        assert rates[:top] == sorted(rates[:top])
        assert rates[top:] == sorted(rates[top:], reverse=True)


def rates_of(*settings: str) -> list[float]:
    """The learning rates of phase 1 of llm60 with some settings, 1,000 steps in all."""
    changes = ["tokens=4096000", "warmup=0.1", "learning_rate=[3e-4, 0.0]", "gate.extend_up_to=1", *settings]
    config = config_module.load(PROJECT / "configs" / "llm60.toml", [f"phase.grammar.{change}" for change in changes])
    return [plan.learning_rate(plan.build(config), config.phase[0], step) for step in range(1000)]


def test_warm_up_hold_and_linear_decay_to_zero():
    rates = rates_of("decay=linear", "hold=0.5")
    assert rates[99:600] == [3e-4] * 501
    np.testing.assert_allclose(rates[599:], np.linspace(3e-4, 0, 401), atol=1e-18)
    assert rates[-1] == 0


def test_cosine_decay_after_a_hold_begins_and_ends_flat():
    rates = rates_of("hold=0.5")
    falls = -np.diff(rates[599:])
    assert rates[599] == 3e-4
    assert falls[200] == pytest.approx(falls.max(), rel=1e-3)
    assert max(falls[0], falls[-1]) < 0.01 * falls.max()


def test_a_hold_leaves_room_for_the_decay():
    with pytest.raises(InputError, match=r"hold: warmup and hold are 1.* leave nothing for the decay"):
        rates_of("hold=0.9")


def test_a_phase_that_may_be_extended_does_not_end_at_a_rate_of_0():
    with pytest.raises(InputError, match=r"goes on at the final rate, which is 0; set gate\.extend_up_to = 1"):
        rates_of("gate.extend_up_to=1.2")


def test_the_learning_rate_does_not_depend_on_stages():
    flat = config_module.load(
        PROJECT / "configs" / "llm60.toml", ["phase.grammar.context=[[0.0, 128]]", "phase.grammar.freeze=[[0.0, 0]]"]
    )
    a, b = plan.build(LLM60), plan.build(flat)
    for step in (0, 700, 9765, 9766, 30_000, 48_827):
        assert plan.learning_rate(a, LLM60.phase[0], step) == plan.learning_rate(b, flat.phase[0], step)


def test_neither_config_nor_plan_imports_jax():
    code = "import sys, llm60_jax.plan, llm60_jax.config; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0


# --- Evaluation ------------------------------------------------------------------------------------------------------


def scored_share(config, phase):
    """Held-out tokens that a phase scores, for each token that it trains."""
    stage_plan = plan.build(config)
    start, stop = stage_plan.phase_span(phase.name)
    texts, tokens = config.phase.index(phase) + 1, plan.validation_tokens(config, phase)
    dues = [plan.due(config, stage_plan, phase, step) for step in range(start, stop)]
    scored = sum(texts if due.evaluate else due.plateau for due in dues) + texts  # and at the end
    return scored * tokens / ((stop - start) * config.train.tokens_per_step)


@pytest.mark.parametrize("name", ["llm60", "llm60_best", "llm60_hub", "llm60_patient"])
def test_evaluation_takes_a_twentieth_of_the_tokens_at_most(name):
    config = config_module.load(PROJECT / "configs" / f"{name}.toml")
    assert max(scored_share(config, phase) for phase in config.phase) <= plan.EVALUATION_SHARE


def test_a_short_phase_scores_enough_for_its_gate():
    config = config_module.load(PROJECT / "configs" / "quickstart.toml")
    assert [plan.validation_tokens(config, phase) for phase in config.phase] == [8192, 8192, 8192]
    assert scored_share(config, config.phase[0]) <= plan.EVALUATION_SHARE
    assert scored_share(config, config.phase[2]) > plan.EVALUATION_SHARE  # which the end of the phase says


def test_settings_of_evaluation_are_obeyed():
    settings = ["train.evaluate_every=7", "train.validation_tokens=99"]
    config = config_module.load(PROJECT / "configs" / "llm60.toml", settings)
    stage_plan, phase = plan.build(config), config.phase[1]
    start = stage_plan.phase_span(phase.name)[0]
    assert plan.validation_tokens(config, phase) == 99
    assert [step for step in range(30) if plan.due(config, stage_plan, phase, start + step).evaluate] == [
        0,
        7,
        14,
        21,
        28,
    ]


def test_the_plateau_test_scores_the_own_text_alone():
    config = config_module.load(PROJECT / "configs" / "llm60.toml")
    stage_plan, phase = plan.build(config), config.phase[2]
    late = [step for step in range(*stage_plan.phase_span(phase.name)) if stage_plan.is_late_mark(phase.name, step)]
    dues = [plan.due(config, stage_plan, phase, step) for step in late]
    assert len(late) == 6
    assert [(due.evaluate, due.plateau) for due in dues] == [(False, True)] * 6
    assert all(due.anything for due in dues)
