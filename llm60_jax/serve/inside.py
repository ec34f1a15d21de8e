"""A look inside a model at work on a given text: how surprising each token is, and what each block
adds."""

from typing import Any

import numpy as np

from llm60_jax.evaluate import depth, prediction
from llm60_jax.serve.batch import Loaded
from llm60_jax.serve.replies import Refusal
from llm60_jax.serve.texts import Growing

_ALTERNATIVES = 5  # likeliest tokens shown beside each token


def look(loaded: Loaded, text: str) -> dict[str, Any]:
    """Return the tokens of a text with their losses, and the figures of each block, as JSON values.

    A text that is longer than the context loses its end. Raise Refusal for a text without tokens.
    """
    trained, alphabet = loaded.trained, loaded.alphabet
    tokenizer, context = trained.tokenizer, trained.model.max_context
    given = tokenizer.encode(text)
    if not given:
        raise Refusal(400, "text: has no token", param="text")
    ids = [tokenizer.bos, *given][:context]
    logs, likeliest, their_logs = prediction.likeliest(trained, ids, _ALTERNATIVES)
    growing, tokens = Growing(alphabet, ids[:1]), []
    for place, token in enumerate(ids[1:]):
        before = len(growing.text)
        growing.add(token)
        others = zip(likeliest[place].tolist(), np.exp(their_logs[place]).tolist(), strict=True)
        tokens.append(
            {
                "text": growing.text[before:],  # a character stands with the last of its byte tokens
                "nats": round(-float(logs[place]), 4),
                "likeliest": [{"text": alphabet.label(other, ids[place]), "p": round(p, 5)} for other, p in others],
            }
        )
    measured = depth.measure(trained.model, loaded.params, _rows(ids, context))
    return {
        "tokens": tokens,
        "tokens_in_text": len(given),
        "is_cut": len(tokens) < len(given),  # the figures are of the first tokens alone
        **measured.to_tree(),
    }


def _rows(ids: list[int], length: int) -> dict[str, np.ndarray]:
    """Return one row [1, T] for `depth.measure`: of a fixed length, so that one program serves all texts."""
    T = length - 1
    rows = {name: np.zeros((1, T), np.int32) for name in ("tokens", "targets", "segments")}
    rows["weights"] = np.zeros((1, T), np.float32)
    count = len(ids) - 1
    rows["tokens"][0, :count], rows["targets"][0, :count] = ids[:-1], ids[1:]
    rows["segments"][0, :count], rows["weights"][0, :count] = 1, 1
    return rows
