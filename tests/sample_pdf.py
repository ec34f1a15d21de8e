"""A small writer of PDF files, as the tests need them: text at given places."""

import textwrap
import zlib
from collections.abc import Callable

Placed = tuple[float, float, float, str]  # x, y, size, text


def pdf(
    pages: list[list[Placed]], title: str = "", picture: bool = False, trailer: str = "", content: bytes = b""
) -> bytes:
    """Return a PDF with these lines of text on its pages.

    Args:
      picture: whether each page shows a picture.
      trailer: more entries of the trailer.
      content: what each page shows besides, in the language of PDF.
    """
    objects: list[bytes] = []

    def add(made: bytes) -> int:
        objects.append(made)
        return len(objects)

    font = add(b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>")
    image = _stream(
        add,
        b"\xff\x00\x00",
        "/Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceRGB /BitsPerComponent 8 ",
    )
    numbers = []
    parent = len(objects) + 2 * len(pages) + 1
    for page in pages:
        shown = [f"BT /F1 {size} Tf {x} {y} Td ({_escaped(text)}) Tj ET" for x, y, size, text in page]
        shown += ["q 300 0 0 300 50 50 cm /I1 Do Q"] if picture else []
        drawn = _stream(add, content + "\n".join(shown).encode("cp1252"))
        numbers.append(
            add(
                f"<< /Type /Page /Parent {parent} 0 R /MediaBox [0 0 600 800] /Contents {drawn} 0 R "
                f"/Resources << /Font << /F1 {font} 0 R >> /XObject << /I1 {image} 0 R >> >> >>".encode()
            )
        )
    kids = " ".join(f"{number} 0 R" for number in numbers)
    assert add(f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode()) == parent
    root = add(f"<< /Type /Catalog /Pages {parent} 0 R >>".encode())
    info = add(f"<< /Title ({_escaped(title)}) >>".encode("cp1252"))
    return _file(objects, f"/Root {root} 0 R /Info {info} 0 R {trailer}")


def _stream(add: Callable[[bytes], int], data: bytes, entries: str = "") -> int:
    packed = zlib.compress(data)
    head = f"<< {entries}/Length {len(packed)} /Filter /FlateDecode >>\nstream\n".encode()
    return add(head + packed + b"\nendstream")


def _file(objects: list[bytes], trailer: str) -> bytes:
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + content + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += f"trailer\n<< /Size {len(objects) + 1} {trailer} >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def printed(
    paragraphs: list[str], width: int = 60, indent: int = 3, leading: float = 14, lines_a_page: int = 40, gap: float = 0
) -> list[list[Placed]]:
    """Return pages with paragraphs set in lines of `width` characters.

    Args:
      indent: of first lines, in characters.
      leading: points from one line to the next.
      gap: points between paragraphs.
    """
    lines: list[tuple[int, str]] = []
    for paragraph in paragraphs:
        wrapped = textwrap.wrap(paragraph, width, initial_indent=" " * indent, break_on_hyphens=False)
        lines += ((len(line) - len(line.lstrip()), line.lstrip()) for line in wrapped)
        lines[-1] = (lines[-1][0], lines[-1][1] + "\n")  # marks the end of a paragraph
    pages: list[list[Placed]] = []
    for start in range(0, len(lines), lines_a_page):
        y, page = 700.0, []
        for blanks, text in lines[start : start + lines_a_page]:
            page.append((70 + 6.6 * blanks, y, 11.0, text.rstrip("\n")))
            y -= leading + gap * text.endswith("\n")
        pages.append(page)
    return pages
