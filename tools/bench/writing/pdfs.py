"""PDF files, written by hand: pages with running heads, hyphens at line ends, one or two columns."""

import textwrap
from collections.abc import Sequence

from writing.author import Author
from writing.texts import Builder, Maker, each
from writing.truth import Block

_TOP = 730  # points from the bottom of the page to its first line
_LEAST = 3  # letters of a word before and after a hyphen

Line = tuple[int, int, str]  # points from the left and from the bottom, text


def hyphenated(text: str, width: int) -> list[str]:
    """Wrap a paragraph; a long word that does not fit is broken with a hyphen."""
    lines, line = [], ""
    for word in text.split(" "):
        room = width - len(line) - 1
        if len(word) > room and word.isalpha() and word.islower() and _LEAST <= room - 1 <= len(word) - _LEAST:
            lines.append(f"{line} {word[: room - 1]}-")
            line = word[room - 1 :]
        elif len(word) > room:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]


def document(pages: Sequence[Sequence[Line]]) -> bytes:
    """Return a PDF file in which each line of a page is one text object."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Times-Roman /Encoding /WinAnsiEncoding >>")
    children = []
    for page in pages:
        lines = (f"BT /F1 11 Tf {x} {y} Td ({_escaped(text)}) Tj ET" for x, y, text in page)
        stream = "\n".join(lines)
        children.append(f"{len(objects) + 1} 0 R")
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            f"/Contents {len(objects) + 2} 0 R >>"
        )
        objects.append(f"<< /Length {len(stream.encode('cp1252'))} >>\nstream\n{stream}\nendstream")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(children)}] /Count {len(children)} >>"
    out, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n".encode("cp1252")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + f"xref\n0 {size}\n0000000000 65535 f \n{table}{end}".encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def _paper(columns: int, hyphens: bool, leading: int = 14) -> Builder:
    """Return a builder of papers. `leading` is the distance of two lines in points."""
    width = 40 if columns == 2 else 78
    lines_a_column = 660 // leading

    def build(author: Author) -> tuple[bytes, list[Block]]:
        blocks, title = author.prose(30), author.title()
        lines: list[str] = []
        for block in blocks:
            first, *rest = hyphenated(block.text, width) if hyphens else textwrap.wrap(block.text, width)
            lines += ["  " + first, *rest]
        pages: list[list[Line]] = []
        for start in range(0, len(lines), lines_a_column * columns):
            number = len(pages) + 1
            page: list[Line] = [(72 if number % 2 else 420, 762, title if number % 2 else "A. Berg")]
            for place, line in enumerate(lines[start : start + lines_a_column * columns]):
                column, row = divmod(place, lines_a_column)
                indent = 12 if line.startswith(" ") else 0
                page.append((60 + 260 * column + indent, _TOP - leading * row, line.strip()))
            page.append((300, 40, str(number)))
            pages.append(page)
        return document(pages), blocks

    return build


KINDS: dict[str, Maker] = {
    "pdf": each("paper{}.pdf", _paper(1, hyphens=False)),
    "pdf-hyphens": each("paper{}.pdf", _paper(1, hyphens=True)),
    "pdf-double-spaced": each("paper{}.pdf", _paper(1, hyphens=False, leading=24)),
    "pdf-two-columns": each("paper{}.pdf", _paper(2, hyphens=True, leading=13)),
}
