"""Environments of LaTeX, and the items of those that are lists."""

from llm60_jax.data.read.markup.tex import paragraph, tables
from llm60_jax.data.read.markup.tex.reading import Environment, Reading

_MOST_OPEN = 50  # environments that an \end may close, those inside included


def begin(reading: Reading, _: str) -> None:
    """Open an environment, or skip it if it holds no prose."""
    cursor, page = reading.cursor, reading.page
    start = cursor.opening()
    if start < 0:
        return
    name = (cursor.skip_argument() or "").strip()
    bare = name.rstrip("*")
    if bare in tables.GONE:
        if start in reading.ends:
            cursor.place = reading.ends[start]
            if bare in tables.DISPLAYS:
                page.add(paragraph.HOLE)
        return
    if not page.in_note:
        page.end_paragraph()
    _open(reading, Environment(name, tables.LISTS.get(bare, "")))
    cursor.skip_options()
    for _number in range(tables.ENVIRONMENT_ARGUMENTS.get(bare, 0)):
        reading.drop_argument()


def end(reading: Reading, _: str) -> None:
    """Close an environment, and those inside it that were left open."""
    page = reading.page
    name = (reading.cursor.skip_argument() or "").strip()
    if any(environment.name == name for environment in reading.environments[-_MOST_OPEN:]):
        if not page.in_note:
            page.end_paragraph()
        while _close(reading) != name:
            pass
        page.marker = ""


def item(reading: Reading, _: str) -> None:
    """Begin an item. The term of a description is read, the mark of another item is not."""
    cursor, page = reading.cursor, reading.page
    page.end_paragraph()
    if not reading.lists:
        return
    inner = reading.lists[-1]
    inner.number += 1
    page.marker = f"{inner.number}. " if inner.kind == "1" else "- "
    start = cursor.opening("[")
    if start >= 0 and not (inner.kind == ":" and cursor.enter(start, lambda: _end_term(reading))):
        cursor.place = cursor.pairs[start] + 1


def _end_term(reading: Reading) -> None:
    reading.cursor.place += 1  # the bracket
    reading.page.add(": " if reading.page.ends_in_a_word() else " ")


def _open(reading: Reading, environment: Environment) -> None:
    reading.environments.append(environment)
    if environment.kind:
        reading.lists.append(environment)
        reading.page.depth += 1


def _close(reading: Reading) -> str:
    """Close the innermost environment and return its name."""
    environment = reading.environments.pop()
    if environment.kind:
        reading.lists.pop()
        reading.page.depth -= 1
    return environment.name
