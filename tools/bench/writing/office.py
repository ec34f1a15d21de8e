"""Documents of word processors, e-books, Rich Text."""

import io
import zipfile
from collections.abc import Sequence
from xml.sax.saxutils import escape

from writing.author import Author
from writing.pages import tagged
from writing.texts import Builder, Maker, each
from writing.truth import Block

_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
_TYPES = "application/vnd.openxmlformats-officedocument.wordprocessingml"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OPEN = "urn:oasis:names:tc:opendocument:xmlns"


def archive(members: dict[str, str]) -> bytes:
    """Return a zip file. The first member is stored, as .odt and .epub ask for their type."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for number, (name, content) in enumerate(members.items()):
            info = zipfile.ZipInfo(name, (2024, 3, 9, 10, 37, 0))
            info.compress_type = zipfile.ZIP_DEFLATED if number else zipfile.ZIP_STORED
            file.writestr(info, content)
    return out.getvalue()


def _mixed(author: Author) -> list[Block]:
    """Return a heading, prose, a list and a stanza."""
    start = [author.heading(), *author.prose(3), *author.items(3)]
    return [*start, author.paragraph(), author.stanza(), author.paragraph()]


# --- Word ------------------------------------------------------------------------------------------------------------


def _run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r>'


def _word_paragraph(block: Block) -> str:
    """A paragraph in three runs, the middle one in italics; verse with line breaks."""
    if block.form == "heading":
        return f'<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr>{_run(block.text)}</w:p>'
    if block.form == "item":
        number = '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>'
        return f'<w:p><w:pPr><w:pStyle w:val="ListParagraph"/>{number}</w:pPr>{_run(block.text)}</w:p>'
    if block.form == "verse":
        return f"<w:p>{'<w:r><w:br/></w:r>'.join(_run(line) for line in block.text.split(chr(10)))}</w:p>"
    first, second = len(block.text) // 3, 2 * len(block.text) // 3
    middle = f'<w:r><w:rPr><w:i/></w:rPr><w:t xml:space="preserve">{escape(block.text[first:second])}</w:t></w:r>'
    return f"<w:p>{_run(block.text[:first])}{middle}{_run(block.text[second:])}</w:p>"


def _word_file(body: str, namespace: str = _WORD, more: dict[str, str] | None = None) -> bytes:
    return archive(
        {
            "[Content_Types].xml": f'{_XML}<Types xmlns="{_PACKAGE}/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            '<Default Extension="xml" ContentType="application/xml"/>'
            f'<Override PartName="/word/document.xml" ContentType="{_TYPES}.document.main+xml"/></Types>',
            "_rels/.rels": f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
            f'Type="{_RELATIONS}/officeDocument" Target="word/document.xml"/></Relationships>',
            "word/document.xml": f'{_XML}<w:document xmlns:w="{namespace}"><w:body>{body}</w:body></w:document>',
            **(more or {}),
        }
    )


def _docx(namespace: str) -> Builder:
    def build(author: Author) -> tuple[bytes, list[Block]]:
        blocks = _mixed(author)
        parts = [_word_paragraph(block) for block in blocks]
        deleted = (
            f'<w:p><w:del w:id="1" w:author="A"><w:r><w:delText>{author.sentences(1)}</w:delText></w:r></w:del></w:p>'
        )
        parts.insert(2, f'<w:p><w:del w:id="1" w:author="A">{deleted}</w:del></w:p>')
        header = f'{_XML}<w:hdr xmlns:w="{namespace}"><w:p>{_run(author.title())}</w:p></w:hdr>'
        comment = f"<w:comment w:id='1'><w:p>{_run(author.sentences(1))}</w:p></w:comment>"
        comments = f'{_XML}<w:comments xmlns:w="{namespace}">{comment}</w:comments>'
        more = {"word/header1.xml": header, "word/comments.xml": comments}
        return _word_file("".join(parts), namespace, more), blocks

    return build


def _drop_cap(author: Author) -> tuple[bytes, list[Block]]:
    blocks = author.prose(4)
    cap = f'<w:p><w:pPr><w:framePr w:dropCap="drop" w:lines="3"/></w:pPr>{_run(blocks[0].text[0])}</w:p>'
    parts = [_word_paragraph(block) for block in [Block(blocks[0].text[1:]), *blocks[1:]]]
    return _word_file(cap + "".join(parts)), blocks


# --- OpenDocument, e-books, Rich Text --------------------------------------------------------------------------------


def _open_paragraph(block: Block) -> str:
    text = escape(block.text).replace("\n", "<text:line-break/>")
    if block.form == "heading":
        return f'<text:h text:outline-level="1">{text}</text:h>'
    if block.form == "item":
        return f"<text:list><text:list-item><text:p>{text}</text:p></text:list-item></text:list>"
    middle = text.find(" ", len(text) // 2) + 1 if block.form == "prose" else 0
    return f'<text:p>{text[:middle]}<text:span text:style-name="T1">{text[middle:]}</text:span></text:p>'


def _odt(author: Author) -> tuple[bytes, list[Block]]:
    blocks = _mixed(author)
    parts = "".join(map(_open_paragraph, blocks))
    deleted = f"<text:p>{author.sentences(1)}</text:p>"
    change = f'<text:changed-region text:id="c1"><text:deletion>{deleted}</text:deletion></text:changed-region>'
    changes = f"<text:tracked-changes>{change}</text:tracked-changes>"
    content = (
        f'{_XML}<office:document-content xmlns:office="{_OPEN}:office:1.0" xmlns:text="{_OPEN}:text:1.0">'
        f"<office:body><office:text>{changes}{parts}</office:text></office:body></office:document-content>"
    )
    return archive({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content}), blocks


def _epub(author: Author) -> tuple[bytes, list[Block]]:
    chapters = [[author.heading(), *author.prose(4), author.stanza(), *author.prose(1)] for _ in range(2)]
    html = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head><body>{}</body></html>'
    members = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">'
        '<rootfiles><rootfile full-path="o/c.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
        "o/c.opf": '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata/><manifest>'
        '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
        '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>'
        '<item id="b" href="b.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="nav"/><itemref idref="a"/><itemref idref="b"/></spine></package>',
        "o/nav.xhtml": html.format(
            "<nav><ol><li><a href='a.xhtml'>One</a></li><li><a href='b.xhtml'>Two</a></li></ol></nav>"
        ),
        "o/a.xhtml": html.format(tagged(chapters[0])),
        "o/b.xhtml": html.format(tagged(chapters[1])),
    }
    return archive(members), [block for chapter in chapters for block in chapter]


def _rtf_text(text: str) -> str:
    """Escape a text for RTF: cp1252 by its bytes."""
    out = text.replace("\\", "\\\\").replace("{", "\\{").replace("}", "\\}")
    return "".join(char if char.isascii() else f"\\'{char.encode('cp1252')[0]:02x}" for char in out)


def _rtf(author: Author) -> tuple[str, list[Block]]:
    blocks: Sequence[Block] = [*author.prose(2), author.paragraph("accented"), *author.prose(2)]
    body = "\\par\n".join(f"\\pard\\fs24 {_rtf_text(block.text)}" for block in blocks)
    head = (
        "{\\rtf1\\ansi\\ansicpg1252\\deff0{\\fonttbl{\\f0 Times New Roman;}}{\\colortbl;\\red0\\green0\\blue0;}"
        f"{{\\*\\generator Something 1.0;}}{{\\info{{\\title {author.title()}}}}}\n"
    )
    return f"{head}{body}\\par}}", list(blocks)


KINDS: dict[str, Maker] = {
    "word": each("essay{}.docx", _docx(_WORD)),
    "word-strict": each("essay{}.docx", _docx(_STRICT)),
    "word-drop-cap": each("essay{}.docx", _drop_cap),
    "opendocument": each("essay{}.odt", _odt),
    "epub": each("book{}.epub", _epub),
    "rtf": each("essay{}.rtf", _rtf),
}
