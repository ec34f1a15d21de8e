"""Web pages, and records that hold text: JSON, JSON lines, Evernote, a dump of a wiki."""

import html
import json
from collections.abc import Sequence

from writing.author import Author
from writing.texts import Builder, Maker, each
from writing.truth import Block, Sample

BYLINE = Block("Posted by A. Berg on March 9, 2024", "either")


def tagged(blocks: Sequence[Block]) -> str:
    """Return blocks as HTML: paragraphs, headings, lists, verse with line breaks."""
    parts: list[str] = []
    for block in blocks:
        text = html.escape(block.text, quote=False)
        if block.form == "heading":
            parts.append(f"<h2>{text}</h2>")
        elif block.form == "item":
            parts.append(f"<ul><li>{text}</li></ul>")
        else:
            parts.append(f"<p>{text.replace(chr(10), '<br/>')}</p>")
    return "\n".join(parts).replace("</ul>\n<ul>", "\n")


def _page(title: str, article: str, author: Author, comments: int) -> str:
    menu = "".join(f"<li><a href='/c{n}'>Things of kind {n}</a></li>" for n in range(30))
    said = "".join(
        f"<div class='comment'><b>{author.rng.choice(('bob', 'mia', 'kay'))}</b> <time>3 days ago</time>"
        f"<p>{author.sentences(1)}</p><a>Reply</a></div>"
        for _ in range(comments)
    )
    return (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>The boat | A. Berg</title>"
        "<style>p { color: red }</style><script>var boat = 1;</script></head><body>"
        f"<nav><ul>{menu}</ul></nav><div id='cookies'><p>We use cookies to improve your experience.</p>"
        f"<button>Accept all</button></div><div class='sidebar'><h3>Recent posts</h3><ul>{menu}</ul></div>"
        f"<main><article><h1>{title}</h1><p class='byline'>{BYLINE.text}</p>{article}"
        f"</article></main><section id='comments' class='comments'><h3>Comments</h3>{said}</section>"
        "<footer><p>Subscribe to our newsletter.</p><p>Copyright 2024 A. Berg</p></footer></body></html>"
    )


def _article(paragraphs: int, comments: int) -> Builder:
    def build(author: Author) -> tuple[str, list[Block]]:
        blocks = author.prose(paragraphs)
        if paragraphs > 4:
            blocks[3:3] = [author.heading(), *author.items(3)]
        title = Block(author.title(), "either")
        return _page(title.text, tagged(blocks), author, comments), [title, BYLINE, *blocks]

    return build


def _saved_as_text(author: Author) -> tuple[str, list[Block]]:
    blocks = author.prose(4)
    head = "<html><head><style>p{color:red}</style><script>var a=1;function f(){return a}</script></head><body>"
    return head + tagged(blocks).replace("\n", "") + "</body></html>", blocks


# --- Records ---------------------------------------------------------------------------------------------------------


def _json_array(author: Author, count: int) -> Sample:
    documents = [author.prose(4) for _ in range(count)]
    records = [
        {"id": number, "title": author.title(), "tags": ["rivers"], "text": "\n\n".join(block.text for block in blocks)}
        for number, blocks in enumerate(documents)
    ]
    return Sample({"posts.json": json.dumps(records, indent=1).encode()}, documents)


def _json_lines(as_html: bool) -> Maker:
    def make(author: Author, count: int) -> Sample:
        lines, documents = [], []
        for _ in range(count):
            blocks = author.prose(4)
            text = "\n\n".join(block.text for block in blocks)
            if as_html:
                text = "<p>" + text.replace("\n\n", author.rng.choice(("</p><p>", "<br><br>", "<p>")))
            lines.append(json.dumps({"url": "https://mill.example", "text": text}))
            documents.append(blocks)
        return Sample({"posts.jsonl": "\n".join(lines).encode()}, documents)

    return make


def _evernote(author: Author, count: int) -> Sample:
    documents, notes = [], []
    for _ in range(count):
        blocks = [*author.prose(2), *author.items(3), *author.prose(2)]
        body = tagged(blocks).replace("<p>", "<div>").replace("</p>", "</div>")
        notes.append(
            f"<note><title>{author.title()}</title><content><![CDATA[<?xml version='1.0' encoding='UTF-8'?>"
            f"<!DOCTYPE en-note SYSTEM 'http://xml.evernote.com/pub/enml2.dtd'><en-note>{body}"
            "<en-media type='image/png' hash='00aa'/></en-note>]]></content><created>20240309T103700Z</created>"
            "<tag>rivers</tag><note-attributes><author>A. B.</author></note-attributes>"
            "<resource><data encoding='base64'>aGFsbG8gaGFsbG8=</data><mime>image/png</mime></resource></note>"
        )
        documents.append(blocks)
    head = "<?xml version='1.0' encoding='UTF-8'?>\n<!DOCTYPE en-export SYSTEM 'http://xml.evernote.com/pub/evernote-export3.dtd'>\n"
    return Sample({"notes.enex": f"{head}<en-export>{''.join(notes)}</en-export>".encode()}, documents)


def _wiki(author: Author, count: int) -> Sample:
    documents, pages = [], []
    for number in range(count):
        blocks = author.prose(4)
        marks = ("'''{}'''", "[[{}]]", "{{{{nowrap|{}}}}}", "{{{{lang|en|{}}}}}", "[[Some page|{}]]", "''{}''")
        texts = []
        for block in blocks:
            words = block.text.split(" ")
            places = [place for place, word in enumerate(words) if word.isalpha() and len(word) > 3 and place]
            for place, mark in zip(author.rng.sample(places, 4), author.rng.sample(marks, 4), strict=True):
                words[place] = mark.format(words[place])
            texts.append(" ".join(words))
        texts[1] += "<ref>{{cite book|title=Rivers|author=A. Berg|year=1911}}</ref>"
        texts.insert(0, "{{Infobox river|name=Aue|length=93}}")
        texts += ["== References ==", "{{reflist}}", "[[Category:Rivers]]"]
        body = html.escape("\n\n".join(texts), quote=False)
        pages.append(f"<page><title>Page {number}</title><ns>0</ns><revision><text>{body}</text></revision></page>")
        documents.append(blocks)
    return Sample({"dump.xml": f"<mediawiki>{''.join(pages)}</mediawiki>".encode()}, documents)


KINDS: dict[str, Maker] = {
    "page-long": each("page{}.html", _article(12, 8)),
    "page-short": each("page{}.html", _article(3, 20)),
    "page-saved-as-text": each("page{}.txt", _saved_as_text),
    "json-array": _json_array,
    "json-lines": _json_lines(as_html=False),
    "json-lines-html": _json_lines(as_html=True),
    "evernote": _evernote,
    "wikipedia": _wiki,
}
