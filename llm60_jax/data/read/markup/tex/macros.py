"""The macros that a TeX source defines for itself, replaced by their text."""

import re
from typing import NamedTuple

from llm60_jax.data.read.markup.tex import tables
from llm60_jax.data.read.markup.tex.tokens import closings, skip_blanks

_MAX_EXPANDED = 4  # times the tokens of a source, plus the next
_MAX_EXPANDED_MORE = 100_000
_PASSES = 4  # macros inside macros
_DEFINITIONS = frozenset(
    ("newcommand", "renewcommand", "providecommand", "DeclareRobustCommand", "def", "newrobustcmd")
)
# Commands whose meaning here is surer than what a source makes of them.
_FIXED = frozenset("item begin end emph textit textbf title".split()).union(
    tables.ARGUMENTS, tables.HEADINGS, tables.NOTES, tables.QUOTES, tables.CITES, tables.SYMBOLS, tables.LETTERS
)


class Macro(NamedTuple):
    """A macro of a source: how many arguments it takes, the first's default, and its tokens."""

    arguments: int
    default: list[str] | None
    body: list[str]


def expanded(tokens: list[str]) -> list[str]:
    """Return the tokens without definitions of macros, and with macros replaced by their text."""
    tokens, macros = _definitions(tokens)
    limit = _MAX_EXPANDED * len(tokens) + _MAX_EXPANDED_MORE
    for _ in range(_PASSES):
        if not macros or not any(token[:1] == "\\" and token[1:] in macros for token in tokens):
            break
        tokens = _expanded_once(tokens, macros, limit)
    return tokens


def _definitions(tokens: list[str]) -> tuple[list[str], dict[str, Macro]]:
    pairs, macros = closings(tokens), {}
    rest: list[str] = []
    i = 0
    while i < len(tokens):
        if tokens[i][:1] == "\\" and tokens[i][1:].rstrip("*") in _DEFINITIONS:
            definition = _definition(tokens, i, pairs)
            if definition:
                name, macro, i = definition
                if name not in _FIXED:
                    macros[name] = macro
                continue
        rest.append(tokens[i])
        i += 1
    return rest, macros


def _definition(tokens: list[str], i: int, pairs: dict[int, int]) -> tuple[str, Macro, int] | None:
    """Return (name, macro, the place after it) of a definition; None if it has no usual form."""
    primitive = tokens[i] == "\\def"
    i = skip_blanks(tokens, i + 1)
    if i in pairs and tokens[i] == "{":  # \newcommand{\name}
        name, i = "".join(tokens[i + 1 : pairs[i]]).strip(), pairs[i] + 1
    else:
        name, i = "".join(tokens[i : i + 1]), i + 1
    arguments, default = 0, None
    if primitive:
        start = i
        while i < len(tokens) and tokens[i] != "{" and i < start + 20:
            arguments += tokens[i].count("#")
            i += 1
    else:
        i = skip_blanks(tokens, i)
        for number in range(2):
            if i in pairs and tokens[i] == "[":
                inside = tokens[i + 1 : pairs[i]]
                if number:
                    default = inside
                else:
                    arguments = int("".join(inside)) if re.fullmatch(r"\s*[1-9]\s*", "".join(inside)) else 0
                i = skip_blanks(tokens, pairs[i] + 1)
    if not re.fullmatch(r"\\[a-zA-Z@]+\*?", name) or i not in pairs or tokens[i] != "{":
        return None
    return name[1:], Macro(arguments, default, tokens[i + 1 : pairs[i]]), pairs[i] + 1


_ARGUMENT = re.compile(r"(#[1-9])")


def _expanded_once(tokens: list[str], macros: dict[str, Macro], limit: int) -> list[str]:
    """Replace each macro by its body. Beyond `limit` tokens macros stay as they are."""
    pairs = closings(tokens)
    result: list[str] = []
    i = 0
    while i < len(tokens):
        macro = macros.get(tokens[i][1:]) if tokens[i][:1] == "\\" else None
        if macro is None or len(result) > limit:
            result.append(tokens[i])
            i += 1
            continue
        i += 1
        values: list[list[str]] = []
        for number in range(macro.arguments):
            start = skip_blanks(tokens, i)
            if number == 0 and macro.default is not None and not (start in pairs and tokens[start] == "["):
                values.append(macro.default)
            elif start in pairs:
                values.append(tokens[start + 1 : pairs[start]])
                i = pairs[start] + 1
            else:
                values.append([])
        result.append("{")  # what a macro sets, its font say, ends with it
        for token in macro.body:
            for part in _ARGUMENT.split(token) if "#" in token else (token,):
                if len(part) == 2 and part[0] == "#":
                    number = int(part[1]) - 1
                    result += values[number] if number < len(values) else []
                elif part:
                    result.append(part)
            if len(result) > 2 * limit:
                break
        result.append("}")
    return result
