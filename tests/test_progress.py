"""What a checkpoint remembers is one validated record."""

import dataclasses
import json

import pytest
from pydantic import TypeAdapter, ValidationError

from llm60_jax.plan import Decision, Extension
from llm60_jax.record.progress import Look, Progress

ADAPTER = TypeAdapter(Progress)
FULL = Progress(
    step=7,
    phase="grammar",
    iterator={"next_index": 3},
    decisions=[Decision("grammar", 3, 2, 1, "drift")],
    extensions=[Extension("grammar", 4, "it still improves")],
    overrides={"grammar": "a trial"},
    phase_start={"validation_loss": 2.5},
    late_losses=[(5, 2.25)],
    objectives=[(6, 2.125), (7, 2.0)],
    refused=1,
    frozen_digests={"embedding": "ab"},
    look=Look(step=6, drift={"blocks_0_1": 0.5}),
    ancestors={"phases/grammar": "cd"},
)


@pytest.mark.parametrize("progress", [Progress(), FULL])
def test_it_comes_back_equal(progress):
    assert ADAPTER.validate_json(json.dumps(ADAPTER.dump_python(progress, mode="json"))) == progress


def test_the_full_record_leaves_no_field_at_its_default():
    for field in dataclasses.fields(Progress):
        assert getattr(FULL, field.name) != getattr(Progress(), field.name), field.name


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Progress)])
def test_a_wrong_value_is_named(field):
    tree = ADAPTER.dump_python(FULL, mode="json") | {field: 0.5}
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_json(json.dumps(tree))
    assert {error["loc"][0] for error in caught.value.errors()} == {field}


def test_entering_a_phase_forgets_the_one_before():
    progress = dataclasses.replace(FULL)
    progress.enter("vocabulary")
    assert progress == dataclasses.replace(
        Progress(),
        step=7,
        phase="vocabulary",
        decisions=FULL.decisions,
        extensions=FULL.extensions,
        overrides=FULL.overrides,
        ancestors=FULL.ancestors,
    )
