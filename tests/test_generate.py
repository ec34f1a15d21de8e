"""Generation: cached decoding, sampling, samples of a batch, streaming, and the tool."""

import functools
import json

import generate as tool
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm60_jax import generate
from llm60_jax.checkpoint import open_
from llm60_jax.config import Model, Sampling
from llm60_jax.generate import FREE, Choice, Request
from llm60_jax.machine.terminal import printable
from llm60_jax.model import drawing, groups
from llm60_jax.model.drawing import Choices

SMALL = Model(
    vocab_size=320, layers=4, stacks=(2, 2), dim=32, heads=2, hidden_dim=48, max_context=64, embedding_scale=2.0
)
EOS = 319
GREEDY = Choice(EOS, temperature=0.0)


@pytest.fixture(scope="module")
def params():
    # Weights far larger than initial ones: the likeliest tokens differ, without near ties.
    return jax.tree.map(lambda x: 8 * x, groups.init(SMALL, jax.random.key(0)))


def decode(params, rows, choice=GREEDY, seeds=None, ends=None):
    rows = np.asarray(rows, np.int32)
    count, length = rows.shape
    choices = choice if isinstance(choice, list) else [choice] * count
    begun = generate.begin(SMALL, rows, ends or [length] * count, range(count) if seeds is None else seeds, choices)
    return np.asarray(generate.advance(SMALL, params, begun, length).tokens_BS)


def prompts(*given, length=24):
    rows = np.full((len(given), length), FREE)
    for row, ids in zip(rows, given, strict=True):
        row[: len(ids)] = ids
    return rows


TWO = ([2, 7, 8, 9, 10], [2, 11, 12, 13, 14, 15, 16, 17, 18])


def whole(params, tokens):
    """Logits by one forward pass over all tokens."""
    network = groups.merge(SMALL, params)
    hidden = network(tokens, np.ones_like(tokens), dtype=jnp.dtype(jnp.float32)).hidden_BTD
    return network.logits(hidden, jnp.dtype(jnp.float32))


def test_cached_logits_are_uncached_logits(params):
    tokens = np.random.default_rng(0).integers(4, 300, (2, 24)).astype(np.int32)
    caches = generate.begin(SMALL, tokens, [24, 24], [0, 1], [GREEDY] * 2).caches
    network = groups.merge(SMALL, params)
    step = jax.jit(functools.partial(generate.next_logits, SMALL, network), static_argnums=3)
    expected = np.asarray(whole(params, tokens))
    for position in range(24):
        logits, caches = step(tokens[:, position], caches, position, position // 8 * 8 + 8)
        np.testing.assert_allclose(logits, expected[:, position], rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_likeliest_tokens_are_those_of_the_whole_forward_pass(params):
    out = decode(params, prompts(*TWO))
    best = np.asarray(whole(params, out).argmax(-1))
    for row, ids in enumerate(TWO):
        np.testing.assert_array_equal(out[row, : len(ids)], ids)
        np.testing.assert_array_equal(out[row, len(ids) :], best[row, len(ids) - 1 : -1])


def test_a_seed_gives_the_same_text_in_any_batch(params):
    choice = Choice(EOS, temperature=3.0)
    both = decode(params, prompts(*TWO), choice, seeds=[5, 6])
    np.testing.assert_array_equal(decode(params, prompts(*TWO), choice, seeds=[5, 6]), both)
    np.testing.assert_array_equal(decode(params, prompts(TWO[1]), choice, seeds=[6])[0], both[1])
    assert (decode(params, prompts(*TWO), choice, seeds=[7, 8]) != both).any()


def test_decoding_in_parts_changes_nothing(params):
    choice = Choice(EOS, temperature=3.0)
    rows = generate.begin(SMALL, prompts(*TWO), [24, 24], [5, 6], [choice] * 2)
    for until in (1, 2, 9, 10, 24):
        rows = generate.advance(SMALL, params, rows, until)
        assert int(rows.position) == min(until, 23)
    np.testing.assert_array_equal(rows.tokens_BS, decode(params, prompts(*TWO), choice, seeds=[5, 6]))


@pytest.mark.slow
def test_the_size_of_attention_s_view_changes_nothing(params, monkeypatch):
    given, choice = prompts(*TWO, length=30), Choice(EOS, temperature=3.0)
    expected = decode(params, given, choice, seeds=[5, 6])
    monkeypatch.setattr(generate, "_ROOM", 8)
    np.testing.assert_array_equal(decode(params, given, choice, seeds=[5, 6]), expected)
    rows = generate.begin(SMALL, given, [30, 30], [5, 6], [choice] * 2)
    for until in (1, 7, 8, 9, 20, 30):
        rows = generate.advance(SMALL, params, rows, until)
        assert int(rows.position) == min(until, 29)
    np.testing.assert_array_equal(rows.tokens_BS, expected)


def frequencies(choice, logits, seen=None, count=4000):
    rows = jnp.tile(jnp.asarray(logits, jnp.float32), (count, 1))
    seen = np.zeros(len(logits), bool) if seen is None else np.asarray(seen)
    keys = jax.vmap(jax.random.key)(jnp.arange(count))
    choices = Choices.of([choice] * count, len(logits))
    tokens = drawing.choose(choices, rows, jnp.tile(seen, (count, 1)), keys)
    return np.bincount(np.asarray(tokens), minlength=len(logits)) / count


LOGITS = np.log([0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.75}, [4 / 9, 3 / 9, 2 / 9, 0]),  # 0.4 + 0.3 hold less than 0.75, the third completes it
        ({"top_p": 0.69}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_k": 3, "top_p": 0.5}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 1e-6}, [1, 0, 0, 0]),
        ({"temperature": 0.5}, np.array([16, 9, 4, 1]) / 30),
        ({"temperature": 0.0}, [1, 0, 0, 0]),
    ],
)
def test_sampling_frequencies(settings, expected):
    np.testing.assert_allclose(frequencies(Choice(EOS, **settings), LOGITS), expected, atol=0.03)


def test_rows_of_one_batch_have_their_own_choices(params):
    """Each row is drawn as it is alone, whatever the choices beside it."""
    choices = [
        GREEDY,
        Choice(EOS, temperature=3.0),
        Choice(EOS, temperature=3.0, top_k=5),
        Choice(EOS, temperature=3.0, top_k=100, top_p=0.7, repetition_penalty=1.5),
    ]
    rows = prompts(*[TWO[0]] * 4)
    together = decode(params, rows, choices, seeds=[1, 2, 3, 4])
    for number, choice in enumerate(choices):
        alone = decode(params, rows[:1], choice, seeds=[number + 1])
        if number != 1:  # beside a row with top_k, all tokens are sorted, and a draw is a function of the rank
            np.testing.assert_array_equal(together[number], alone[0])
    alike = decode(params, rows[:2], [choices[1], choices[1]._replace(top_p=0.9)], seeds=[2, 3])
    np.testing.assert_array_equal(alike[0], decode(params, rows[:1], choices[1], seeds=[2])[0])


def test_top_p_without_a_sort_is_top_p_by_a_sort():
    """The least probability that is kept, against a sorted cumulative sum, in many random rows."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(320, 0.1), 200).astype(np.float32)
    shares = rng.uniform(0.01, 0.99, 200).astype(np.float32)
    least = np.asarray(drawing._least_kept(jnp.asarray(probabilities), jnp.asarray(shares)))
    for row, share, found in zip(probabilities, shares, least, strict=True):
        order = np.sort(row.astype(np.float64))[::-1]
        count = int((np.cumsum(order) - order < share * order.sum()).sum())
        assert abs(int((row >= found).sum()) - count) <= 1  # a sum in another order may fall on the other side
        assert found in row


def test_the_repetition_penalty_lowers_seen_tokens():
    choice = Choice(EOS, temperature=0.0, repetition_penalty=2.0)
    assert frequencies(choice, [3.0, 2.0, -1.0])[0] == 1
    assert frequencies(choice, [3.0, 2.0, -1.0], seen=[True, False, False])[1] == 1  # 3 / 2 < 2
    assert frequencies(choice, [-1.0, -1.5, -9.0], seen=[True, False, False])[1] == 1  # -1 x 2 < -1.5


def test_a_penalised_text_does_not_stay_in_a_loop(params):
    plain = decode(params, prompts([2, 7], length=40))[0]
    other = decode(params, prompts([2, 7], length=40), GREEDY._replace(repetition_penalty=10.0))[0]
    assert len(set(other.tolist())) > len(set(plain.tolist()))


def test_a_finished_row_stays_finished_and_the_loop_ends_with_the_last(params):
    rows = prompts([2, 7, 9], length=12)
    first = int(decode(params, rows)[0, 3])
    begun = generate.begin(SMALL, rows, [12], [0], [GREEDY._replace(eos=first)])
    rows = generate.advance(SMALL, params, begun, 12)
    assert int(rows.position) == 3
    assert np.asarray(rows.tokens_BS)[0].tolist() == [2, 7, 9, first] + 8 * [FREE]
    both = decode(params, prompts([2, 7, 9], [2, 11], length=12), ends=[5, 12])
    assert both[0, 5:].tolist() == 7 * [EOS]
    assert FREE not in both[1]


# --- Texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_written_and_streamed_texts_are_the_same(base):
    trained = open_(base)
    choice = Choice.of(trained.config.sampling, trained.tokenizer.eos)
    wanted = [Request("The", 20, 3), Request("", 10**6, 4), Request("The quiet river " * 40, 5, 5)]
    written = generate.write(trained.model, trained.params, trained.tokenizer, wanted, choice)
    assert written.tokens_per_second > 0
    for request, text in zip(wanted, written.texts, strict=True):
        assert text.tokens <= request.tokens
        assert text.tokens == request.tokens or text.ended or request.tokens > 20
        pieces = list(generate.stream(trained.model, trained.params, trained.tokenizer, request, choice))
        assert "".join(pieces) == text.text
        assert all(piece[-1].isspace() for piece in pieces[:-1])
    assert written.texts[0].text.startswith("The")


def test_the_tool(base, capsys, monkeypatch):
    command = [str(base), "--prompt", "The", "--tokens", "12", "--seed", "4"]
    assert tool.main([*command, "--json", "--count", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [text["seed"] for text in found["texts"]] == [4, 5]
    assert found["tokens_per_second"] > 0
    assert tool.main(command) == 0
    shown = printable(found["texts"][0]["text"]).strip()  # control characters by their escapes
    assert capsys.readouterr().out.strip() == shown
    assert tool.main([*command, "--temperature", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["choice"]["temperature"] == 0
    # Interactive: a prompt a line.
    lines = iter(["The", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert tool.main([str(base), "--tokens", "12", "--seed", "4"]) == 0
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--top-p", "2"], "top_p"), (["--tokens", "0"], "--tokens"), (["--temperature", "-1"], "temperature")],
)
def test_invalid_settings_are_refused(base, capsys, arguments, words):
    assert tool.main([str(base), "--prompt", "The", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_requests_are_short_and_long_with_fixed_seeds():
    found = generate.requests(Sampling(prompts=("a", "b"), tokens=7), 3, 64)
    assert found == [Request("a", 7, 3), Request("b", 7, 4), Request("a", 64, 3), Request("b", 64, 4)]
