"""Markdown as Jekyll, Hugo, Obsidian and Notion write it, and as people write it by hand."""

from collections.abc import Callable, Sequence

from writing.author import Author
from writing.texts import Maker, each, wrap
from writing.truth import Block

Marked = tuple[str, list[Block]]


def quoted(text: str, width: int = 0) -> str:
    """Return a quotation of Markdown or mail: each line after `> `."""
    return "\n".join(f"> {line}".rstrip() for line in (wrap(text, width) if width else text).split("\n"))


def styled(author: Author, text: str, styles: Sequence[Callable[[str], str]]) -> str:
    """Return the text with each style put on one word of letters inside it."""
    words = text.split(" ")
    places = [place for place, word in enumerate(words) if word.isalpha() and len(word) > 3 and place > 0]
    chosen = author.rng.sample(places, min(len(styles), len(places)))
    for place, style in zip(chosen, styles, strict=False):
        words[place] = style(words[place])
    return " ".join(words)


STYLES: list[Callable[[str], str]] = [
    "*{}*".format,
    "**{}**".format,
    "_{}_".format,
    "`{}`".format,
    "[{}](https://mill.example/page)".format,
    '[{}](https://weir.example/a_(b) "A title")'.format,
]


def _front_matter(author: Author) -> str:
    return (
        f'---\nlayout: post\ntitle: "{author.title()}"\ndate: 2024-03-09 10:00:00 +0100\n'
        "categories:\n  - rivers\n  - boats\ntags: [weirs, bells]\npermalink: /posts/:title/\n---\n"
    )


def _jekyll(author: Author) -> Marked:
    blocks = [*author.prose(2), author.heading(), *author.prose(2), author.heading(), *author.prose(2)]
    parts = [_front_matter(author)]
    for number, block in enumerate(blocks):
        if block.form == "heading":
            parts.append(f"## {block.text}\n")
        else:
            parts.append(wrap(styled(author, block.text, STYLES[number % 3 :: 3]), 74) + "\n")
    parts.insert(2, "<!--more-->\n\n![A boat](/assets/boat.png)\n{: .caption}\n")
    parts.insert(5, "{% include figure.html src='boat.png' %}\n\n{% highlight text %}\n{% endhighlight %}\n")
    return "\n".join(parts), blocks


def _hugo(author: Author) -> Marked:
    blocks = [*author.prose(2), author.heading(), *author.prose(3)]
    matter = (
        f'+++\ntitle = "{author.title()}"\ndraft = false\ntags = ["rivers", "boats"]\n\n[author]\nname = "A. B."\n+++\n'
    )
    parts = [f"### {block.text}\n" if block.form == "heading" else block.text + "\n" for block in blocks]
    parts.insert(1, '{{< figure src="/boat.png" alt="A boat" >}}\n')
    parts.insert(3, "{{% toc %}}\n")
    return "\n".join([matter, *parts]), blocks


def _obsidian(author: Author) -> Marked:
    blocks = author.prose(5)
    styles = [
        "[[{}]]".format,
        "=={}==".format,
        "{} ~~crossed out~~".format,
        "[[Some Other Page|{}]]".format,
        "**{}**".format,
    ]
    parts = [styled(author, block.text, styles[number % 2 :: 2]) for number, block in enumerate(blocks)]
    note = author.paragraph()
    remark = author.sentences(1)
    parts[1] += " ^block1"
    parts.insert(1, f"![[sketch.png]]\n\n%% {remark} %%")
    title = Block(author.title(), "either")
    parts.insert(3, f"> [!note] {title.text}\n{quoted(note.text)}")
    parts.append("#river #diary/2024")
    matter = "---\naliases:\n  - A boat\ntags:\n  - diary\ncreated: 2024-03-09\n---\n"
    return matter + "\n\n".join(parts) + "\n", [*blocks, title, note]


def _notion(author: Author) -> Marked:
    title = author.title()
    blocks = [*author.prose(2), author.heading(), *author.prose(2)]
    aside = author.paragraph()
    head = f"# {title}\n\nCreated: March 9, 2024 10:37 PM\nTags: rivers, boats\nStatus: Done\nURL: https://mill.example/x\n"
    parts = [f"## {block.text}" if block.form == "heading" else block.text for block in blocks]
    image = "![Untitled](The%20Boat%2012ab34cd56ef/Untitled.png)"
    icon = Block("\U0001f4a1", "either")
    parts.insert(1, f"{image}\n\n<aside>\n{icon.text} {aside.text}\n\n</aside>")
    return head + "\n" + "\n\n".join(parts) + "\n", [Block(title, "either"), *blocks, icon, aside]


def _by_hand(author: Author) -> Marked:
    """Headings of both forms glued to their text, lists after a paragraph, rules, a quotation."""
    one, two, three = author.heading(), author.heading(), author.heading()
    blocks = author.prose(6)
    items, numbered, saying = author.items(4), author.items(3), author.paragraph()
    text = [wrap(block.text, 76) for block in blocks]
    parts = [
        f"# {one.text}\n{text[0]}",
        f"{two.text}\n{'-' * len(two.text)}\n{text[1]}",
        text[2] + "\n" + "\n".join(f"* {item.text}" for item in items),
        f"{text[3]}\n\n***\n\n{three.text}\n{'=' * len(three.text)}\n\n{text[4]}",
        quoted(saying.text, 70),
        "\n".join(f"{number}. {item.text}" for number, item in enumerate(numbered, start=1)),
        text[5],
    ]
    order = [
        one,
        blocks[0],
        two,
        blocks[1],
        blocks[2],
        *items,
        blocks[3],
        three,
        blocks[4],
        saying,
        *numbered,
        blocks[5],
    ]
    return "\n\n".join(parts) + "\n", order


def _references(author: Author) -> Marked:
    """Footnotes, and links whose targets stand at the end."""
    blocks = author.prose(4)
    note = Block(author.sentences(2))
    styles = ["[{}][mill]".format, "[{}][]".format, "{}[^1]".format]
    parts = [styled(author, block.text, styles[:2]) for block in blocks]
    parts[1] = parts[1] + "[^1]"
    parts[2] = parts[2] + "[^weir]"
    words = sorted({word for part in parts for word in part.split() if word.endswith("][]")})
    targets = [f"{word[: word.index(']') + 1]}: https://weir.example/x" for word in words]
    ends = [
        "[mill]: https://mill.example/page 'A title'",
        *targets,
        f"[^1]: {note.text}",
        "[^weir]: https://weir.example",
    ]
    return "\n\n".join([*parts, "\n".join(ends)]) + "\n", [*blocks, note]


def _code_and_tables(author: Author) -> Marked:
    blocks = author.prose(4)
    code = Block("def count(planks):\n    total = sum(plank.length for plank in planks)\n    return total", "code")
    rows = [Block(" ".join(author.line("item") for _ in range(2)), "row") for _ in range(3)]
    halves = [row.text.split(" ") for row in rows]
    lines = [f"| {' '.join(words[:4])} | {' '.join(words[4:])} |" for words in halves]
    table = "\n".join([lines[0], "| --- | :-: |", *lines[1:]])
    parts = [blocks[0].text, f"```python\n{code.text}\n```", blocks[1].text, table, blocks[2].text, blocks[3].text]
    return "\n\n".join(parts) + "\n", [blocks[0], code, blocks[1], *rows, *blocks[2:]]


def _quotations(author: Author) -> Marked:
    """An essay about texts that it quotes: one line, several lines, nested, wrapped by hand."""
    blocks = [author.paragraph() for _ in range(9)]
    parts = [block.text for block in blocks]
    parts[1] = quoted(blocks[1].text)
    parts[4] = quoted(blocks[4].text, 60)
    parts[6] = "\n".join(f"> {line}" for line in quoted(blocks[6].text, 60).split("\n"))
    return "\n\n".join(parts) + "\n", blocks


def _links(author: Author) -> Marked:
    blocks = author.prose(5)
    parts = [styled(author, block.text, [STYLES[4], STYLES[5], STYLES[4]]) for block in blocks]
    parts[2] += " (<https://weir.example/a>)"
    return "\n\n".join(parts) + "\n", blocks


def _escapes(author: Author) -> Marked:
    blocks = author.prose(3)
    templates = (
        "{Who} paid \\$40, {what} and \\$5 {time}, {link} {clause}.",
        "\\[laughs\\] {Clause}, {link} {clause}.",
    )
    for template in templates:
        blocks.append(Block(author.written(template)))
    blocks.append(author.paragraph())
    own = [Block(block.text.replace("\\$", "$").replace("\\[laughs\\]", "[laughs]")) for block in blocks]
    return "\n\n".join(block.text for block in blocks) + "\n", own


def _html_inside(author: Author) -> Marked:
    blocks = author.prose(5)
    parts = [styled(author, block.text, ["<em>{}</em>".format, "<b>{}</b>".format]) for block in blocks]
    parts[1] = f"<div class='note'>\n<p>{parts[1]}</p>\n</div>"
    parts[2] += "<br>"
    parts.insert(3, "<script>var boat = 1; function row() { return boat; }</script>\n<style>p { color: red }</style>")
    parts[4] = f"<details>\n<summary></summary>\n\n{parts[4]}\n\n</details>"
    return "\n\n".join(parts) + "\n", blocks


def _verse(author: Author) -> Marked:
    """Lines of verse that end in two blanks or a backslash."""
    stanzas = [author.stanza() for _ in range(3)]
    prose = author.prose(2)
    ends = ("  \n", "\\\n", "<br>\n")
    parts = [stanza.text.replace("\n", end) for stanza, end in zip(stanzas, ends, strict=True)]
    return "\n\n".join([prose[0].text, *parts, prose[1].text]) + "\n", [prose[0], *stanzas, prose[1]]


def _sentence_a_line(author: Author) -> Marked:
    groups = [[author.sentences(1) for _ in range(author.rng.randint(3, 5))] for _ in range(5)]
    return "\n\n".join("\n".join(group) for group in groups) + "\n", [Block(" ".join(group)) for group in groups]


KINDS: dict[str, Maker] = {
    "markdown-jekyll": each("2024-03-{:02}-post.md", _jekyll),
    "markdown-hugo": each("post{}.md", _hugo),
    "markdown-obsidian": each("Note {}.md", _obsidian),
    "markdown-notion": each("Page {} 12ab34cd56ef.md", _notion),
    "markdown-by-hand": each("notes{}.markdown", _by_hand),
    "markdown-references": each("post{}.md", _references),
    "markdown-code-and-tables": each("post{}.md", _code_and_tables),
    "markdown-html": each("post{}.md", _html_inside),
    "markdown-verse": each("poem{}.md", _verse),
    "markdown-sentence-a-line": each("post{}.md", _sentence_a_line),
    "essay-quotations": each("essay{}.md", _quotations),
    "essay-links": each("essay{}.md", _links),
    "essay-escapes": each("essay{}.md", _escapes),
}
