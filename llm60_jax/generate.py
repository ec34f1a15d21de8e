"""Sampling text through a KV cache, in one jitted loop."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from llm60_jax import layers, model
from llm60_jax.config import Model, Sampling

Array = jax.Array


@functools.partial(jax.jit, static_argnames=("config", "top_k", "eos"))
def decode(
    config: Model, params: model.Params, prompts_BS: Array, key: Array, temperature: Array, *, top_k: int, eos: int
) -> Array:
    """Feeds each row's prompt token by token, then its own samples, to the end of the row.

    Args:
      config, params: the model.
      prompts_BS: int32, each row a prompt followed by -1 wherever a token is to be sampled.
      key: PRNG key.
      temperature: float32 scalar; 0 takes the likeliest token.
      top_k: sample among this many likeliest tokens; 0 means all.
      eos: a row that has produced this token goes on repeating it.

    Returns:
      int32 [B, S]: the prompts, continued.
    """
    B, S = prompts_BS.shape
    network = model.merge(config, params)
    dtype = jnp.dtype(jnp.float32)
    cos_SK, sin_SK = (jnp.asarray(t) for t in layers.rope_tables(S, config.head_dim, config.rope_base))
    cache_shape = (B, config.heads, S, config.head_dim)

    def next_logits(token_B, caches, position):
        rope = cos_SK[position][None], sin_SK[position][None]
        x_BTD, new_caches = network.embedding[...][token_B][:, None], {}
        for name, _, _ in config.named_segments:
            graphdef, stack = nnx.split(getattr(network, name))

            def body(x, layer, graphdef=graphdef):
                params, cache = layer
                return nnx.merge(graphdef, params).extend(x, rope, cache, position, dtype)

            x_BTD, new_caches[name] = jax.lax.scan(body, x_BTD, (stack, caches[name]))
        return network.logits(network.norm(x_BTD)[:, 0], dtype), new_caches

    def choose(logits_BV, key):
        if top_k:
            floor_B1 = jax.lax.top_k(logits_BV, min(top_k, config.vocab_size))[0][:, -1:]
            logits_BV = jnp.where(logits_BV < floor_B1, -jnp.inf, logits_BV)
        drawn = jax.random.categorical(key, logits_BV / jnp.maximum(temperature, 1e-6))
        return jnp.where(temperature > 0, drawn, logits_BV.argmax(-1)).astype(jnp.int32)

    def advance(carry, position):
        token_B, caches = carry
        logits_BV, caches = next_logits(token_B, caches, position)
        sampled_B = choose(logits_BV, jax.random.fold_in(key, position))
        given_B = jnp.take(prompts_BS, position + 1, axis=1, mode="fill", fill_value=-1)
        token_B = jnp.where(token_B == eos, eos, jnp.where(given_B >= 0, given_B, sampled_B))
        return (token_B, caches), token_B

    zeros = {
        name: (jnp.zeros((stop - start, *cache_shape)), jnp.zeros((stop - start, *cache_shape)))
        for name, start, stop in config.named_segments
    }
    _, rest_SB = jax.lax.scan(advance, (prompts_BS[:, 0], zeros), jnp.arange(S - 1))
    return jnp.concatenate([prompts_BS[:, :1], rest_SB.T], axis=1)


def sample_texts(config: Model, params: model.Params, tokenizer: Any, sampling: Sampling, seed: int) -> list[str]:
    """One text for each prompt of `sampling`, prompt included. The same seed gives the same texts."""
    prompts = [[tokenizer.bos, *tokenizer.encode(prompt)] for prompt in sampling.prompts]
    length = min(max(map(len, prompts)) + sampling.tokens, config.max_context)
    rows = np.full((len(prompts), length), -1, np.int32)
    for row, prompt in zip(rows, prompts, strict=True):
        row[: min(len(prompt), length)] = prompt[:length]
    drawn = decode(
        config,
        params,
        rows,
        jax.random.key(seed),
        np.float32(sampling.temperature),
        top_k=sampling.top_k,
        eos=tokenizer.eos,
    )
    limits = [min(len(prompt) + sampling.tokens, length) for prompt in prompts]
    return [tokenizer.decode(row[:limit].tolist()) for row, limit in zip(np.asarray(drawn), limits, strict=True)]
