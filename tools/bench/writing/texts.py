"""Plain text: line breaks of every kind, diaries, essays, drafts, books in one file, encodings."""

import textwrap
from collections.abc import Callable, Iterable, Sequence

from writing.author import Author
from writing.truth import Block, Sample

Maker = Callable[[Author, int], Sample]
Builder = Callable[[Author], tuple[str | bytes, Sequence[Block]]]
_WIDTHS = (45, 55, 72, 90, 100, 110)


def each(pattern: str, build: Builder) -> Maker:
    """Return a maker of so many files of one document each. `pattern` has a place for a number."""

    def make(author: Author, count: int) -> Sample:
        sample = Sample()
        for number in range(1, count + 1):
            content, blocks = build(author)
            data = content.encode("utf-8") if isinstance(content, str) else content
            sample.add(pattern.format(number), data, blocks)
        return sample

    return make


def wrap(text: str, width: int) -> str:
    """Break prose into lines between words; verse keeps its lines."""
    return "\n".join(
        textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) for line in text.split("\n")
    )


def joined(blocks: Iterable[Block], width: int = 0, between: str = "\n\n") -> str:
    """Return the texts of blocks with a blank line between them, wrapped if a width is given."""
    return between.join(wrap(block.text, width) if width else block.text for block in blocks) + "\n"


# --- Line breaks -----------------------------------------------------------------------------------------------------


def _wrapped(width: int) -> Builder:
    def build(author: Author) -> tuple[str, list[Block]]:
        blocks = [*author.prose(4), *author.talk(3), *author.prose(2)]
        return joined(blocks, width), blocks

    return build


def _unwrapped(author: Author) -> tuple[str, list[Block]]:
    blocks = [*author.prose(3), *author.talk(2), *author.prose(2)]
    return joined(blocks, between="\n"), blocks


def _indented(author: Author) -> tuple[str, list[Block]]:
    """No blank lines: a paragraph begins with an indented line."""
    blocks = author.prose(6)
    lines = (textwrap.fill(block.text, 70, initial_indent="    ", break_on_hyphens=False) for block in blocks)
    return "\n".join(lines) + "\n", blocks


def _double_spaced(author: Author) -> tuple[str, list[Block]]:
    blocks = author.prose(5)
    return "\n\n\n\n".join(wrap(block.text, 68).replace("\n", "\n\n") for block in blocks) + "\n", blocks


def _stray_returns(author: Author) -> tuple[bytes, list[Block]]:
    """Lines end in CR CR LF, as after two conversions."""
    blocks = author.prose(5)
    return joined(blocks, 72).replace("\n", "\r\r\n").encode(), blocks


def _sentence_a_line(author: Author) -> tuple[str, list[Block]]:
    groups = [[author.sentences(1) for _ in range(author.rng.randint(3, 5))] for _ in range(5)]
    return "\n\n".join("\n".join(group) for group in groups) + "\n", [Block(" ".join(group)) for group in groups]


def _prose_and_verse(author: Author) -> tuple[str, list[Block]]:
    blocks = [author.paragraph(), *(author.stanza() for _ in range(3)), author.paragraph()]
    blocks += [*(author.stanza(6) for _ in range(3)), *author.prose(2)]
    return joined(blocks, 70), blocks


def _hyphens(author: Author) -> tuple[str, list[Block]]:
    """Words broken at a line's end with a soft hyphen, U+2010 or a not sign."""
    blocks = author.prose(4)
    parts = []
    for block in blocks:
        words = block.text.split(" ")
        for place in author.rng.sample(range(len(words)), 3):
            if words[place].isalpha() and len(words[place]) > 5:
                words[place] = words[place][:3] + author.rng.choice("\u00ad\u2010\u00ac") + "\n" + words[place][3:]
        parts.append("\n".join(wrap(line, 70) for line in " ".join(words).split("\n")))
    return "\n\n".join(parts) + "\n", blocks


def _printed(author: Author) -> tuple[str, list[Block]]:
    """Text out of a PDF: pages with running heads and numbers that stand inside sentences."""
    blocks, title = author.prose(12), author.title()
    lines = joined(blocks, 64).rstrip("\n").split("\n")
    pages = []
    for number, start in enumerate(range(0, len(lines), 14), start=1):
        head = f"{number}    {title.upper()}" if number % 2 else f"{title.upper()}    {number}"
        pages.append("\n".join([head, "", *lines[start : start + 14], "", f"- {number} -"]))
    return "\n\f".join(pages) + "\n", blocks


# --- Diaries, essays -------------------------------------------------------------------------------------------------


def _diary_of_hours(author: Author) -> tuple[str, list[Block]]:
    hours = sorted(author.rng.sample(range(6, 22), 5))
    marks = [" -- ", " Breakfast: ", ": ", " ", " -- "]
    notes = [
        Block(f"{hour:02}:{author.rng.randint(10, 59)}{mark}{author.line('personal')}")
        for hour, mark in zip(hours, marks, strict=True)
    ]
    notes += [Block(f"{hour}:30 -- {author.line('personal')}") for hour in (22, 23, 24)]
    blocks = [*notes, *author.prose(3)]
    return joined(blocks), blocks


def _diary_of_i(author: Author) -> tuple[str, list[Block]]:
    notes = [Block(author.written("I {v} {det} {n} {d}.")) for _ in range(5)]
    blocks = [*notes, *author.prose(3)]
    return joined(blocks), blocks


def _dated_diary(author: Author) -> tuple[str, list[Block]]:
    days = [f"{day}, {author.rng.randint(1, 28)} March" for day in ("Monday", "Tuesday", "Friday", "Sunday")]
    blocks = [Block(f"{day}. {author.sentences(3, 'personal')}") for day in days]
    return joined(blocks, 72), blocks


def _anaphora(author: Author) -> tuple[str, list[Block]]:
    beginnings = ("I remember how", "I still hear", "Not once did", "Suppose, then, that", "Nobody says that")
    first = author.rng.choice(beginnings)
    notes = [Block(author.written(first + " {clause}, {link} {clause}.")) for _ in range(6)]
    blocks = [author.paragraph(), *notes, author.paragraph()]
    return joined(blocks), blocks


def _updates(author: Author) -> tuple[str, list[Block]]:
    blocks = author.prose(6)
    for place, mark in ((1, "Update: "), (3, "Edit: "), (5, "PS: ")):
        blocks.insert(place, Block(mark + author.sentences(1)))
    return joined(blocks), blocks


def _topics(author: Author) -> tuple[str, list[Block]]:
    """Sentences about what notices name: JavaScript, ISBN, terms of service, the Gutenberg project."""
    sentences = (
        "My {a} plugin in JavaScript {v} {what}, {link} {clause}.",
        "The {a} terms of service {v} {what}, and {clause}.",
        "The ISBN of {what} {v} {what}, {link} {clause}.",
        "{Who} found Project Gutenberg {d}, {link} {clause}.",
    )
    beginnings = (
        "Produced by {who} {time}, {what} {i} {where}.",
        "All rights reserved, {said} {who} {time}, {link} {clause}.",
        "Please subscribe to {what}, {name} {said}, {link} {clause}.",
    )
    blocks = author.prose(3)
    blocks += [Block(author.written(template)) for template in sentences]
    blocks += [Block(f"{author.written(template)} {author.sentences(3)}") for template in beginnings]
    blocks += author.prose(4)
    return joined(blocks), blocks


def _dialogue(author: Author) -> tuple[str, list[Block]]:
    blocks = [author.paragraph(), *author.talk(6), author.paragraph()]
    templates = (
        "\u201cWhat!?\u201d cried {name}. \u201cNo!! {Who} {v} {what}!\u201d",
        "\u201cI dunno,\u201d said {name}. \u201cI'm gonna ask {who} for {what}.\u201d",
        "\u201cLol, {who} {v} {what},\u201d said {name}. \u201cOMG, {clause}!\u201d",
    )
    for template in templates:
        blocks.append(Block(author.written(template)))
    blocks.append(author.paragraph())
    return joined(blocks), blocks


def _interview(author: Author) -> tuple[str, list[Block]]:
    name = author.rng.choice(("Anna", "Tobias", "Mrs Berg"))
    blocks = [author.paragraph()]
    for _ in range(4):
        blocks.append(Block(f"Interviewer: {author.line('speech')}"))
        blocks.append(Block(f"{name}: {author.sentences(2, 'personal')}"))
    blocks.append(author.paragraph())
    return joined(blocks), blocks


def _recipe(author: Author) -> tuple[str, list[Block]]:
    blocks = [*author.prose(3), Block("What you will need for it", "heading")]
    things = author.items(6)
    steps = [Block(author.sentences(1, "narrative"), "item") for _ in range(4)]
    listed = "\n".join(f"- {item.text}" for item in things)
    numbered = "\n".join(f"{number}. {step.text}" for number, step in enumerate(steps, start=1))
    end = author.prose(2)
    text = "\n\n".join([joined(blocks).rstrip("\n"), listed, numbered, joined(end)])
    return text, [*blocks, *things, *steps, *end]


def _clippings(author: Author) -> tuple[str, list[Block]]:
    blocks, parts = [], []
    for number in range(5):
        note, title = author.paragraph(), author.title()
        kind = "Your Highlight" if number % 2 else "Your Note"
        place = f"- {kind} on Location {100 + number}-{104 + number} | Added on Sunday, March 9, 2025 10:37:23 PM"
        parts.append(f"{title} (A. Berg)\n{place}\n\n{note.text}\n==========\n")
        blocks += [Block(f"{title} (A. Berg)", "either"), note]
    return "".join(parts), blocks


def _drafts(author: Author, count: int) -> Sample:
    """Two versions of each essay: the final one has three paragraphs more."""
    sample = Sample()
    for number in range(1, count + 1):
        blocks = author.prose(8)
        sample.files[f"essay{number}-draft.txt"] = joined(blocks[:5]).encode()
        sample.add(f"essay{number}-final.txt", joined(blocks).encode(), blocks)
    return sample


def _journal(author: Author, count: int) -> Sample:
    """Daily notes under the same three questions."""
    questions = (
        "What happened today that I would like to remember in ten years?",
        "What did I learn today, and from whom did I learn it?",
        "What will I do tomorrow to be a little kinder to those around me?",
    )
    sample = Sample()
    for number in range(12 * count):
        blocks, parts = [Block("Daily note", "either")], ["# Daily note"]
        for question in questions:
            answer = Block(author.sentences(1, "personal"))
            blocks += [Block(question, "either"), answer]
            parts.append(f"## {question}\n\n{answer.text}")
        sample.add(f"2025-{number // 28 + 1:02}-{number % 28 + 1:02}.md", "\n\n".join(parts).encode(), blocks)
    return sample


# --- Books -----------------------------------------------------------------------------------------------------------


def _books(author: Author) -> tuple[str, list[Block]]:
    """Three books of Project Gutenberg in one file, with frames of two vintages."""
    parts, blocks = [], []
    for number in range(3):
        title, prose = author.title(), author.prose(6)
        this = "THIS" if number % 2 else "THE"
        parts.append(
            f"The Project Gutenberg EBook of {title}, by Anna Berg\n\n"
            "This eBook is for the use of anyone anywhere at no cost and with almost no restrictions\nwhatsoever.\n\n"
            f"Title: {title}\n\nAuthor: Anna Berg\n\nLanguage: English\n\n"
            f"*** START OF {this} PROJECT GUTENBERG EBOOK {title.upper()} ***\n\n\n{joined(prose, 70)}\n\n"
            f"End of Project Gutenberg's {title}, by Anna Berg\n\n"
            f"*** END OF {this} PROJECT GUTENBERG EBOOK {title.upper()} ***\n\n"
            "Updated editions will replace the previous one--the old editions will be renamed.\n\n"
            "1.A. By reading or using any part of this Project Gutenberg-tm electronic work, you indicate that you\n"
            "have read and accept all the terms of this license.\n\n\n"
        )
        blocks += prose
    return "".join(parts), blocks


# --- Bytes -----------------------------------------------------------------------------------------------------------


def _encoded(encoding: str) -> Builder:
    def build(author: Author) -> tuple[bytes, list[Block]]:
        blocks = [author.paragraph("accented" if number % 2 else "") for number in range(6)]
        text = joined(blocks)
        if encoding == "cp850":  # has no curly quotes
            text = text.translate(str.maketrans("\u2018\u2019\u201c\u201d", "''\"\""))
        return text.encode(encoding), blocks

    return build


def _fractions(author: Author) -> tuple[str, list[Block]]:
    blocks = author.prose(3)
    for template in (
        "{Name} and I don\u00b4t {think} \u00be of {what}, {link} {clause}.",
        "A 20 m\u00b2 {n} {v} {what}, {link} {clause}.",
    ):
        blocks.append(Block(author.written(template).replace("\u00b4", "'")))
    text = joined(blocks).replace("don't", "don\u00b4t")
    return text, blocks


KINDS: dict[str, Maker] = {
    **{f"text-wrapped-at-{width}": each("notes{}.txt", _wrapped(width)) for width in _WIDTHS},
    "text-line-a-paragraph": each("notes{}.txt", _unwrapped),
    "text-indented": each("notes{}.txt", _indented),
    "text-double-spaced": each("notes{}.txt", _double_spaced),
    "text-stray-returns": each("notes{}.txt", _stray_returns),
    "text-sentence-a-line": each("notes{}.txt", _sentence_a_line),
    "text-prose-and-verse": each("notes{}.txt", _prose_and_verse),
    "text-hyphens": each("scan{}.txt", _hyphens),
    "text-out-of-pdf": each("paper{}.txt", _printed),
    "text-without-extension": each("notes{}", _wrapped(72)),
    "diary-hours": each("diary{}.txt", _diary_of_hours),
    "diary-i": each("diary{}.txt", _diary_of_i),
    "diary-days": each("diary{}.txt", _dated_diary),
    "essay-anaphora": each("essay{}.txt", _anaphora),
    "essay-updates": each("essay{}.md", _updates),
    "essay-topics": each("essay{}.txt", _topics),
    "essay-dialogue": each("story{}.txt", _dialogue),
    "essay-interview": each("talk{}.txt", _interview),
    "essay-recipe": each("recipe{}.txt", _recipe),
    "kindle-clippings": each("My Clippings{}.txt", _clippings),
    "drafts": _drafts,
    "journal": _journal,
    "gutenberg-books": each("books{}.txt", _books),
    "encoding-cp1252": each("notes{}.txt", _encoded("cp1252")),
    "encoding-mac-roman": each("notes{}.txt", _encoded("mac_roman")),
    "encoding-cp850": each("notes{}.txt", _encoded("cp850")),
    "encoding-utf-16-le": each("notes{}.txt", _encoded("utf-16-le")),
    "encoding-utf-16-be": each("notes{}.txt", _encoded("utf-16-be")),
    "unusual-signs": each("notes{}.txt", _fractions),
}
