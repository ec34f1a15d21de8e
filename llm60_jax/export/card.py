"""The model card: README.md beside the files of a model, for whoever gets them.

The templates are in `cards/`: `card.md` for every format, and one file a format that tells how to
load it. Every value that a template shows is escaped, because names, reasons and licences are
anybody's text. Paths are taken out of it, and the name of the user out of free text: the reasons.
"""

import getpass
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Undefined

from llm60_jax.errors import DamageError
from llm60_jax.evaluate import privacy
from llm60_jax.export import huggingface
from llm60_jax.export.source import Source
from llm60_jax.machine import shipped

NAME = "README.md"
_CARDS = Path(__file__).with_name("cards")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&!$@^])")  # what begins something in Markdown
_LINK = re.compile(r"(?i)(:)(?=//)|(?<=\bwww)(\.)")
_PATH = re.compile(
    r"""(?xi)
    (?P<address> \bhttps?://(?=\w)\S* )  # stays
    | (?<![\w.]) (?:
        file:/
        | [\w.+-]+@[\w.-]+:(?=[~/]|[\w.-]+/)  # as scp writes it
        | ~[\w.-]*[/\\]
        | \$\{?\w+\}?[/\\] | %\w+%[/\\]  # $HOME/, %USERPROFILE%\\
        | [a-z]:[/\\]
        | \\\\[^\s/\\]+[/\\] | //[\w.-]+/  # of a server
        | /(?=[^\s/]+/)
    )
    (?:
        [^\s,;:'"()] | [,:](?=[^\s,;:'"()])
        | [ ](?:[\w.-]+[ ]){0,2}[\w.-]+(?=[/\\])  # a folder whose name has blanks
    )*
    """
)


class Code(str):
    """A text for a block of code, where nothing is escaped."""


def text(source: Source, target: str, library: str, sizes: Mapping[str, int], compared: Sequence[str]) -> str:
    """Return the card of an exported folder.

    Args:
      target: the format, a key of `exporting.TARGETS`.
      library: `Target.library`, for the hub.
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
    model, grammar = source.trained.model, source.facts.grammar.values()
    return environment.get_template("card.md").render(
        target=target,
        library=library,
        name=source.name,
        front_name=Code(json.dumps(source.name, ensure_ascii=False)),
        licence=Code(source.licence),
        front_licence=Code(json.dumps(source.licence or "other")),
        is_licensed=bool(source.licence),
        type=source.type,
        facts=source.facts,
        model=model,
        architecture="SwiGLU" if model.mlp == "swiglu" else "GELU (tanh)",
        words="byte pairs" if source.trained.tokenizer.is_bpe else "unigram",
        answers=huggingface.answers(source.trained),
        mean=sum(pairs.right for pairs in grammar) / max(1, len(grammar)),
        privacy=_privacy(source.privacy),
        draws=privacy.DRAWS,
        phase=source.trained.meta["phase"],
        free=lambda value: Code(escaped(_without_user(str(value)))),
        number=lambda value, form: "not recorded" if value is None else form.format(value),
        code=Code,
        files=[(Code(name), size) for name, size in sizes.items()],
        compared=compared,
    )


def _privacy(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a privacy report. Raise DamageError if it lacks them."""
    try:
        return {
            "refused": bool(report["refused"]),
            "override": report["override"] or "",
            "trained_on": _continued(report["trained_on"]),
            "held_out": _continued(report["held_out"]),
            "found": sum(int(count) for count in report["private_strings"].values()),
            "secrets": [bool(string["by_heart"]) for string in report["secrets"]],
            "canaries": [bool(string["by_heart"]) for string in report["canaries"]],
            "calibrated": bool(report["calibrated"]),
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        command = shipped.spoken("python tools/check_privacy.py")
        raise DamageError(
            f"the privacy report of this checkpoint cannot be read ({type(error).__name__}); run {command} again"
        ) from None


def _continued(part: Mapping[str, Any]) -> dict[str, float]:
    """Return how many passages of a text the check took, and the shares that were continued. Raise ValueError."""
    shares = {way: float(part[way]) for way in ("greedy", "drawn")}
    if not all(math.isfinite(share) for share in shares.values()):
        raise ValueError(f"{shares}: not finite")
    return {"prefixes": int(part["prefixes"]), **shares}


def _shown(value: Any) -> Any:
    """Return a value of a template as the card shows it."""
    return value if isinstance(value, Code | int | float | Undefined) else escaped(str(value))


def escaped(value: str) -> str:
    """Return one line of Markdown that shows a text and is nothing but text.

    Paths are taken out.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    line = _without_paths(line)
    line = _MARKUP.sub(r"\\\1", line)
    return _LINK.sub(lambda match: "\\" + match[0], line)


def _without_user(value: str) -> str:
    """Return a text with "[name]" in place of the name of the user. Paths go first, as they may hold it."""
    user, line = _user(), _without_paths(value)
    return re.sub(rf"\b{re.escape(user)}\b", "[name]", line) if user else line


def _without_paths(value: str) -> str:
    return _PATH.sub(lambda match: match["address"] or "[path]", value)


def _user() -> str:
    """Return the name of this user, or "" where there is none or where it is a word like any other."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
    return name if len(name) > 2 and name not in ("root", "user", "admin") else ""
