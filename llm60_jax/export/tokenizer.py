"""The tokenizer as the files of the package `tokenizers` and of transformers.

Our text is split at newlines, each line gets its own word mark, and the newline is a token. In
`tokenizers` that is: the newline as an added token, where text is split before anything else, and
then a word mark before each part. Its Metaspace would leave out the mark where a line begins with a
space.

The decoder strips nothing. Programs decode the new tokens alone, and a stripped space would be the
one between the prompt and its continuation. So a whole text decodes with one leading space.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm60_jax.data.tokens.tokenizer import Entry, Kind, Tokenizer
from llm60_jax.errors import DamageError, InputError
from llm60_jax.machine import files, shipped

NAME = "tokenizer.json"
_CONFIG, _SPECIAL, _MODEL = "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model"
_MARK = "\u2581"
_SPELT_BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # `tokenizers` reads it as a byte in a unigram vocabulary
_TIE = 1e-4  # nats; sentencepiece adds log-probabilities in float32, `tokenizers` in float64
# A question is the last message, a newline ends it, and the answer follows. A newline at the end of
# a Jinja template is dropped, so the expression writes it.
CHAT_TEMPLATE = "{{ bos_token + messages[-1]['content'] + '\\n' }}"

# Texts that tokenizers disagree on. Literal control tokens, such as "<s>", are left out: other
# programs read them as control tokens.
ODD_TEXTS = (
         "", " ", "  ", "\n", "\n\n", " \n ", "a", " a", "  a", "a ", "a  b", "a\nb", "a\n b", "a \nb", "\na", "a\n",
    "\n\n\na", "The people.", "the People", "In the year 1945, on 3.14 % of 1,000,000 days", "0123456789", "\t",
    "a\tb", "\r\n", "a\rb", "caf\u00e9", "cafe\u0301", "na\u00efve \u0153uvre \u00df \u1e9e", "\u00a0", "a\u00a0b",
    "\u2009\u3000", "\u2581", "a\u2581b", "\u2581\u2581", "\u201cquoted\u201d \u2018text\u2019 \u2014 and\u2026",
    "...", "....", ".....", "--", "''", '""', "<", ">", "<0x41>", "<0x0A>", "<0x>", "<S>", "</S>", "< s >",
    "<|endoftext|>", "[INST]", "&amp; &lt;b&gt;", "\\n", "\\", "{}", "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1ec\U0001f1e7", "\u4f60\u597d",
    "\u0645\u0631\u062d\u0628\u0627", "\u0928\u092e\u0938\u094d\u0924\u0947", "\ud55c\uad6d\uc5b4", "\u200b",
    "\ufeff", "\u202e", "\u0000", "a\u0000b", "\u0007\u001b[31m", "\uffff", "\U0010ffff", "x" * 300, "ab " * 100,
    "\n" * 40, " " * 40, "Wait \u2013 what?! (yes) [no] {maybe} #1 $2 50% @home ~ ^ ` | / _ = + *",
    "don't, I'll, we've; O'Brien's",
)  # fmt: skip


def write(tokenizer: Tokenizer, folder: Path, context: int, answers: bool) -> None:
    """Write the files of a tokenizer.

    Args:
      context: the most tokens of a text.
      answers: whether the model learnt to answer questions; it then gets a chat template.
    """
    bos, eos, unk, pad = (
        tokenizer.entries()[token].piece for token in (tokenizer.bos, tokenizer.eos, tokenizer.unk, tokenizer.pad)
    )
    special = {"bos_token": bos, "eos_token": eos, "unk_token": unk, "pad_token": pad}
    config: dict[str, Any] = {
        # Without the class transformers takes GPT-2's by the kind of model; its ids are wrong.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        # transformers.js adds no BOS without it.
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "padding_side": "left",  # so that a batch of prompts can be continued
        "model_input_names": ["input_ids", "attention_mask"],
    }
    if answers:
        config["chat_template"] = CHAT_TEMPLATE
    for name, tree in ((NAME, _tree(tokenizer)), (_CONFIG, config), (_SPECIAL, special)):
        text = json.dumps(tree, ensure_ascii=False, indent=1) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copyfile(tokenizer.path, folder / _MODEL)


def verify(tokenizer: Tokenizer, folder: Path, prompts: Sequence[str]) -> list[str]:
    """Compare the ids of odd texts and prompts, by the written file and by our tokenizer.

    Raises:
      DamageError: ids differ, or a text does not decode as ours does.
    """
    path = folder / NAME
    written = read(path)
    texts, ties = [*ODD_TEXTS, *prompts], 0
    if not tokenizer.is_bpe:
        texts = [text for text in texts if not _SPELT_BYTE.search(text)]
    for text in texts:
        ours, theirs = [tokenizer.bos, *tokenizer.encode(text)], written.encode(text).ids
        if ours != theirs:
            if not theirs or not _is_tie(tokenizer, ours, theirs):
                raise DamageError(f"{path}: {text[:80]!r} becomes the tokens {theirs[:20]}, but ours are {ours[:20]}")
            ties += 1
        decoded = written.decode(ours)
        expected = " " * (not text.startswith("\n") and text != "") + tokenizer.decode(ours)
        if decoded != expected:
            raise DamageError(f"{path}: {expected[:80]!r} decodes as {decoded[:80]!r}")
    if files.sha256_of(folder / _MODEL) != tokenizer.sha256:
        raise DamageError(f"{folder / _MODEL}: differs from the tokenizer of the run")
    equal = f"{NAME}: the ids of {len(texts) - ties} texts are equal"
    return [equal + (f", {ties} have another split of the same likelihood" if ties else "")]


def read(path: Path) -> Any:
    """Return a `tokenizers.Tokenizer` from its file.

    Raises:
      InputError: the package `tokenizers` is not installed.
      DamageError: the file cannot be read.
    """
    try:
        import tokenizers
    except ImportError:
        raise InputError(f"writing a tokenizer needs the package tokenizers: {shipped.extra('export')}") from None
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises Exception itself
        raise DamageError(f"{path}: tokenizers cannot read it: {str(error)[:200]}") from None


def _is_tie(tokenizer: Tokenizer, ours: Sequence[int], theirs: Sequence[int]) -> bool:
    """Whether two splits of a text, each after BOS, are equally likely to a unigram tokenizer."""
    if tokenizer.is_bpe or ours[0] != theirs[0] or tokenizer.decode(ours) != tokenizer.decode(theirs):
        return False
    entries = tokenizer.entries()
    likelihoods = [sum(entries[token].score for token in ids) for ids in (ours, theirs)]
    return abs(likelihoods[0] - likelihoods[1]) <= _TIE * max(1.0, abs(likelihoods[0]))


def _tree(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the content of tokenizer.json."""
    entries = tokenizer.entries()
    added = [
        {
            "id": token,
            "content": entry.piece,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": entry.kind != Kind.USER_DEFINED,
        }
        for token, entry in enumerate(entries)
        if entry.kind in (Kind.CONTROL, Kind.UNKNOWN, Kind.USER_DEFINED)
    ]
    bos = entries[tokenizer.bos].piece
    begin = {"SpecialToken": {"id": bos, "type_id": 0}}
    texts = [{"Sequence": {"id": part, "type_id": 0}} for part in ("A", "B")]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": _sequence("normalizers", {"type": "Prepend", "prepend": _MARK}, _replace(" ", _MARK)),
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, texts[0]],
            "pair": [begin, *texts],
            "special_tokens": {bos: {"id": bos, "ids": [tokenizer.bos], "tokens": [bos]}},
        },
        "decoder": _sequence(
            "decoders", _replace(_MARK, " "), {"type": "ByteFallback"}, {"type": "Fuse"}, _replace("\n ", "\n")
        ),
        "model": _bpe(entries, tokenizer.unk) if tokenizer.is_bpe else _unigram(entries, tokenizer.unk),
    }


def _bpe(entries: Sequence[Entry], unk: int) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": entries[unk].piece,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {entry.piece: token for token, entry in enumerate(entries)},
        "merges": _merges(entries),
    }


def _merges(entries: Sequence[Entry]) -> list[list[str]]:
    """Return the pairs that join to a piece, the best piece first. sentencepiece keeps pieces only."""
    ids = {entry.piece: token for token, entry in enumerate(entries) if entry.kind == Kind.NORMAL}
    pairs: list[tuple[float, int, int, str, str]] = []
    for piece, token in ids.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids:
                pairs.append((-entries[token].score, token, cut, left, right))
    return [[left, right] for *_, left, right in sorted(pairs)]


def _unigram(entries: Sequence[Entry], unk: int) -> dict[str, Any]:
    return {
        "type": "Unigram",
        "unk_id": unk,
        "vocab": [[entry.piece, entry.score] for entry in entries],
        "byte_fallback": True,
    }


def _replace(pattern: str, content: str) -> Mapping[str, Any]:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def _sequence(field: str, *parts: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", field: list(parts)}
