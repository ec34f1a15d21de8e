"""A process of its own that prints the lines of a PDF, with their places, as JSON.

Usage: python -m llm60_jax.data.read.office.pdf_pages FILE CHARACTERS SECONDS BYTES

The last three are limits: of the text, the processor's time, the memory.
"""

import contextlib
import json
import logging
import sys
from typing import Any

from llm60_jax.data.read.office.pdf_columns import Line, Page, in_order

# Exit codes. 1 is any other failure.
ENCRYPTED, TOO_LARGE = 3, 4
_RAISED = 0.15  # of the size of its line: a mark above the line
_SMALL = 0.8  # of the size of its line
_LARGE = 1.6  # of the size of its line: the initial of a chapter
INITIAL = "\x01"  # stands after such an initial
_MARKS = frozenset("0123456789*\u2020\u2021\u00a7,\u00b9\u00b2\u00b3")
_MIN_LETTERS = 20  # on a page; with fewer the text may lie inside a picture, as OCR puts it


def main(path: str, characters: int, seconds: int, memory: int) -> int:
    """Print the lines of a file. Return an exit code."""
    _limit(seconds, memory)
    logging.disable(logging.CRITICAL)
    from pdfminer.pdfdocument import PDFEncryptionError, PDFPasswordIncorrect

    try:
        found = _read(path, characters)
    except (PDFPasswordIncorrect, PDFEncryptionError):
        return ENCRYPTED
    except MemoryError:
        return TOO_LARGE
    if found is None:
        return TOO_LARGE
    json.dump(found, sys.stdout)
    return 0


def _limit(seconds: int, memory: int) -> None:
    """Limit the processor's time and the memory of this process, where the system can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _read(path: str, largest: int) -> dict[str, Any] | None:
    """Return the title, the lines of each page, and what is wrong; None if there is too much."""
    from pdfminer.converter import PDFPageAggregator
    from pdfminer.layout import LAParams
    from pdfminer.pdfdocument import PDFDocument
    from pdfminer.pdfinterp import PDFPageInterpreter, PDFResourceManager
    from pdfminer.pdfpage import PDFPage
    from pdfminer.pdfparser import PDFParser

    pages: list[Page] = []
    characters, pictures, damaged = 0, False, False
    with open(path, "rb") as file:
        document = PDFDocument(PDFParser(file))
        resources = PDFResourceManager()
        device = PDFPageAggregator(resources, laparams=LAParams(all_texts=True))
        interpreter = PDFPageInterpreter(resources, device)
        for page in PDFPage.create_pages(document):
            try:
                interpreter.process_page(page)
                layout = device.get_result()
            except MemoryError:
                raise
            except Exception:  # a page that is damaged; the others may be whole
                damaged = True
                continue
            lines, has_picture = _lines(layout)
            pages.append(lines)
            pictures = pictures or has_picture
            characters += sum(len(line.text) for line in lines)
            if characters > largest:
                return None
        title = _title(document)
    if damaged and not any(pages):
        raise ValueError("no page can be read")
    return {"title": title, "pages": pages, "pictures": pictures, "damaged": damaged}


def _title(document: Any) -> str:
    from pdfminer.utils import decode_text

    for info in document.info:
        title = info.get("Title")
        if isinstance(title, bytes):
            return decode_text(title)
    return ""


def _lines(layout: Any) -> tuple[Page, bool]:
    """Return the lines of a page in reading order, and whether it has a picture."""
    from pdfminer.layout import LTFigure, LTImage, LTTextBox

    outside: list[Page] = []  # boxes
    inside: list[Page] = []  # boxes in pictures
    has_picture = False
    waiting = [(child, False) for child in reversed(list(layout))]
    while waiting:
        item, in_figure = waiting.pop()
        if isinstance(item, LTFigure):
            has_picture = True
            waiting.extend((child, True) for child in reversed(list(item)))
        elif isinstance(item, LTImage):
            has_picture = True
        elif isinstance(item, LTTextBox):
            (inside if in_figure else outside).append([line for line in map(_line, item) if line])
    letters = sum(map(str.isalpha, "".join(line.text for box in outside for line in box)))
    return in_order(outside if letters >= _MIN_LETTERS else outside + inside), has_picture


def _line(line: Any) -> Line | None:
    """Return a line of text without the raised marks of notes; None if there is no text."""
    from pdfminer.layout import LTChar, LTTextLine

    if not isinstance(line, LTTextLine):
        return None
    characters = [item for item in line if isinstance(item, LTChar) and item.upright]
    if not characters:
        return None
    sizes = sorted(character.size for character in characters)
    size = sizes[len(sizes) // 2]
    bottoms = sorted(character.y0 for character in characters)
    bottom = bottoms[len(bottoms) // 2]
    parts: list[str] = []
    for item in line:
        if not isinstance(item, LTChar):
            parts.append(item.get_text())
        elif item.upright:
            text = item.get_text()
            raised = item.size < _SMALL * size and item.y0 > bottom + _RAISED * size
            parts.append("" if raised and text in _MARKS else text)
    text = " ".join("".join(parts).split())
    if len(text) > 2 and characters[0].size > _LARGE * size and text[0].isalpha():
        text = text[0] + INITIAL + text[1:].lstrip()
    if not text:
        return None
    left = min(character.x0 for character in characters if not character.get_text().isspace())
    x0, y0, x1, y1, size = (round(value, 1) for value in (left, line.y0, line.x1, line.y1, size))
    return Line(x0, y0, x1, y1, size, text)


if __name__ == "__main__":
    try:
        code = main(sys.argv[1], *map(int, sys.argv[2:]))
    except Exception:
        code = 1
    sys.exit(code)
