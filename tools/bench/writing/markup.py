"""Text with markup of other kinds than Markdown: LaTeX, Org, AsciiDoc, reStructuredText."""

from writing.author import Author
from writing.markdown import styled
from writing.texts import Maker, each, wrap
from writing.truth import Block


def _tex(author: Author) -> tuple[str, list[Block]]:
    one, two = author.heading(), author.heading()
    blocks, saying, note, items = author.prose(5), author.paragraph(), Block(author.sentences(1)), author.items(3)
    styles = ["\\emph{{{}}}".format, "\\textbf{{{}}}".format, "\\textit{{{}}}".format]
    text = [styled(author, block.text, styles).replace(' "', " ``").replace('"', "''") for block in blocks]
    text = [wrap(part, 74) for part in text]
    text[0] = text[0] + "~\\cite{berg1911}"
    text[1] = text[1] + f"\\footnote{{{note.text}}}"
    listed = "\n".join(f"  \\item {item.text}" for item in items)
    source = (
        "\\documentclass[12pt]{article}\n\\usepackage{csquotes}\n\\usepackage[utf8]{inputenc}\n"
        f"\\newcommand{{\\boat}}{{the Berg}}\n\\title{{{author.title()}}}\n\\author{{A. Berg}}\n\\date{{\\today}}\n"
        f"\\begin{{document}}\n\\maketitle\n\\tableofcontents\n\n\\section{{{one.text}}}\n\\label{{sec:one}}\n{text[0]}\n\n"
        f"% a remark to myself\n{text[1]}\n\n\\begin{{quote}}\n{wrap(saying.text, 70)}\n\\end{{quote}}\n\n{text[2]}\n\n"
        f"\\subsection*{{{two.text}}}\n{text[3]}\n\n\\begin{{itemize}}\n{listed}\n\\end{{itemize}}\n\n"
        "\\begin{figure}\n\\includegraphics[width=3cm]{boat.png}\n\\end{figure}\n\n"
        f"{text[4]}\n\n\\bibliographystyle{{plain}}\n\\bibliography{{rivers}}\n\\end{{document}}\n"
    )
    return source, [one, *blocks[:2], saying, blocks[2], two, blocks[3], *items, blocks[4], note]


def _org(author: Author) -> tuple[str, list[Block]]:
    one, two = author.heading(), author.heading()
    blocks, saying, items = author.prose(5), author.paragraph(), author.items(3)
    styles = ["*{}*".format, "/{}/".format, "=%s=".__mod__, "[[https://mill.example][{}]]".format]
    text = [wrap(styled(author, block.text, styles), 74) for block in blocks]
    listed = "\n".join(f"- {item.text}" for item in items)
    source = (
        f"#+TITLE: {author.title()}\n#+AUTHOR: A. Berg\n#+OPTIONS: toc:nil\n\n# a remark to myself\n\n{text[0]}\n\n"
        f"* {one.text} :rivers:boats:\n:PROPERTIES:\n:ID: 12ab-34cd\n:END:\n{text[1]}\n\n"
        f"#+begin_quote\n{wrap(saying.text, 70)}\n#+end_quote\n\n** TODO {two.text}\nSCHEDULED: <2024-03-09 Sat>\n"
        f"{text[2]}\n\n{listed}\n\n{text[3]}\n\n[[file:boat.png]]\n\n{text[4]}\n"
    )
    return source, [blocks[0], one, blocks[1], saying, two, blocks[2], *items, *blocks[3:]]


def _adoc(author: Author) -> tuple[str, list[Block]]:
    one, two = author.heading(), author.heading()
    blocks, saying, items = author.prose(5), author.paragraph(), author.items(3)
    styles = ["*{}*".format, "_{}_".format, "`{}`".format, "https://mill.example[{}]".format]
    text = [wrap(styled(author, block.text, styles), 74) for block in blocks]
    listed = "\n".join(f"* {item.text}" for item in items)
    title = Block(author.title(), "either")
    source = (
        f"= {title.text}\nA. Berg <a@example.org>\n:toc:\n:icons: font\n\n{text[0]}\n\n// a remark to myself\n\n"
        f"== {one.text}\n\n{text[1]}\n\n[quote, A. Berg]\n____\n{wrap(saying.text, 70)}\n____\n\n"
        f"[[two]]\n=== {two.text}\n\n{text[2]}\n\n{listed}\n\nimage::boat.png[A boat]\n\n"
        f"{text[3]}\n\n////\nnothing here\n////\n\n"
        f"{text[4]}\n"
    )
    own = [title, blocks[0], one, blocks[1], saying, two, blocks[2], *items, *blocks[3:]]
    return source, [*own, Block("A. Berg", "either")]


def _rst(author: Author) -> tuple[str, list[Block]]:
    title, one, two = author.heading(), author.heading(), author.heading()
    blocks, saying, items = author.prose(5), author.paragraph(), author.items(3)
    styles = ["*{}*".format, "**{}**".format, "``{}``".format, "`{} <https://mill.example>`_".format]
    text = [wrap(styled(author, block.text, styles), 74) for block in blocks]
    listed = "\n".join(f"* {item.text}" for item in items)
    quote = "\n".join(f"    {line}" for line in wrap(saying.text, 66).split("\n"))
    bar = {heading: "=" * len(heading.text) for heading in (title, one, two)}
    source = (
        f"{bar[title]}\n{title.text}\n{bar[title]}\n\n:date: 2024-03-09\n:tags: rivers\n\n"
        f"{text[0]}\n\n.. a remark to myself\n\n"
        f"{one.text}\n{bar[one]}\n\n{text[1]}\n\n{quote}\n\n.. image:: boat.png\n   :alt: A boat\n\n.. _two:\n\n"
        f"{two.text}\n{bar[two].replace('=', '-')}\n\n{text[2]}\n\n{listed}\n\n{text[3]}\n\n{text[4]} [1]_\n\n"
        ".. [1] https://weir.example\n"
    )
    own = [Block(title.text, "either"), blocks[0], one, blocks[1], saying, two, blocks[2], *items, *blocks[3:]]
    return source, own


KINDS: dict[str, Maker] = {
    "latex": each("essay{}.tex", _tex),
    "org": each("notes{}.org", _org),
    "asciidoc": each("post{}.adoc", _adoc),
    "restructuredtext": each("post{}.rst", _rst),
}
