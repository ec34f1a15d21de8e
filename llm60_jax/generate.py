"""Writing text: one jitted loop that draws token after token through a cache of keys and values.

The same prompt and seed give the same text, whatever is written beside it.
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
from llm60_jax.model import groups, layers, transformer

Array = jax.Array
FREE = -1  # in a row of tokens: to be drawn
_ROOM = 128  # positions; what attention looks at grows by so many, and each size is a program of its own


class Choice(NamedTuple):
    """How a token is drawn; what a loop is compiled for. Neutral settings draw from the model's own distribution."""

    eos: int  # a row that has come to this token is finished
    temperature: float = 1.0  # 0 takes the likeliest token
    top_k: int = 0  # among so many likeliest tokens; 0 is all
    top_p: float = 1.0  # among the likeliest that hold this share of the probability (Holtzman et al. 2020)
    repetition_penalty: float = 1.0  # logits of tokens in the row so far are lowered by it (Keskar et al. 2019)

    @staticmethod
    def of(sampling: Sampling, eos: int) -> "Choice":
        return Choice(eos, sampling.temperature, sampling.top_k, sampling.top_p, sampling.repetition_penalty)


class Decoding(NamedTuple):
    """Rows that are being written. S is their length, the room for the longest text."""

    tokens_BS: Array  # int32; FREE where nothing is given or drawn yet
    position: Array  # int32 scalar: tokens up to here are known
    ends_B: Array  # int32, the number of tokens a row may have
    keys_B: Array  # PRNG key of each row
    ended_B: Array  # bool
    met_BV: Array  # bool, tokens in the row so far
    caches: dict[str, tuple[Array, Array]]  # keys and values of each segment, float32 [blocks, B, H, S, K]


def begin(config: Model, tokens_BS: Any, ends_B: Any, seeds_B: Any) -> Decoding:
    """Rows that begin with their prompts, BOS first, then FREE. One seed for each row."""
    B, S = np.shape(tokens_BS)
    shape = (B, config.heads, S, config.head_dim)
    return Decoding(
        tokens_BS=jnp.asarray(tokens_BS, jnp.int32),
        position=jnp.int32(0),
        ends_B=jnp.asarray(ends_B, jnp.int32),
        keys_B=jax.vmap(jax.random.key)(jnp.asarray(seeds_B, jnp.uint32)),
        ended_B=jnp.zeros(B, bool),
        met_BV=jnp.zeros((B, config.vocab_size), bool),
        caches={
            name: (jnp.zeros((stop - start, *shape)), jnp.zeros((stop - start, *shape)))
            for name, start, stop in config.named_stacks
        },
    )


def advance(config: Model, params: groups.Params, choice: Choice, rows: Decoding, until: int) -> Decoding:
    """Writes on until all tokens up to position `until` are known, or every row has ended.

    Attention looks at no more of the caches than it has to, so that short texts cost less. How much that is follows
    from the position alone: the same text comes out, whatever the pieces it is written in.
    """
    position = int(rows.position)
    for start, room in _rooms(rows):
        if position < room and start < until:
            rows = _advance(config, params, choice, room, rows, np.int32(min(until, room)))
    return rows


def _rooms(rows: Decoding) -> list[tuple[int, int]]:
    """From which position on attention looks at how many, one after another."""
    S = rows.tokens_BS.shape[1]
    return [(start, min(start + _ROOM, S)) for start in range(0, S, _ROOM)]


@functools.partial(jax.jit, static_argnames=("config", "choice", "room"), donate_argnames=("rows",))
def _advance(config: Model, params: groups.Params, choice: Choice, room: int, rows: Decoding, until: Array) -> Decoding:
    """`advance` to a position of at most `room`."""
    network = groups.merge(config, params)
    B, S = rows.tokens_BS.shape

    def going_on(rows: Decoding) -> Array:
        return (rows.position < jnp.minimum(until, S - 1)) & ~rows.ended_B.all()

    def write_one(rows: Decoding) -> Decoding:
        token_B = rows.tokens_BS[:, rows.position]
        logits_BV, caches = next_logits(config, network, token_B, rows.caches, rows.position, room)
        met_BV = rows.met_BV.at[jnp.arange(B), token_B].set(True)
        keys_B = jax.vmap(jax.random.fold_in, (0, None))(rows.keys_B, rows.position)
        drawn_B = choose(choice, logits_BV, met_BV, keys_B)
        following = rows.position + 1
        given_B = rows.tokens_BS[:, following]
        token_B = jnp.where(given_B != FREE, given_B, drawn_B)
        ended_B = rows.ended_B | (token_B == choice.eos) | (following + 1 >= rows.ends_B)
        token_B = jnp.where(rows.ended_B, choice.eos, token_B)
        tokens_BS = rows.tokens_BS.at[:, following].set(token_B)
        changed = {"tokens_BS": tokens_BS, "position": following, "ended_B": ended_B}
        return rows._replace(**changed, met_BV=met_BV, caches=caches)

    return jax.lax.while_loop(going_on, write_one, rows)


def next_logits(
    config: Model,
    network: transformer.Transformer,
    token_B: Array,
    caches: dict[str, tuple[Array, Array]],
    position: Array,
    room: int,
) -> tuple[Array, dict[str, tuple[Array, Array]]]:
    """The logits of what follows the tokens at `position`, float32 [B, V], and the caches with those tokens in them.
    Attention looks at the first `room` positions of the caches."""
    float32 = jnp.dtype(jnp.float32)
    S = next(iter(caches.values()))[0].shape[3]
    cos_SK, sin_SK = (jnp.asarray(t) for t in layers.rope_tables(S, config.head_dim, config.rope_base))
    rope = cos_SK[position][None], sin_SK[position][None]
    x_BTD, new = network.embedding[...][token_B][:, None], {}
    for name, _, _ in config.named_stacks:
        graphdef, stack = nnx.split(getattr(network, name))

        def body(carry, layer, graphdef=graphdef):
            params, number = layer
            block = nnx.merge(graphdef, params)
            return block.extend(carry[0], rope, carry[1], number, position, room, float32), None

        numbers = jnp.arange(len(caches[name][0]))
        (x_BTD, new[name]), _ = jax.lax.scan(body, (x_BTD, caches[name]), (stack, numbers))
    return network.logits(network.norm(x_BTD)[:, 0], float32), new


def choose(choice: Choice, logits_BV: Array, met_BV: Array, keys_B: Array) -> Array:
    """A token for each row, int32 [B]; repetition penalty first, then temperature, top-k and top-p.

    Args:
      met_BV: bool, the tokens that the penalty is for.
      keys_B: PRNG key of each row.
    """
    penalty = choice.repetition_penalty
    if penalty != 1:
        lowered_BV = jnp.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
        logits_BV = jnp.where(met_BV, lowered_BV, logits_BV)
    if choice.temperature == 0:
        return logits_BV.argmax(-1).astype(jnp.int32)
    logits_BV = logits_BV / choice.temperature
    V = logits_BV.shape[1]
    if choice.top_k in (0, V) and choice.top_p == 1:
        return jax.vmap(jax.random.categorical)(keys_B, logits_BV).astype(jnp.int32)
    logits_Bk, tokens_Bk = jax.lax.top_k(logits_BV, min(choice.top_k or V, V))  # the likeliest first
    probabilities_Bk = jax.nn.softmax(logits_Bk)
    before_Bk = jnp.cumsum(probabilities_Bk, -1) - probabilities_Bk
    drawn_B = jax.vmap(jax.random.categorical)(keys_B, jnp.where(before_Bk < choice.top_p, logits_Bk, -jnp.inf))
    return jnp.take_along_axis(tokens_Bk, drawn_B[:, None], 1)[:, 0].astype(jnp.int32)


class Request(NamedTuple):
    """A text to be written: `tokens` more after the prompt, if the model does not end it before."""

    prompt: str
    tokens: int
    seed: int


class WrittenText(NamedTuple):
    """What was written, the prompt included. `ended` by the model, not by the number of tokens asked for."""

    prompt: str
    text: str
    tokens: int  # drawn
    ended: bool


class Written(NamedTuple):
    """Texts in the order of their requests. The time is that of the loop, compilation left out."""

    texts: list[WrittenText]
    seconds: float

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
    """Writes texts side by side.

    Args:
      check: called between pieces of the work; may raise to interrupt.
    """
    prompts = [_prompt(tokenizer, request, config.max_context) for request in wanted]
    ends = [min(len(ids) + request.tokens, config.max_context) for ids, request in zip(prompts, wanted, strict=True)]
    rows = begin(config, _filled(prompts, max(ends)), ends, [request.seed for request in wanted])
    for _, room in _rooms(rows):  # compiles, and writes nothing
        rows = jax.block_until_ready(_advance(config, params, choice, room, rows, np.int32(0)))
    start, step = time.monotonic(), 16
    for until in range(step, max(ends) + step, step):
        check()
        rows = jax.block_until_ready(advance(config, params, choice, rows, until))
    seconds = time.monotonic() - start
    drawn = zip(wanted, prompts, np.asarray(rows.tokens_BS), ends, strict=True)
    return Written([_text(tokenizer, *row) for row in drawn], seconds)


def stream(
    config: Model, params: groups.Params, tokenizer: Tokenizer, request: Request, choice: Choice
) -> Iterator[str]:
    """Writes one text and yields what is new of it, the prompt first, word by word as they come."""
    ids = _prompt(tokenizer, request, config.max_context)
    end = min(len(ids) + request.tokens, config.max_context)
    # The room of all texts is the same, so that one compiled loop writes all of them.
    rows = begin(config, _filled([ids], config.max_context), [end], [request.seed])
    shown = ""
    for until in range(len(ids) - 1, end):
        rows = advance(config, params, choice, rows, until)
        finished = bool(rows.ended_B[0]) or until == end - 1
        known = int(rows.position) + 1
        text = _text(tokenizer, request, ids, np.asarray(rows.tokens_BS[0]), known).text
        # A word may still grow by the next token; only what stands before the last white space is certain.
        certain = text if finished else text[: max(text.rfind(" "), text.rfind("\n")) + 1]
        if len(certain) > len(shown) and certain.startswith(shown):
            yield certain[len(shown) :]
            shown = certain
        if finished:
            return


def requests(sampling: Sampling, seed: int, context: int) -> list[Request]:
    """The texts that are kept with every checkpoint: of each prompt a short one, and one that fills the context."""
    prompts = list(enumerate(sampling.prompts))
    short = [Request(prompt, sampling.tokens, seed + number) for number, prompt in prompts]
    return short + [Request(prompt, context, seed + number) for number, prompt in prompts]


def _prompt(tokenizer: Tokenizer, request: Request, context: int) -> list[int]:
    """BOS and the prompt; of a long one its end, so that there is room for what is asked for, or for half a context."""
    ids = tokenizer.encode(request.prompt) if request.prompt else []
    most = context - 1 - min(request.tokens, context // 2)
    return [tokenizer.bos, *ids[max(0, len(ids) - most) :]]


def _filled(prompts: Sequence[Sequence[int]], length: int) -> np.ndarray:
    rows = np.full((len(prompts), length), FREE, np.int32)
    for row, ids in zip(rows, prompts, strict=True):
        row[: len(ids)] = ids
    return rows


def _text(tokenizer: Tokenizer, request: Request, prompt: Sequence[int], row: np.ndarray, end: int) -> WrittenText:
    drawn = [token for token in row[len(prompt) : end].tolist() if token != FREE]
    ended = tokenizer.eos in drawn
    if ended:
        drawn = drawn[: drawn.index(tokenizer.eos)]
    return WrittenText(request.prompt, tokenizer.decode([*prompt, *drawn]), len(drawn) + ended, ended)
