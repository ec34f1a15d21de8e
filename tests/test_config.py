import copy
import tomllib
from pathlib import Path

import pytest
from conftest import PROJECT, tiny_tree, to_toml
from hypothesis import given, settings
from hypothesis import strategies as st

from llm60_jax import config as config_module
from llm60_jax import plan
from llm60_jax.config import schema
from llm60_jax.errors import InputError

CONFIGS = sorted((PROJECT / "configs").glob("*.toml"))
VALID = tiny_tree(Path("somewhere"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_config_loads_plans_and_round_trips(path):
    loaded = config_module.load(path)
    tree = config_module.to_tree(loaded)
    assert config_module.parse(tree, "again") == loaded
    for phase in tree["phase"]:
        phase["tokens"] = phase["tokens"] or 100_000  # of a phase in epochs: text is counted before it is planned
    plan.build(config_module.parse(tree, "counted"))


def test_llm60_is_the_playbook():
    c = config_module.load(PROJECT / "configs" / "llm60.toml")
    m = c.model
    assert (m.layers, m.dim, m.heads, m.head_dim, m.hidden_dim, m.vocab_size) == (60, 320, 5, 64, 640, 32_000)
    assert m.parameter_count == 59_469_440
    assert [p.tokens for p in c.phase] == [200_000_000, 50_000_000, 5_000_000]
    for phase in c.phase:
        assert phase.context == ((0.0, 128), (0.3, 256), (0.7, 512))
        assert phase.freeze == ((0.0, 0), (0.2, 20), (0.5, 40))
        assert 0.02 <= phase.warmup <= 0.05
        assert 0.05 <= phase.mlp_dropout <= 0.10
    assert c.phase[0].learning_rate == (3e-4, 1e-4)
    assert 5 <= c.phase[0].learning_rate[0] / c.phase[2].learning_rate[0] <= 10
    assert dict(c.train.micro_batch) == {128: 2, 256: 2, 512: 1}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("modle.layers=3", ["modle", "unknown field", "did you mean 'model'"]),
        ("model.layer=3", ["model.layer", "did you mean 'layers'"]),
        ("phase.gramar.tokens=3", ["did you mean 'grammar'"]),
        ("phase.grammar.token=3", ["phase.grammar.token", "did you mean 'tokens'"]),
        ("phase.grammar.sources.0.pth=3", ["phase.grammar.sources.0.pth", "did you mean 'path'"]),
        ('phase.grammar.sources.0.kind="foldr"', ["phase.grammar.sources.0", "did you mean 'folder'"]),
        ("train.remat=ful", ["train.remat", "did you mean 'full'"]),
        ("train.micro_batch=outo", ["train.micro_batch", "auto"]),
        ("train.micro_batch=[[16, 4, 2]]", ["train.micro_batch"]),
        ("train.memory_gb=0", ["train.memory_gb", "greater than 0"]),
        ("train.dtype=float16", ["train.dtype", "bfloat16"]),
        ('device="mps:0"', ["device"]),
        ("phase.grammar.tokens=many", ["phase.grammar.tokens", "integer", "many"]),
        ("phase.grammar.freeze=[[0.0, 0], [0.2, 3]]", ["phase.grammar.freeze", "depth 3", "[0, 2, 4]"]),
        ("phase.grammar.freeze=[[0.1, 0]]", ["phase.grammar", "freeze", "first fraction must be 0"]),
        ("phase.grammar.freeze=[[0.0, 0], [0.5, 2], [0.2, 4]]", ["phase.grammar", "must rise"]),
        ("phase.grammar.freeze=[[0.0, 0], [1.0, 2]]", ["phase.grammar.freeze", "less than 1"]),
        ("phase.grammar.context=[[0.0, 48]]", ["phase.grammar.context", "no entry for context 48"]),
        ("phase.grammar.context=[[0.0, 128]]", ["phase.grammar.context", "above model.max_context"]),
        ("train.tokens_per_step=100", ["does not divide", "train.tokens_per_step (100)"]),
        ("model.embedding_scale=3", ["model", "embedding_scale 3 must be a power of 2"]),
        ("model.stacks=[2, 3]", ["model", "add up to 5", "layers is 6"]),
        ("model.heads=3", ["model", "multiple of 2 x heads"]),
        ('tokenizer.phases=["grammer"]', ["tokenizer.phases", "did you mean 'grammar'"]),
        ("phase.grammar.learning_rate=[1e-4, 3e-4]", ["phase.grammar", "above the peak"]),
        ("phase.grammar.learning_rate=[nan, 1e-4]", ["phase.grammar.learning_rate"]),
        ("phase.grammar.tokens=1000", ["phase.grammar.tokens", "too few for its 5 stages", "1,280"]),
        ("seed", ["--set seed", "dotted.path=value"]),
        ("seed.deep=1", ["seed", "single value"]),
        ("phase=[]", ["phase", "at least one"]),
        ("model.vocab_size=70000", ["model.vocab_size", "65536"]),
    ],
)
def test_a_bad_value_gives_one_clear_message(override, words, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(to_toml(VALID))
    with pytest.raises(InputError) as caught:
        plan.build(config_module.load(path, [override]))
    for word in words:
        assert word in str(caught.value)
    assert caught.value.exit_code == 2


def test_set_addresses_phases_by_name_and_lists_by_number(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(to_toml(VALID))
    c = config_module.load(
        path, ["phase.fine_tune.tokens=2560", "phase.grammar.sources.0.path=my texts/a", "optimizer.clip_rms=2"]
    )
    assert c.phase[2].tokens == 2560
    assert c.phase[0].sources[0].path == "my texts/a"
    assert c.optimizer.clip_rms == 2.0


def test_an_empty_value_removes_a_field_or_an_entry(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(to_toml(VALID))
    c = config_module.load(
        path, ["phase.vocabulary=", "phase.grammar.mlp_dropout=", "train.keep_rolling=", "tokenizer.phases.1="]
    )
    assert [phase.name for phase in c.phase] == ["grammar", "fine_tune"]
    assert c.phase[0].mlp_dropout == 0
    assert c.tokenizer.phases == ("grammar",)
    with pytest.raises(InputError, match=r"phase\.grammar: tokens: required, unless epochs is given"):
        config_module.load(path, ["phase.grammar.tokens="])


def test_a_phase_is_found_by_its_name():
    c = config_module.parse(VALID, "x")
    assert c.phase_names == ["grammar", "vocabulary", "fine_tune"]
    assert c.phase_named("vocabulary") is c.phase[1]
    with pytest.raises(KeyError, match="gramar"):
        c.phase_named("gramar")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "quick.toml").write_text("seed = 1")
    with pytest.raises(InputError, match=r"no such configuration file; did you mean '.*quick\.toml'"):
        config_module.load(tmp_path / "quik.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00seed")
    with pytest.raises(InputError, match="UTF-8"):
        config_module.load(tmp_path / "bytes.toml")
    (tmp_path / "broken.toml").write_text("seed = 1\n[model\n")
    with pytest.raises(InputError, match="line 2"):
        config_module.load(tmp_path / "broken.toml")


def paths_of(node, prefix=()):
    """Yield every place in a tree, without the root."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield (*prefix, key)
        yield from paths_of(child, (*prefix, key))


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.just([]),
    st.just({}),
    st.lists(st.lists(st.floats(-1, 2), max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


def refusal(act):
    """Return the message of the InputError that `act` raises, or "". Any other error escapes."""
    try:
        act()
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.slow
@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.data())
def test_mutated_values_load_or_are_refused(data):
    """A value replaced, removed or added anywhere gives a valid config or an InputError."""
    mutated = copy.deepcopy(VALID)
    for _ in range(data.draw(st.integers(1, 2))):
        *above, last = data.draw(st.sampled_from(sorted(paths_of(mutated), key=repr)))
        node = mutated
        for key in above:
            node = node[key]
        action = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "replace":
            node[last] = data.draw(JUNK)
        elif action == "remove":
            del node[last]
        elif isinstance(node, dict):
            node[data.draw(st.text(min_size=1, max_size=6)) + "_x"] = data.draw(JUNK)
    message = refusal(lambda: plan.build(config_module.parse(mutated, "mutated")))
    assert not message or message.startswith(("mutated: ", "phase."))
    assert len(message) < 3000


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_mutated_text_loads_or_is_refused(tmp_path_factory, data):
    text = to_toml(VALID)
    start = data.draw(st.integers(0, len(text)))
    stop = min(len(text), start + data.draw(st.integers(0, 5)))
    path = tmp_path_factory.getbasetemp() / "text.toml"
    path.write_text(text[:start] + data.draw(st.text(max_size=4)) + text[stop:], encoding="utf-8", errors="replace")
    message = refusal(lambda: plan.build(config_module.load(path)))
    assert not message or message.startswith((str(path), "phase."))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=30))
def test_any_override_applies_or_is_refused(override):
    tree = copy.deepcopy(VALID)
    message = refusal(lambda: (schema.override(tree, override), config_module.parse(tree, "set")))
    assert not message or message.startswith(("set: ", "--set "))


def test_unknown_keys_are_refused_everywhere():
    tables = [()] + [p for p in paths_of(VALID) if isinstance(get(VALID, p), dict)]
    assert len(tables) > 8
    for path in tables:
        mutated = copy.deepcopy(VALID)
        get(mutated, path)["zzz_unknown"] = 1
        with pytest.raises(InputError, match="zzz_unknown: unknown field; valid here"):
            config_module.parse(mutated, "x")


def get(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def test_to_toml_of_the_tests_is_faithful():
    assert tomllib.loads(to_toml(VALID)) == VALID
