"""The model card: README.md beside the files of a model, for whoever gets them.

The templates are in `cards/`: `card.md` for every format, and one file a format that tells how to
load it. Every value that a template shows is escaped, because names, reasons and licences are
anybody's text. No path and no user name gets into it.
"""

import getpass
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from llm60_jax.errors import DamageError
from llm60_jax.export import huggingface
from llm60_jax.export.source import Source
from llm60_jax.machine import shipped

NAME = "README.md"
_CARDS = Path(__file__).with_name("cards")
_LIBRARIES = {"huggingface": "transformers", "gguf": "gguf", "onnx": "transformers.js", "adapter": "peft"}
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&!$@^])")  # what begins something in Markdown
_LINK = re.compile(r"(?i)(:)(?=//)|(?<=\bwww)(\.)")
_PATH = re.compile(r"(?<![\w.:/])(?:~/|[A-Za-z]:\\|/(?=[\w.-]+/))[^\s,;:'\"()]*")


class Code(str):
    """A text for a block of code, where nothing is escaped."""


def text(source: Source, target: str, sizes: Mapping[str, int], compared: Sequence[str]) -> str:
    """Return the card of an exported folder.

    Args:
      target: the format, a key of `exporting.TARGETS`.
      sizes: bytes by file.
      compared: what the export read back and compared.
    """
    environment = Environment(
        loader=FileSystemLoader(_CARDS),
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    model, grammar = source.trained.config.model, source.facts.grammar.values()
    return environment.get_template("card.md").render(
        target=target,
        library=_LIBRARIES[target],
        name=source.name,
        front_name=Code(json.dumps(source.name, ensure_ascii=False)),
        licence=Code(source.licence or "other"),
        is_licensed=bool(source.licence),
        type=source.type,
        facts=source.facts,
        model=model,
        architecture="SwiGLU" if model.mlp == "swiglu" else "GELU (tanh)",
        stored=sum(array.size for _, array in source.weights.arrays()),
        words="byte pairs" if source.trained.tokenizer.is_bpe else "unigram",
        answers=huggingface.answers(source.trained),
        mean=sum(pairs.right for pairs in grammar) / max(1, len(grammar)),
        privacy=_privacy(source.privacy),
        number=lambda value, form: "not recorded" if value is None else form.format(value),
        code=Code,
        files=[(Code(name), size) for name, size in sizes.items()],
        compared=compared,
    )


def _privacy(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a privacy report. Raise DamageError if it lacks them."""
    try:
        ranked = [*report["secrets"], *report["canaries"]]
        by_heart = [bool(string["by_heart"]) for string in ranked]
        return {
            "refused": bool(report["refused"]),
            "override": report["override"] or "",
            "trained_on": max(float(report["trained_on"][way]) for way in ("greedy", "drawn")),
            "held_out": max(float(report["held_out"][way]) for way in ("greedy", "drawn")),
            "tested": len(by_heart),
            "memorised": sum(by_heart),
            "found": sum(int(count) for count in report["private_strings"].values()),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        command = shipped.spoken("python tools/check_privacy.py")
        raise DamageError(
            f"the privacy report of this checkpoint cannot be read ({type(error).__name__}); run {command} again"
        ) from None


def _shown(value: Any) -> Any:
    """Return a value of a template as it stands in the card."""
    if isinstance(value, Code) or not isinstance(value, str):
        return value
    return escaped(value)


def escaped(value: str) -> str:
    """Return one line of Markdown that shows a text and is nothing but text.

    Paths and the name of the user are taken out.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    line = _PATH.sub("[path]", line)
    user = _user()
    if user:
        line = re.sub(rf"\b{re.escape(user)}\b", "[name]", line)
    line = _MARKUP.sub(r"\\\1", line)
    return _LINK.sub(lambda match: "\\" + match[0], line)


def _user() -> str:
    """Return the name of this user, or "" where there is none or where it is a word like any other."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
    return name if len(name) > 2 and name not in ("root", "user", "admin") else ""
