"""Generate text: one jitted loop that draws token after token with a cache of keys and values.

The same prompt and seed give the same text, whatever else is in the batch.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from llm60_jax.config import Model, Sampling
from llm60_jax.data.tokens.tokenizer import Tokenizer
from llm60_jax.model import drawing, groups, layers, native, transformer
from llm60_jax.model.drawing import Choice, Choices

Array = jax.Array
FREE = -1  # marks a token that is not drawn yet
_ROOM = 128  # positions; attention's view of the cache grows in such steps, each a compiled program
_CHECK_EVERY = 16  # positions between two calls of `check`


class Decoding(NamedTuple):
    """Rows in progress. S is the length of the longest text."""

    tokens_BS: Array  # int32; FREE where nothing is given or drawn yet
    position: Array  # int32 scalar; tokens up to here are known
    ends_B: Array  # int32; the most tokens of each row
    keys_B: Array  # PRNG key of each row
    choices: Choices
    ended_B: Array  # bool
    seen_BV: Array  # bool; tokens in the row so far
    logits_BV: Array  # float32; the model's own, of the tokens at `position`
    caches: dict[str, tuple[Array, Array]]  # keys, values by stack, float32 [blocks, B, H, S, K]


def begin(config: Model, tokens_BS: Any, ends_B: Any, seeds_B: Any, choices: Sequence[Choice]) -> Decoding:
    """Return rows of BOS, the prompt, and FREE. Each row has its own seed and choice."""
    B, S = np.shape(tokens_BS)
    shape = (B, config.heads, S, config.head_dim)
    return Decoding(
        tokens_BS=jnp.asarray(tokens_BS, jnp.int32),
        position=jnp.int32(0),
        ends_B=jnp.asarray(ends_B, jnp.int32),
        keys_B=jax.vmap(jax.random.key)(jnp.asarray(seeds_B, jnp.uint32)),
        choices=Choices.of(choices, config.vocab_size),
        ended_B=jnp.zeros(B, bool),
        seen_BV=jnp.zeros((B, config.vocab_size), bool),
        logits_BV=jnp.zeros((B, config.vocab_size)),
        caches={
            name: (jnp.zeros((stop - start, *shape)), jnp.zeros((stop - start, *shape)))
            for name, start, stop in config.named_stacks
        },
    )


def advance(config: Model, params: groups.Params, rows: Decoding, until: int) -> Decoding:
    """Draw tokens until all up to position `until` are known, or every row has ended.

    Attention reads only the filled part of the caches, so short texts cost less. Its size follows
    from the position alone. So the text does not depend on how the work is divided into calls.
    """
    position = int(rows.position)
    for start, room in _rooms(rows):
        if position < room and start < until:
            rows = _advance(config, params, room, rows, np.int32(min(until, room)))
    return rows


def _rooms(rows: Decoding) -> list[tuple[int, int]]:
    """Return pairs (start, room): from `start` on, attention reads `room` cache positions."""
    S = rows.tokens_BS.shape[1]
    return [(start, min(start + _ROOM, S)) for start in range(0, S, _ROOM)]


@functools.partial(jax.jit, static_argnames=("config", "room"), donate_argnames=("rows",))
def _advance(config: Model, params: groups.Params, room: int, rows: Decoding, until: Array) -> Decoding:
    """Do the work of `advance`, to a position of at most `room`."""
    network = groups.merge(config, params)
    B, S = rows.tokens_BS.shape

    def unfinished(rows: Decoding) -> Array:
        return (rows.position < jnp.minimum(until, S - 1)) & ~rows.ended_B.all()

    def draw_next(rows: Decoding) -> Decoding:
        token_B = rows.tokens_BS[:, rows.position]
        logits_BV, caches = next_logits(config, network, token_B, rows.caches, rows.position, room)
        seen_BV = rows.seen_BV.at[jnp.arange(B), token_B].set(True)
        keys_B = jax.vmap(jax.random.fold_in, (0, None))(rows.keys_B, rows.position)
        drawn_B = drawing.choose(rows.choices, logits_BV, seen_BV, keys_B)
        position = rows.position + 1
        given_B = rows.tokens_BS[:, position]
        token_B = jnp.where(given_B != FREE, given_B, drawn_B)
        ended_B = rows.ended_B | (token_B == rows.choices.eos_B) | (position + 1 >= rows.ends_B)
        token_B = jnp.where(rows.ended_B, rows.choices.eos_B, token_B)
        return rows._replace(
            tokens_BS=rows.tokens_BS.at[:, position].set(token_B),
            position=position,
            ended_B=ended_B,
            seen_BV=seen_BV,
            logits_BV=logits_BV,
            caches=caches,
        )

    return jax.lax.while_loop(unfinished, draw_next, rows)


def next_logits(
    config: Model,
    network: transformer.Transformer,
    token_B: Array,
    caches: dict[str, tuple[Array, Array]],
    position: Array,
    room: int,
) -> tuple[Array, dict[str, tuple[Array, Array]]]:
    """Return the next logits, float32 [B, V], and the caches with the tokens at `position` added.

    Attention reads the first `room` positions of the caches.
    """
    extend, logits = _STEPS[native.for_scoring(config)]
    S = next(iter(caches.values()))[0].shape[3]
    cos_SK, sin_SK = (jnp.asarray(t) for t in layers.rope_tables(S, config.head_dim, config.rope_base))
    rope = cos_SK[position], sin_SK[position]
    x_BD, new_caches = network.embed(token_B), {}
    for name, _, _ in config.named_stacks:
        x_BD, new_caches[name] = extend(getattr(network, name), x_BD, rope, caches[name], position, room)
    return logits(network, network.norm(x_BD)), new_caches


def _extend(
    stack: layers.Block, x_BD: Array, rope: tuple[Array, Array], caches: tuple[Array, Array], position: Array, room: int
) -> tuple[Array, tuple[Array, Array]]:
    """Take one token of each row through the blocks of a stack."""
    graphdef, params = nnx.split(stack)
    one_rope = rope[0][None], rope[1][None]

    def body(carry, layer):
        block = nnx.merge(graphdef, layer[0])
        return block.extend(carry[0], one_rope, carry[1], layer[1], position, room, _FLOAT32), None

    numbers = jnp.arange(len(caches[0]))
    (x_BTD, caches), _ = jax.lax.scan(body, (x_BD[:, None], caches), (params, numbers))
    return x_BTD[:, 0], caches


def _logits(network: transformer.Transformer, hidden_BD: Array) -> Array:
    return network.logits(hidden_BD, _FLOAT32)


_FLOAT32 = jnp.dtype(jnp.float32)
# What takes a token through a stack, and what reads the logits.
_STEPS = {"xla": (_extend, _logits), "native": (native.extend, native.logits)}


class Request(NamedTuple):
    """A text to generate: at most `tokens` tokens after the prompt."""

    prompt: str
    tokens: int
    seed: int


class WrittenText(NamedTuple):
    """A generated text."""

    prompt: str
    text: str  # with the prompt
    tokens: int  # drawn
    ended: bool  # by the model, not by the limit of tokens


class Written(NamedTuple):
    """Generated texts, in the order of their requests."""

    texts: list[WrittenText]
    seconds: float  # time of the loop, without compilation

    @property
    def tokens_per_second(self) -> float:
        return sum(text.tokens for text in self.texts) / self.seconds if self.seconds > 0 else 0.0


def write(
    config: Model,
    params: groups.Params,
    tokenizer: Tokenizer,
    wanted: Sequence[Request],
    choice: Choice,
    check: Callable[[], None] = lambda: None,
) -> Written:
    """Generate texts in one batch.

    Args:
      check: called between parts of the work; may raise to interrupt.
    """
    prompts = [_prompt(tokenizer, request, config.max_context) for request in wanted]
    ends = [min(len(ids) + request.tokens, config.max_context) for ids, request in zip(prompts, wanted, strict=True)]
    seeds = [request.seed for request in wanted]
    rows = begin(config, _filled(prompts, max(ends)), ends, seeds, [choice] * len(wanted))
    for _, room in _rooms(rows):  # compile only: with until = 0 nothing is drawn
        rows = jax.block_until_ready(_advance(config, params, room, rows, np.int32(0)))
    start = time.monotonic()
    for until in range(_CHECK_EVERY, max(ends) + _CHECK_EVERY, _CHECK_EVERY):
        check()
        rows = jax.block_until_ready(advance(config, params, rows, until))
    seconds = time.monotonic() - start
    drawn = zip(wanted, prompts, np.asarray(rows.tokens_BS), ends, strict=True)
    return Written([_text(tokenizer, *row) for row in drawn], seconds)


def stream(
    config: Model, params: groups.Params, tokenizer: Tokenizer, request: Request, choice: Choice
) -> Iterator[str]:
    """Generate one text and yield it in pieces: the prompt first, then word after word."""
    ids = _prompt(tokenizer, request, config.max_context)
    end = min(len(ids) + request.tokens, config.max_context)
    # Every text gets the same length, so one compiled loop serves all of them.
    rows = begin(config, _filled([ids], config.max_context), [end], [request.seed], [choice])
    yielded = ""
    for until in range(len(ids) - 1, end):
        rows = advance(config, params, rows, until)
        finished = bool(rows.ended_B[0]) or until == end - 1
        length = int(rows.position) + 1
        text = _text(tokenizer, request, ids, np.asarray(rows.tokens_BS[0]), length).text
        # The next token may lengthen the last word; the text before it is final.
        final = text if finished else text[: max(text.rfind(" "), text.rfind("\n")) + 1]
        if len(final) > len(yielded) and final.startswith(yielded):
            yield final[len(yielded) :]
            yielded = final
        if finished:
            return


def requests(sampling: Sampling, seed: int, context: int) -> list[Request]:
    """Return the requests for a checkpoint's samples: a short and a full text for each prompt."""
    prompts = list(enumerate(sampling.prompts))
    short = [Request(prompt, sampling.tokens, seed + number) for number, prompt in prompts]
    return short + [Request(prompt, context, seed + number) for number, prompt in prompts]


def _prompt(tokenizer: Tokenizer, request: Request, context: int) -> list[int]:
    """Return BOS and the prompt. A long prompt loses its beginning.

    The cut leaves room for the requested tokens, or for half the context.
    """
    ids = tokenizer.encode(request.prompt) if request.prompt else []
    max_ids = context - 1 - min(request.tokens, context // 2)
    return [tokenizer.bos, *ids[max(0, len(ids) - max_ids) :]]


def _filled(prompts: Sequence[Sequence[int]], length: int) -> np.ndarray:
    """Return one prompt a row, filled up with FREE."""
    rows = np.full((len(prompts), length), FREE, np.int32)
    for row, ids in zip(rows, prompts, strict=True):
        row[: len(ids)] = ids
    return rows


def _text(tokenizer: Tokenizer, request: Request, prompt: Sequence[int], row: np.ndarray, end: int) -> WrittenText:
    """Return the text of a row up to `end`, or up to EOS."""
    drawn = [token for token in row[len(prompt) : end].tolist() if token != FREE]
    ended = tokenizer.eos in drawn
    if ended:
        drawn = drawn[: drawn.index(tokenizer.eos)]
    return WrittenText(request.prompt, tokenizer.decode([*prompt, *drawn]), len(drawn) + ended, ended)
