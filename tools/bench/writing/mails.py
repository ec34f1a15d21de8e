"""Mails of many clients: own words above, below and between what others wrote; footers; mailboxes.

Own words are prose of the author; what Tom writes is prose too, and must go.
"""

import html
from collections.abc import Callable, Sequence

from writing.author import Author
from writing.markdown import quoted
from writing.texts import Maker, each, wrap
from writing.truth import Block, Sample

GREETING, NAME = Block("Hi Tom,", "either"), Block("Anna", "either")
DISCLAIMER = (
    "This e-mail and any attachments are confidential and may be privileged.\n"
    "If you are not the intended recipient, please notify the sender and delete it."
)
LIST_FOOTER = (
    "_______________________________________________\nriver mailing list\nriver@lists.example.org\n"
    "https://lists.example.org/listinfo/river"
)
_TOM = "Tom Ash <tom@example.org>"
_WROTE = {
    "gmail": f"On Sun, Mar 2, 2025 at 6:02 PM {_TOM} wrote:",
    "gmail-wrapped": "On Sun, Mar 2, 2025 at 6:02 PM Tom Ash the Carpenter of the Weir\n<tom@example.org> wrote:",
    "apple": f"On 2 Mar 2025, at 18:02, {_TOM} wrote:",
    "thunderbird": "On 02.03.2025 18:02, Tom Ash wrote:",
    "proton": f"------- Original Message -------\nOn Sunday, March 2nd, 2025 at 18:02, {_TOM} wrote:",
    "mutt": "* Tom Ash <tom@example.org> [2025-03-02 18:02]:",
    "emacs": "Tom Ash <tom@example.org> writes:",
}
_HEADER = f"From: {_TOM}\nSent: Sunday, March 2, 2025 6:02 PM\nTo: Anna <anna@example.org>\nSubject: The boat"
_UNMARKED = {
    "outlook": f"-----Original Message-----\n{_HEADER}",
    "outlook-rule": f"________________________________\n{_HEADER}",
    "outlook-stars": "*From:* Tom Ash <tom@example.org>\n"
    "*Sent:* Sunday, March 2, 2025 6:02 PM\n*To:* Anna\n*Subject:* The boat",
    "yahoo": f"    On Sunday, March 2, 2025 at 06:02:11 PM GMT, {_TOM} wrote:  \n ",
    "forward": "---------- Forwarded message ---------\n"
    "From: Tom Ash <tom@example.org>\nDate: Sun, Mar 2, 2025 at 6:02 PM\n"
    "Subject: The boat\nTo: Anna <anna@example.org>\n",
}


def message(body: str, kind: str = "plain", extra: str = "") -> bytes:
    """Return a message with its headers. `kind` is that of its text, plain or html."""
    return (
        "From: Anna <anna@example.org>\nTo: Tom <tom@example.org>\nSubject: Re: The boat\n"
        f"Date: Mon, 3 Mar 2025 09:12:00 +0000\nMIME-Version: 1.0\n{extra}"
        f"Content-Type: text/{kind}; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{body}\n"
    ).encode()


def _letter(author: Author, paragraphs: int = 3) -> list[Block]:
    return author.prose(paragraphs)


def _text(blocks: Sequence[Block]) -> str:
    return "\n\n".join(wrap(block.text, 72) for block in blocks)


def _others(author: Author) -> str:
    return "\n\n".join(wrap(block.text, 70) for block in author.prose(2)) + "\n\nTom"


def _on_top(wrote: str, marked: bool = True) -> Callable[[Author], tuple[bytes, list[Block]]]:
    def build(author: Author) -> tuple[bytes, list[Block]]:
        own = [GREETING, *_letter(author), NAME]
        rest = quoted(_others(author)) if marked else _others(author)
        return message(f"{_text(own)}\n\n{wrote}\n\n{rest}"), own

    return build


def _below(author: Author) -> tuple[bytes, list[Block]]:
    own = [GREETING, *_letter(author), NAME]
    return message(f"Hi Tom,\n\n{_WROTE['gmail']}\n{quoted(_others(author))}\n\n{_text(own[1:])}"), own


def _between(author: Author) -> tuple[bytes, list[Block]]:
    own = _letter(author, 4)
    parts = [f"Hi Tom,\n\n{_WROTE['thunderbird']}"]
    for block in own:
        parts.append(quoted(wrap(author.sentences(2), 70)))
        parts.append(wrap(block.text, 72))
    return message("\n\n".join([*parts, "Anna"])), [GREETING, *own, NAME]


def _flowed(author: Author) -> tuple[bytes, list[Block]]:
    """Lines of format=flowed: a blank at the end of a line that goes on."""
    own = _letter(author)
    text = "\n\n".join(wrap(block.text, 70).replace("\n", " \n") for block in own)
    body = f"{text}\n\n{_WROTE['thunderbird']}\n{quoted(_others(author))}\n\n-- \nAnna Berg\nKeeper of the weir"
    return message(body, extra="").replace(b"charset=utf-8", b"charset=utf-8; format=flowed"), own


def _footers(author: Author) -> tuple[bytes, list[Block]]:
    own = _letter(author)
    both = f"Sent from my iPad\n\n{DISCLAIMER}"
    ends = ("Sent from my iPhone", "Get Outlook for Android", DISCLAIMER, LIST_FOOTER, both)
    return message(f"{_text(own)}\n\n{author.rng.choice(ends)}"), own


def _traps(author: Author) -> tuple[bytes, list[Block]]:
    """Own words that look like the end of a mail."""
    own = _letter(author, 6)
    trap = Block(author.written("On that {a} Sunday {who} wrote:"))
    said = Block(author.written("From: what {name} {v} in {place}, {link} {clause}."))
    parts = [own[0], trap, own[1], said, own[2]]
    body = f"{_text(parts)}\n\n____________\n\n{_text(own[3:4])}\n\n--\n\n{_text(own[4:])}\n\nAnna"
    return message(body), [*parts, *own[3:], NAME]


def _tags(blocks: Sequence[Block]) -> str:
    return "".join(f"<p>{html.escape(block.text, quote=False)}</p>" for block in blocks)


_HTML_BEFORE = {
    "outlook": "<div style='border:none;border-top:solid #B5C4DF 1.0pt;padding:3.0pt 0in 0in 0in'><p class=MsoNormal>"
    "<b>From:</b> Tom [mailto:tom@example.org]<br><b>Sent:</b> Sunday, March 02, 2025 6:02 PM<br><b>To:</b> Anna<br>"
    "<b>Subject:</b> The boat</p></div>",
    "hotmail": "<hr id='stopSpelling'><div id='divRplyFwdMsg' dir='ltr'><font face='Calibri'><b>From:</b> Tom Ash<br>"
    "<b>Sent:</b> Sunday, March 2, 2025 6:02 PM<br><b>To:</b> Anna<br><b>Subject:</b> The boat</font></div>",
    "gmail": "<div class='gmail_quote'><div dir='ltr' class='gmail_attr'>On Sun, Mar 2, 2025 at 6:02 PM Tom &lt;"
    "<a href='mailto:tom@example.org'>tom@example.org</a>&gt; wrote:<br></div><blockquote class='gmail_quote'>",
    "apple": "<div><br><blockquote type='cite'>"
    "<div>On 2 Mar 2025, at 18:02, Tom Ash &lt;tom@example.org&gt; wrote:</div>",
    "thunderbird": "<div class='moz-cite-prefix'>On 02.03.2025 18:02, Tom Ash wrote:<br></div><blockquote type='cite'>",
    "yahoo": "<div id='yahoo_quoted_1' class='yahoo_quoted'><div>On Sunday, March 2, 2025 at 06:02:11 PM GMT, Tom "
    "&lt;tom@example.org&gt; wrote:</div>",
}


def _html(before: str) -> Callable[[Author], tuple[bytes, list[Block]]]:
    def build(author: Author) -> tuple[bytes, list[Block]]:
        own = _letter(author)
        after = "</blockquote></div>" if "blockquote" in before else "</div>" if "yahoo" in before else ""
        body = f"<html><body>{_tags(own)}<p>Anna</p>{before}{_tags(author.prose(2))}{after}</body></html>"
        return message(body, "html"), [*own, NAME]

    return build


def _plain_mails(author: Author, count: int) -> tuple[list[bytes], list[list[Block]]]:
    mails, documents = [], []
    for _ in range(count):
        own = _letter(author)
        mails.append(message(f"{_text(own)}\n\n{_WROTE['gmail']}\n{quoted(_others(author))}"))
        documents.append(own)
    return mails, documents


def _mailbox(name: str) -> Maker:
    def make(author: Author, count: int) -> Sample:
        mails, documents = _plain_mails(author, count)
        data = b"\n".join(b"From anna@example.org Mon Mar  3 09:12:00 2025\n" + mail for mail in mails)
        return Sample({name: data}, documents)

    return make


def _emlx(author: Author, count: int) -> Sample:
    mails, documents = _plain_mails(author, count)
    end = b'<?xml version="1.0" encoding="UTF-8"?>\n<plist version="1.0"><dict><key>flags</key>'
    end += b"<integer>1</integer></dict></plist>\n"
    files = {f"{number}.emlx": b"%d\n" % len(mail) + mail + end for number, mail in enumerate(mails, start=1)}
    return Sample(files, documents)


KINDS: dict[str, Maker] = {
    **{f"mail-{name}": each("mail{}.eml", _on_top(wrote)) for name, wrote in _WROTE.items()},
    **{f"mail-{name}": each("mail{}.eml", _on_top(wrote, marked=False)) for name, wrote in _UNMARKED.items()},
    **{f"mail-html-{name}": each("mail{}.eml", _html(before)) for name, before in _HTML_BEFORE.items()},
    "mail-answer-below": each("mail{}.eml", _below),
    "mail-answers-between": each("mail{}.eml", _between),
    "mail-flowed": each("mail{}.eml", _flowed),
    "mail-footers": each("mail{}.eml", _footers),
    "mail-own-rules": each("mail{}.eml", _traps),
    "mail-mbox": _mailbox("all.mbox"),
    "mail-apple-folder": _mailbox("Inbox.mbox/mbox"),
    "mail-thunderbird-folder": _mailbox("Sent"),
    "mail-emlx": _emlx,
}
