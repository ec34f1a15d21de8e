"""Mail: a person's own words stay, all of them; what others wrote and machines added goes.

OWN_ONE to OWN_THREE are the person's words; every line with the word "quoted" is another's.
"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_files import read as read_file

from llm60_jax.config import FolderSource
from llm60_jax.data.read import sources
from llm60_jax.data.read.items import Broken, Document
from llm60_jax.data.read.ledger import Ledger
from llm60_jax.data.read.mail import footers, mailboxes, message, replies
from llm60_jax.data.read.mail.message import Letter

ONE = "Yes, the miller knows the boat, and he sold it in spring."
TWO = "I will bring the lantern that you lent me in the autumn."
THREE = "The weir is open again since Monday."
ASKED = "> Is this quoted question about the boat?\n> It is quoted over two lines."
BARE = "These quoted words have no marks.\n\nAnd this quoted line ends them.\nTom"
ADDRESS = "tom@example.org"
HEADER = f"From: Tom Miller <{ADDRESS}>\nSent: Sunday, March 2, 2025 6:02 PM\nTo: Anna\nSubject: quoted"

DASHES = "\u2010" * 7  # hyphens of Proton Mail

# Lines of mail programs above a quotation.
WROTE = {
    "gmail": "On Sun, 2 Mar 2025 at 18:02, Tom wrote:",
    "gmail wrapped": f"On Sun, Mar 2, 2025 at 6:02 PM Tom Miller <{ADDRESS}>\nwrote:",
    "gmail wrapped thrice": f"On Sun, Mar 2, 2025 at 6:02 PM Tom Bartholomew\nMiller of the Upper Mill"
    f"\n<{ADDRESS}> wrote:",
    "gmail old": f"2025/3/2 Tom Miller <{ADDRESS}>:",
    "gmail older": f"2025-03-02 18:02 GMT+01:00 Tom <{ADDRESS}>:",
    "apple mail": f"On Mar 2, 2025, at 6:02 PM, Tom Miller <{ADDRESS}> wrote:",
    "ios": f"On 2 Mar 2025, at 18:02, Tom <{ADDRESS}> wrote:",
    "ios quoted": f"> On 2 Mar 2025, at 18:02, Tom <{ADDRESS}> wrote:",
    "thunderbird": "On 03/02/25 18:02, Tom wrote:",
    "thunderbird iso": "On 2025-03-02 18:02, Tom Miller wrote:",
    "thunderbird old": "Tom Miller wrote:",
    "seamonkey": "Tom Miller wrote on 3/2/2025 6:02 PM:",
    "evolution": "On Sun, 2025-03-02 at 18:02 +0000, Tom Miller wrote:",
    "mutt": "On Sun, Mar 02, 2025 at 06:02:00PM +0000, Tom Miller wrote:",
    "mutt starred": "* Tom [2025-03-02]:",
    "mutt starred with address": f"* Tom Miller <{ADDRESS}> [2025-03-02 18:02]:",
    "horde": f"Quoting Tom Miller <{ADDRESS}>:",
    "pine": "On Sun, 2 Mar 2025, Tom Miller wrote:",
    "gnus": f"Tom Miller <{ADDRESS}> writes:",
    "wanderlust": "At Sun, 2 Mar 2025 18:02:00 +0000,\nTom Miller wrote:",
    "news": f"In article <abc@example.org>, Tom Miller <{ADDRESS}> wrote:",
    "mulberry": f"--On Sunday, March 2, 2025 6:02 PM +0000 Tom <{ADDRESS}> wrote:",
    "proton": f"On Sunday, March 2nd, 2025 at 6:02 PM, Tom <{ADDRESS}> wrote:",
    "proton old": f"{DASHES} Original Message {DASHES}\nOn Sunday, March 2, 2025 6:02 PM, Tom <{ADDRESS}> wrote:\n",
    "spark": f"On 2 Mar 2025 at 18:02 +0000, Tom Miller <{ADDRESS}>, wrote:",
    "the bat": "Sunday, March 2, 2025, 6:02:00 PM, you wrote:",
    "zoho": f"---- On Sun, 02 Mar 2025 18:02:00 +0000 Tom <{ADDRESS}> wrote ----",
    "german": "Am 02.03.2025 um 18:02 schrieb Tom Miller:",
    "german gmail": f"Tom Miller <{ADDRESS}> schrieb am So., 2. M\u00e4rz 2025\num 18:02 Uhr:",
    "french": "Le 02/03/2025 \u00e0 18:02, Tom Miller a \u00e9crit :",
    "russian": f'02.03.2025 18:02 пользователь "Tom" <\n{ADDRESS}> написал:',
    "gmail without colon": f"2025/3/2 Tom via Boats <{ADDRESS}>",
    "no date": "On Monday, Bob wrote:",
    "address only": f"{ADDRESS} wrote:",
    "groups": "On Sunday, March 2, 2025 at 6:02:00 PM UTC Tom Miller wrote:",
    "apple forward": f"Begin forwarded message:\n\n> From: Tom <{ADDRESS}>\n> Subject: quoted",
    "outlook marked": "-----Original Message-----\nFrom: Tom\nSent: Sunday, March 2, 2025 6:02 PM\nSubject: quoted\n",
}

# What begins another's message that has no marks.
COPIED = {
    "outlook original": f"-----Original Message-----\n{HEADER}\n\n{BARE}",
    "outlook rule": f"________________________________\n{HEADER}\n\n{BARE}",
    "outlook rule and blank": f"________________________________\n\n{HEADER}\n\n{BARE}",
    "outlook header": f"{HEADER}\n\n{BARE}",
    "outlook mailto": f"From: Tom [mailto:{ADDRESS}] \nSent: Sunday\nTo: Anna; Ann;\n  Bob\nSubject: quoted\n\n{BARE}",
    "outlook bold": f"*From:* Tom <{ADDRESS}>\n*Sent:* Sunday, March 2, 2025 6:02 PM\n*To:* Anna\n*Sub"
    f"ject:* quoted\n\n{BARE}",
    "outlook mac": f"From: Tom <{ADDRESS}>\nDate: Sunday, March 2, 2025 at 6:02 PM\nTo: Anna\nSubject:"
    f" quoted\n\n{BARE}",
    "outlook one line": f"From: Tom Sent: Sunday, March 2, 2025 6:02 PM To: Anna Subject: quoted\n\n{BARE}",
    "outlook spaced": f"From: Tom\n\nSent: Sunday, March 2, 2025 6:02 PM\n\nTo: Anna\n\nSubject: quoted\n\n{BARE}",
    "appointment": f"-----Original Appointment-----\n{HEADER}\n\n{BARE}",
    "hotmail": f"Date: Sun, 2 Mar 2025 18:02:00 +0000\nSubject: quoted\nFrom: {ADDRESS}\nTo: anna@exam"
    f"ple.org\n\n{BARE}",
    "gmail forward": f"---------- Forwarded message ---------\nFrom: Tom <{ADDRESS}>\nDate: Sun, Mar 2"
    f"\nSubject: quoted\n\n{BARE}",
    "thunderbird forward": f"-------- Forwarded Message --------\nSubject: quoted\nDate: Sun, 2 Mar\nF"
    f"rom: Tom <{ADDRESS}>\n\n{BARE}",
    "apple forward": f"Begin forwarded message:\n\nFrom: Tom <{ADDRESS}>\nSubject: quoted\nDate: 2 Mar"
    f"ch 2025\n\n{BARE}",
    "k-9": f"-------- Original Message --------\nFrom: Tom <{ADDRESS}>\nSent: March 2, 2025\n\n{BARE}",
    "notes": f"----- Forwarded by Tom/ORG on 03/02/2025 06:02 PM -----\n\n{BARE}",
    "yahoo": f"On Sunday, March 2, 2025 at 06:02:00 PM GMT, Tom <{ADDRESS}> wrote:  \n \n {BARE}",
    "outlook app": f'On Sun, Mar 2, 2025 at 6:02 PM +0000, "Tom Miller" <{ADDRESS}> wrote:\n\n{BARE}',
    "no address": f"On Mar 2, 2025 6:02 PM, Tom Miller wrote:\n\n{BARE}",
    "german": f"Von: Tom <{ADDRESS}>\nGesendet: Sonntag, 2. M\u00e4rz 2025\nAn: Anna\nBetreff: quoted\n\n{BARE}",
    "german original": f"-----Urspr\u00fcngliche Nachricht-----\nVon: Tom\nBetreff: quoted\n\n{BARE}",
    "bold original": f"*-----Original Message-----*\n{HEADER}\n\n{BARE}",
    "deep": f"{HEADER}\n\n{BARE}\n\n{HEADER}\n\n{BARE}\n\n> {BARE}",
}

# What is added below own words.
ADDED = {
    "iphone": "Sent from my iPhone",
    "samsung": "Sent from my Samsung Galaxy smartphone.",
    "verizon": "Sent from my Verizon, Samsung Galaxy smartphone",
    "blackberry": "Sent from my BlackBerry® wireless device",
    "via blackberry": "Sent via BlackBerry by AT&T",
    "outlook": "Sent from Outlook for iOS<https://aka.ms/abc>",
    "get outlook": "Get Outlook for Android<https://aka.ms/abc>",
    "get outlook spaced": "Get Outlook for iOS <https://aka.ms/abc>",
    "windows": "Sent from Mail for Windows 10",
    "yahoo": "Sent from Yahoo Mail on Android",
    "proton": "Sent with Proton Mail secure email.",
    "proton link": "Sent with [Proton Mail](https://proton.me/mail/home) secure email.",
    "think": "Think before you print.",
    "typos": "Sent from my iPad. Please excuse any typos.",
    "typos apart": "Sent from my mobile\nPlease excuse typos and brevity",
    "german": "Von meinem iPhone gesendet",
    "signature": "-- \nAnna Miller\nMill Lane 4\n+44 20 7946 0000",
    "signature trimmed": "--\nAnna Miller\nMill Lane 4",
    "signature with motto": "-- \nAnna Miller\n\n\"Not all who wander by the river are lost.\"",
    "contact": "Anna Miller\nKeeper of the Mill\nTel: +44 20 7946 0000\nanna@example.org",
    "rule and contact": "__________\n-- \nAnna Miller",
    "notice": "This e-mail and any attachments are confidential and may be privileged.\nIf you are not the intended"
    " recipient, please notify the sender.",
    "long notice": "CONFIDENTIALITY NOTICE: The information contained in this message is intended onl"
    "y for the addressee.\n\n"
    "Unauthorised disclosure is unlawful.\n\nIf you received this message in error, please notify the sender.",
    "environment": "Please consider the environment before printing this e-mail.",
    "avast": "Virus-free. www.avast.com",
    "mailman": "_______________________________________________\nBoats mailing list\nBoats@lists.example.org\n"
    "https://lists.example.org/listinfo/boats",
    "majordomo": "-- \nTo unsubscribe from this list: send the line \"unsubscribe boats\" in\nthe body of a message to"
    " majordomo@example.org",
    "ezmlm": "---------------------------------------------------------------------\nTo unsubscribe, e-mail:"
    " boats-unsubscribe@example.org\nFor additional commands, e-mail: boats-help@example.org",
    "groups": "-- \nYou received this message because you are subscribed to the Google Groups \"Boats\" group.\n"
    "To unsubscribe from this group and stop receiving emails from it, send an email to boats+unsubsc"
    "ribe@example.org.\n"
    "To view this discussion visit https://groups.example.org/d/msgid/boats/abc.",
    "all": "-- \nAnna Miller\n\nSent from my iPhone\n\nThis message and any attachment is intended so"
    "lely for the addressee."
    "\n_______________________________________________\nBoats mailing list\nBoats@lists.example.org",
    "image": "[cid:image001.png@01D00000.00000000]",
}  # fmt: skip


def own(text: str, html: str = "") -> str:
    """Return the own words of a plain message, or of one in HTML only."""
    kind, body = ("html", html) if html else ("plain", text)
    return own_of(f"From: anna@example.org\nContent-Type: text/{kind}; charset=utf-8\n\n{body}")


def own_of(data: str | bytes) -> str:
    item = message.read(data.encode() if isinstance(data, str) else data, "a", ())
    return item.document.text if isinstance(item, Letter) else f"[{item.reason}]"


def documents(path: Path, data: str | bytes, author: tuple[str, ...] = ()) -> list[Document | Broken]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    reader = {".eml": mailboxes.eml, ".emlx": mailboxes.emlx}.get(path.suffix, mailboxes.mbox)
    return list(reader(path, path.name, author))


# Quotations


@pytest.mark.parametrize("wrote", WROTE.values(), ids=WROTE)
def test_a_marked_quotation_goes_with_the_line_above_it(wrote: str) -> None:
    for gap in ("\n", "\n\n"):
        assert own(f"{ONE}\n\n{wrote}{gap}{ASKED}") == ONE
        assert own(f"{wrote}{gap}{ASKED}\n\n{ONE}\n\nAnna") == f"{ONE}\n\nAnna"
        assert own(f"Hi Tom,\n\n{wrote}{gap}{ASKED}\n{ONE}\n{ASKED}\n\n{TWO}") == f"Hi Tom,\n\n{ONE}\n\n{TWO}"
        assert own(f"{ONE}\nAnna\n{wrote}{gap}{ASKED}\n>\n{ASKED}") == f"{ONE}\nAnna"


@pytest.mark.parametrize("copied", COPIED.values(), ids=COPIED)
def test_a_message_copied_without_marks_ends_the_own_words(copied: str) -> None:
    assert own(f"{ONE}\n\n{TWO}\nAnna\n\n{copied}") == f"{ONE}\n\n{TWO}\nAnna"
    assert own(f"{ONE}\n{copied}".replace("\n", "\r\n")) == ONE


@pytest.mark.parametrize("added", ADDED.values(), ids=ADDED)
def test_signatures_and_footers_go(added: str) -> None:
    letter = f"Dear Tom,\n\n{ONE}\n\nBest wishes,\nAnna"
    assert own(f"{letter}\n\n{added}\n") == letter
    assert own(f"{letter}\n\n{added}\n\n{WROTE['gmail']}\n{ASKED}\n") == letter
    assert own(f"{letter}\n\n{added}\n\n{COPIED['outlook rule']}\n") == letter


@pytest.mark.parametrize(
    "prose",
    [
        f"{ONE}\n\nOn the ninth of March the schoolmaster wrote:\n\nThe ice has gone.\n\n{TWO}",
        f"{ONE}\n\nOn 9 March the old schoolmaster wrote:\n\nThe ice has gone.",
        f"On Monday Tom wrote:\n\n{ONE}",
        "On your way home you might ask the miller.\n\nOn no account wake the dog.",
        f"{ONE}\n\n____________\n\n{TWO}",
        f"{ONE}\n____________\n{TWO}",
        f"{ONE}\n\n--\n\n{TWO}",
        f"{ONE}\n--\n{TWO}\n\n{THREE}",
        f"{ONE}\n\n***\n\n{TWO}\n\n-----\n\n{THREE}",
        f"From: London\nTo: Paris\n\n{ONE}",
        f"From the mill one sees the weir.\n\n{ONE}",
        f"Subject: none.\n\n{ONE}",
        f"My grandfather wrote:\n\n{ONE}",
        f"{ONE}\n\nThe original message was lost in the flood.\n\n{TWO}",
        f"{ONE}\n\n{TWO}\n\nSent from my attic, with love,\nAnna",
        f"{ONE}\n\nGet the mail from the box before the dog does.",
        f"{ONE}\n\nThe notice on the door said: this message is confidential.",
        f"{ONE}\n\nTo unsubscribe from the gazette one has to go there in person.",
        f"{ONE}\n\nMy new number is\n020 7946 0000",
        f"{ONE}\n\nAnna\n\nP.S. {TWO}",
        f"{ONE}\n--\nP.S. Bring a rope.",
        f"{ONE}\n\n- the rope\n- the lantern\n\nAnna",
        f"Hi Tom,\n\n{ONE}\n\nBest wishes,\n\nAnna Miller",
        "Tom Miller\ntom@example.org",
        f"{ONE}\n\nI had this from Tom, by tom@example.org:\n\n{TWO}",
        "if a > b, go left;\nelse a < b",
        f"Tom said: {ONE}",
        f"{ONE}\n\nI saw what Tom wrote:\n\n{TWO}",
    ],
)
def test_own_prose_stays_as_it_is(prose: str) -> None:
    assert own(prose) == prose
    assert own(f"{prose}\n\n{WROTE['apple mail']}\n\n{ASKED}") == prose


def test_other_marks_of_quotation() -> None:
    assert own(f"{WROTE['thunderbird']}\n\n| quoted question\n| quoted too\n\n{ONE}") == ONE
    assert (
        own(f"{WROTE['the bat']}\n\nTM> quoted question\nTM> quoted too\n\n{ONE}\n\nTM> quoted\n{TWO}")
        == f"{ONE}\n\n{TWO}"
    )
    assert own(f"{ONE}\n  > quoted\n >> quoted\n{TWO}") == f"{ONE}\n\n{TWO}"


def test_a_forwarded_message_with_an_end_mark_goes_alone() -> None:
    text = (
        f"{ONE}\n\n----- Forwarded message from Tom <{ADDRESS}> -----\n\n{BARE}\n\n----- End forwar"
        f"ded message -----\n\n{TWO}"
    )
    assert own(text) == f"{ONE}\n\n{TWO}"


def test_a_forward_without_a_word_is_named(tmp_path: Path) -> None:
    (item,) = documents(tmp_path / "a.eml", f"Subject: Fwd: x\n\n{COPIED['gmail forward']}")
    assert item == Broken("a.eml", "no_own_words")


def test_a_header_whose_quotation_was_deleted_ends_nothing() -> None:
    assert own(f"{WROTE['apple mail']}\n\n{ONE}\n\n{TWO}") == f"{ONE}\n\n{TWO}"
    assert own(f"{ONE}\n\n{WROTE['apple mail']}\n") == ONE


def test_a_line_with_a_date_in_own_prose_stays() -> None:
    line = "On 9 March 1902 at 10:15 the schoolmaster wrote:"
    assert own(f"{ONE}\n\n{line}\n\n{TWO}") == f"{ONE}\n\n{line}\n\n{TWO}"
    assert own(f"{ONE}\n\n{line}\n\n{ASKED}\n\n{TWO}") == f"{ONE}\n\n{line}\n\n{TWO}"


def test_what_other_tools_lost() -> None:
    # email_reply_parser 3: a quotation of one's own at the end
    assert own(f"{ONE}\n\n> a quoted proverb\n\n{WROTE['gmail']}\n{ASKED}") == ONE
    # email_reply_parser 23: lines that begin with "On"
    text = f"On your way home you might ask the miller.\n\n{WROTE['apple mail']}\n\n{ASKED}"
    assert own(text) == "On your way home you might ask the miller."
    # email_reply_parser 28, freescout 4638: answers below and between
    text = f"Hi Tom,\n\n{WROTE['gmail']}\n{ASKED}\n\n{ONE}\n\n{ASKED}\n\n{TWO}\n\nAnna"
    assert own(text) == f"Hi Tom,\n\n{ONE}\n\n{TWO}\n\nAnna"


def test_signed_messages_lose_the_armour() -> None:
    text = (
        f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{ONE}\n\n- -- \nAnna\n-----BEGIN PGP "
        f"SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n"
    )
    assert own(text) == ONE
    assert own("-----BEGIN PGP MESSAGE-----\n\nabc\n-----END PGP MESSAGE-----\n") == "[no_own_words]"


_own_lines = st.lists(
    st.lists(st.sampled_from("the miller boat river and I will Tom Friday weir, yes.".split()), min_size=3, max_size=9)
    .map(" ".join).map(lambda line: f"so {line}"), min_size=1, max_size=3,
)  # fmt: skip
_quotation = st.tuples(st.sampled_from(["", *WROTE.values()]), st.sampled_from(["\n", "\n\n"]), st.integers(1, 5))


@given(st.lists(st.tuples(_own_lines, _quotation), min_size=1, max_size=6), st.sampled_from(["", *COPIED.values()]))
@settings(max_examples=300, deadline=None)
def test_own_lines_between_quotations_come_out_in_order(parts: list, end: str) -> None:
    text, expected = "", []
    for lines, (wrote, gap, quoted) in parts:
        text += "\n".join(lines) + "\n\n" + (wrote + gap if wrote else "") + "> a quoted line\n" * quoted + "\n"
        expected += lines
    assert replies.own_words(text + end).split() == " ".join(expected).split()


@given(st.text(alphabet="On wrote:>\n-_FromSent @12:|*"), st.booleans())
@settings(deadline=None)
def test_any_text_passes(text: str, footer: bool) -> None:
    words = replies.own_words(text)
    assert set(words.split()) <= set(text.split())
    assert footers.without_footers(words) == footers.without_footers(footers.without_footers(words))


# HTML


def cite(attributes: str, inner: str = "<p>quoted words</p>") -> str:
    return f"<blockquote {attributes}>{inner}</blockquote>"


GMAIL = (
    "<div dir='ltr' class='gmail_attr'>On Sun, Mar 2, 2025 at 6:02 PM Tom &lt;<a href='mailto:x'>"
    f"{ADDRESS}</a>&gt; wrote:<br></div>"
)
PAGES = {
    "gmail": f"<div dir=ltr>{ONE}</div><br><div class='gmail_quote'>{GMAIL}{cite('class=gmail_quote')}</div>",
    "gmail container": f"<div dir=ltr>{ONE}</div><br><div class='gmail_quote gmail_quote_container'>"
    f"{GMAIL}{cite('class=gmail_quote')}</div>",
    "gmail old": f"{ONE}<br><div class='gmail_extra'><div class='gmail_quote'>On Mar 2, 2025 6:02 PM, "
    f"&quot;Tom&quot; wrote:<br type='x'>{cite('class=gmail_quote')}</div></div>",
    "gmail forward": f"<div>{ONE}</div><div class=gmail_quote><div class=gmail_attr>---------- Forward"
    f"ed message ---------<br>From: Tom<br>Date: Sun, Mar 2<br>Subject: quoted<br>To: Anna<br></di"
    f"v><div>quoted words</div></div>",
    "apple": f"<div>{ONE}</div><div><br><blockquote type='cite'><div>On Mar 2, 2025, at 6:02 PM, Tom w"
    f"rote:</div><div>quoted</div></blockquote></div>",
    "apple forward": f"<div>{ONE}<br><div>Begin forwarded message:</div><br>{cite('type=cite')}</div>",
    "ios": f"<div dir=ltr>{ONE}</div><div dir=ltr>Sent from my iPhone</div><div dir=ltr><br><blockquot"
    f"e type=cite>On 2 Mar 2025, at 18:02, Tom wrote:<br><br></blockquote></div>"
    f"{cite('type=cite')}",
    "thunderbird": f"<p>{ONE}</p><div class='moz-cite-prefix'>Tom schrieb am 02.03.2025 um 18:02:<br><"
    f"/div>{cite('type=cite cite=mid:x')}<div class=moz-signature>-- <br>Anna Miller<br>Mill Lane<"
    f"/div>",
    "thunderbird forward": f"<p>{ONE}</p><div class='moz-forward-container'>-------- Forwarded Message"
    f" --------<table><tr><th>Subject: </th><td>quoted</td></tr></table>quoted</div>",
    "outlook": f"<p class=MsoNormal>{ONE}<o:p></o:p></p><div style='border:none;border-top:solid #B5C4"
    f"DF 1.0pt'><p><b>From:</b> Tom [mailto:{ADDRESS}]<br><b>Sent:</b> Sunday, March 02, 2025 6:02"
    f" PM<br><b>To:</b> Anna<br><b>Subject:</b> quoted</p></div><p>quoted</p>",
    "outlook web": f"<div>{ONE}</div><div id='appendonsend'></div><hr tabindex='-1'><div id='divRplyFw"
    f"dMsg'><b>From:</b> Tom<br><b>Subject:</b> quoted<br></div><div>quoted</div>",
    "outlook web again": f"<div>{ONE}</div><hr><div id='x_divRplyFwdMsg'>quoted</div><div>quoted</div>",
    "hotmail": f"<div>{ONE}<br><hr id='stopSpelling'>Date: Sun, 2 Mar 2025 18:02:00<br>From: {ADDRESS}"
    f"<br>Subject: quoted<br><br>quoted</div>",
    "outlook mac": f"<div>{ONE}</div><span id='OLK_SRC_BODY_SECTION'><div>From: Tom</div>quoted</span>",
    "outlook app": f"<div>{ONE}</div><div id='ms-outlook-mobile-signature'>Get Outlook for iOS</div><d"
    f"iv id='mail-editor-reference-message-container'>quoted</div>",
    "yahoo": f"<div>{ONE}</div><div id=ydp class='ydp yahoo_quoted'><div>On Sunday, March 2, 2025, Tom"
    f" wrote:</div><div>quoted</div></div>",
    "yahoo old": f"<div>{ONE}<br><blockquote style='border-left: 2px solid rgb(16, 16, 255); margin-le"
    f"ft: 5px;'>quoted</blockquote></div>",
    "proton": f"<div>{ONE}</div><div class=protonmail_signature_block><a>Sent with Proton Mail</a></di"
    f"v><div class=protonmail_quote>On Sunday, March 2nd, 2025 at 6:02 PM, Tom &lt;{ADDRESS}&gt; w"
    f"rote:<br>{cite('class=protonmail_quote type=cite')}</div>",
    "roundcube": f"<p>{ONE}</p><p id='reply-intro'>Am 2025-03-02 18:02, schrieb Tom:</p>{cite('type=cite')}",
    "zoho": f"<div>{ONE}<br><br>---- On Sun, 02 Mar 2025 18:02:00 +0000 <b>Tom &lt;{ADDRESS}&gt;</b> w"
    f"rote ----<br>{cite('style=margin:0')}</div>",
    "no class": f"<div>{ONE}</div><div>On Sun, 2 Mar 2025, Tom wrote:</div>{cite('')}",
    "no quotation": f"<div>{ONE}</div><div>On Sun, Mar 2, 2025 at 6:02 PM Tom &lt;{ADDRESS}&gt; wrote:"
    f"</div><div>quoted</div>",
    "marks": f"<div>{ONE}</div><div>On 03/02/25 18:02, Tom wrote:<br>&gt; quoted<br>&gt; quoted</div>",
    "table": f"<table><tr><td><p>{ONE}</p></td></tr><tr><td>{cite('type=cite')}</td></tr></table>",
    "hidden": f"<div style='display: none'>quoted</div><p>{ONE}</p>",
    "private": f"<p>{ONE}&#xe001;</p>",
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_quotations_in_html_go(page: str) -> None:
    pytest.importorskip("lxml.html")
    assert own("", f"<html><head><meta charset=ascii><title>x</title></head><body>{page}</body></html>") == ONE
    assert own("", page.replace(ONE, f"{ONE}<br><br>{TWO}")) == f"{ONE}\n\n{TWO}"


@pytest.mark.parametrize("kind", ["type=cite", "class=gmail_quote", "style='border-left:1px solid'"])
def test_answers_between_quotations_in_html_stay(kind: str) -> None:
    page = f"<div class=gmail_quote>{GMAIL}{cite(kind)}<div>{ONE}</div>{cite(kind)}<div>{TWO}<br>Anna</div></div>"
    assert own("", page) == f"{ONE}\n\n{TWO}\nAnna"


def test_an_author_s_own_indented_words_in_html_stay() -> None:
    page = f"<p>{ONE}</p>{cite('style=margin:0;border:none', f'<p>{TWO}</p>')}<p>{THREE}</p>"
    assert own("", page) == f"{ONE}\n\n{TWO}\n\n{THREE}"
    page = f"<p>On the ninth of March the schoolmaster wrote:</p>{cite('', f'<p>{TWO}</p>')}<p>{THREE}</p>"
    assert own("", page) == f"On the ninth of March the schoolmaster wrote:\n\n{TWO}\n\n{THREE}"


# Parts and encodings


def test_plain_text_is_read_rather_than_html_unless_it_is_a_stub() -> None:
    form = (
        "Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\n{}\n"
        f"--b\nContent-Type: text/html\n\n<p>{TWO}</p>\n--b--\n"
    )
    assert own_of(form.format(ONE)) == ONE
    assert own_of(form.format("")) == TWO
    assert own_of(form.format("Please enable HTML to view this message.")) == TWO
    assert (
        own_of(form.format("Your program does not support HTML. Read it in your browser: https://example.org")) == TWO
    )


def test_text_between_attachments_is_read_and_attached_messages_are_not() -> None:
    parts = [
        f"Content-Type: text/plain\n\n{ONE}\n",
        "Content-Type: image/png\n\nabc\n",
        "Content-Type: text/plain; name=notes.txt\nContent-Disposition: inline; filename=notes.txt\n\nquoted\n",
        "Content-Type: message/rfc822\n\nSubject: x\n\nquoted\n",
        f"Content-Type: multipart/related; boundary=c\n\n--c\nContent-Type: text/html\n\n<p>{TWO}</p>\n--c--\n",
        "Content-Type: text/plain\n\n_______________________________________________\nBoats mailing l"
        "ist\nb@example.org\n",
    ]
    body = "".join(f"--b\n{part}" for part in parts)
    assert own_of(f"Content-Type: multipart/mixed; boundary=b\n\n{body}--b--\n") == f"{ONE}\n\n{TWO}"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("charset=utf-8\nContent-Transfer-Encoding: quoted-printable", b"The caf=C3=A9 by the=\n river."),
        ("charset=iso-8859-1\nContent-Transfer-Encoding: base64", b"VGhlIGNhZukgYnkgdGhlIHJpdmVyLg=="),
        ("charset=iso-8859-1", "The café by the river.".encode()),
        ("charset=us-ascii", "The café by the river.".encode("cp1252")),
        ("charset=x-unknown", "The café by the river.".encode("cp1252")),
        ("charset=utf-8", "The café by the river.".encode("cp1252")),
        ("charset=punycode", "The café by the river.".encode()),
        ("charset=windows-1252", "The café by the river.".encode("cp1252")),
        ("charset=utf-16", "The café by the river.".encode("utf-16")),
    ],
)  # fmt: skip
def test_bodies_are_decoded_whatever_is_declared(headers: str, body: bytes) -> None:
    assert own_of(f"Content-Type: text/plain; {headers}\n\n".encode() + body) == "The café by the river."
    page = f"<html><body><p>{body.decode('cp1252')}</p>".encode("cp1252")
    if "charset=u" not in headers and "base64" not in headers:
        assert own_of(f"Content-Type: text/html; {headers}\n\n".encode() + page) == "The café by the river."


def test_codecs_that_are_no_encodings_are_not_used() -> None:
    assert (
        own_of(r"Content-Type: text/plain; charset=unicode_escape" + "\n\n" + r"The path is C:\new.")
        == r"The path is C:\new."
    )
    own_of("Content-Type: text/plain; charset=punycode\n\nx-" + "a" * 500_000)


def test_a_message_of_too_many_parts_is_named() -> None:
    assert own_of("Content-Type: multipart/mixed; boundary=b\n\n" + "--b\n\nx\n" * 1_100) == "[too_large]"


def test_format_flowed_is_unwrapped() -> None:
    head = "Content-Type: text/plain; format=flowed{}\n\n"
    text = "The miller knows \nthe boat,\nand he sold it. \n\n Anna \n  stuffed\n> quoted \n> words\nNo more\n-- \nAnna"
    expected = "The miller knows the boat,\nand he sold it.\n\nAnna  stuffed\n\nNo more"
    assert own_of(head.format("") + text) == expected
    assert own_of(head.format("; delsp=yes") + "The mil \nler knows  \nit.") == "The miller knows it."
    wrapped = f"On Sun, 2 Mar 2025 at 18:02, Tom Miller \n<{ADDRESS}> wrote: \n> quoted\n{ONE}"
    assert own_of(head.format("") + wrapped) == ONE


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        ("Re: The boat", "The boat"),
        ("RE: Fwd: AW: Re[2]: The boat", "The boat"),
        ("=?utf-8?B?UmU6IERhcyBDYWbDqQ==?=", "Das Café"),
        ("=?iso-8859-1?Q?Das_Caf=E9?= in\n =?utf-8?Q?_spring?=", "Das Café in spring"),
        ("=?x-unknown?Q?Das_Caf=E9?=", "Das Café"),
        ("=?utf-8?B?broken", "=?utf-8?B?broken"),
        ("Das Café", "Das Café"),
        ("Regarding: the boat", "Regarding: the boat"),
    ],
)  # fmt: skip
def test_titles_are_decoded_and_lose_re(raw: str, title: str) -> None:
    item = message.read(f"Subject: {raw}\n\n{ONE}".encode(), "a", ())
    assert isinstance(item, Letter)
    assert item.document.title == title


# Whose words


def test_only_the_author_s_messages_are_read(tmp_path: Path) -> None:
    senders = [
        "Anna <anna@example.org>", "Tom <tom@example.org>", "ANNA@EXAMPLE.ORG", "anna at example.org (Anna)",
        '"anna@example.org" <spam@example.com>', "a.miller@example.net",
    ]  # fmt: skip
    box = "".join(f"From x Mon Mar  3 09:12:00 2025\nFrom: {s}\n\n{ONE}\n\n" for s in [*senders, ""])
    results = documents(tmp_path / "a.mbox", box, ("Anna@example.org", "a.miller@example.net"))
    assert [item.reason if isinstance(item, Broken) else item.name for item in results] == [
        "a.mbox:1", "other_author", "a.mbox:3", "a.mbox:4", "other_author", "a.mbox:6", "a.mbox:7",
    ]  # fmt: skip
    assert len(documents(tmp_path / "b.mbox", box)) == 7
    assert all(isinstance(item, Document) for item in documents(tmp_path / "b.mbox", box))
    listed = "From: Anna via Boats <boats@lists.example.org>\nReply-To: anna@example.org\n\n" + ONE
    assert isinstance(documents(tmp_path / "c.eml", listed, ("anna@example.org",))[0], Document)


def test_a_folder_reads_the_messages_of_its_author(tmp_path: Path) -> None:
    for name in ("anna", "tom"):
        (tmp_path / f"{name}.eml").write_text(f"From: {name}@example.org\n\n{ONE}\n")
    source = FolderSource(kind="folder", path=str(tmp_path), author=("anna@example.org",))
    ledger = Ledger(sources.label(source))
    assert [item.name for item in sources.read(source, sources.inputs(source), ledger)] == ["anna.eml"]
    assert ledger.dropped == {"other_author": 1}


@pytest.mark.parametrize(
    "headers",
    [
        "Auto-Submitted: auto-replied",
        "Auto-Submitted: auto-generated",
        "Precedence: auto_reply",
        "X-Autoreply: yes",
        "Content-Type: multipart/report; boundary=b",
        "Content-Type: multipart/alternative; boundary=c",
        "From: MAILER-DAEMON@example.org",
        "From: No Reply <no-reply@example.org>",
        "List-Unsubscribe: <https://example.org>",
        "X-Gmail-Labels: Important,Spam",
        "X-Gmail-Labels: =?UTF-8?Q?Trash,Opened?=",
        'X-Gmail-Labels: Inbox,"Category Promotions"',
        "X-Gmail-Labels: Chat",
        "X-Mozilla-Status: 0009",
        "Subject: Boats Digest, Vol 12, Issue 3",
    ],
)
def test_machine_mail_is_named(headers: str) -> None:
    parts = f"--b\nContent-Type: text/plain\n\n{ONE}\n--b--\n" if "=b" in headers else ONE
    if "=c" in headers:
        parts = (
            f"--c\nContent-Type: text/plain\n\n{ONE}\n--c\nContent-Type: text/calendar; method=REQUEST\n\nx\n--c--\n"
        )
    assert own_of(f"{headers}\n\n{parts}") == "[machine_mail]"


@pytest.mark.parametrize(
    "headers",
    [
        "X-Gmail-Labels: Sent,Opened,Category Personal,Spam letters",
        "X-Mozilla-Status: 0001",
        "X-Mozilla-Status: nothing",
        "Subject: The digest of volume 12",
    ],
)
def test_labels_that_say_nothing_leave_a_message(headers: str) -> None:
    assert own_of(f"{headers}\n\n{ONE}") == ONE


def test_posts_to_lists_stay() -> None:
    head = (
        "From: anna@example.org\nPrecedence: list\nList-Id: <b>\nList-Post: <b>\nList-Unsubscribe:"
        " <u>\nAuto-Submitted: no"
    )
    assert own_of(f"{head}\n\n{ONE}") == ONE
    item = message.read(f"From: anna@example.org\nList-Unsubscribe: <u>\n\n{ONE}".encode(), "a", ("anna@example.org",))
    assert isinstance(item, Letter)  # the author's own newsletter


# Containers


MARK = "From anna@example.org Mon Mar  3 09:12:00 2025"


@pytest.mark.parametrize(
    "mark",
    [
        MARK, "From - Mon Mar 03 09:12:00 2025", "From ???@??? Mon Mar 03 09:12:00 2025",
        "From 1234@xxx Mon Mar 03 09:12:00 +0000 2025", "From anna at example.org  Mon Mar  3 09:12:00 2025",
        "From Anna Miller Mon Mar  3 09:12 2025", "From a@b Mon, 3 Mar 2025 09:12:00 2025",
        "From a@b Mon Mar  3 09:12:00 CET 2025", "From a@b 2025-03-03 09:12:00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_mailbox_is_cut_at_its_separators(tmp_path: Path, mark: str, end: str) -> None:
    box = f"{mark}\nFrom: a@b\nSubject: 1\n\n{ONE}\n\n{mark}\nSubject: 2\nX-Y: 1\n\n{TWO}\n"
    for data in (box, box.replace("\n\nFrom", "\nFrom"), f"\n{box}"):
        data = data.replace("\n", end)
        results = documents(tmp_path / "mbox", data)
        assert [item.text for item in results if isinstance(item, Document)] == [ONE, TWO]
        assert [item.title for item in results if isinstance(item, Document)] == ["1", "2"]
        assert mailboxes.looks_like_mailbox(data.encode()[:200])


def test_from_in_a_body_separates_nothing(tmp_path: Path) -> None:
    lines = [
        "From here on it rained.", "", "From Monday the ferry is open.", "", "From Anna Mon Mar  3 09:12:00 2025",
        "a line that is no header", "", "From the mill", ">From the weir, which is quoted",
    ]  # fmt: skip
    body = "\n".join(lines)
    escaped = (
        f"{ONE}\n>From here on it rained.\n>>From a reply\n\n>quoted\n>From quoted\n\n> quoted\n"
        f">From the road it is near.\n"
    )
    results = documents(tmp_path / "a.mbox", f"{MARK}\nSubject: x\n\n{body}\n\n{MARK}\nSubject: y\n\n{escaped}")
    assert [item.text for item in results if isinstance(item, Document)] == [
        "\n".join(lines[:-1]) + "\nFrom the weir, which is quoted",
        f"{ONE}\nFrom here on it rained.\n\nFrom the road it is near.",
    ]


def test_apple_mail_s_messages_are_read(tmp_path: Path) -> None:
    data = f"Subject: The boat\n\n{ONE}\n".encode()
    plist = b"<?xml version='1.0'?><plist><dict><key>flags</key><integer>1</integer></dict></plist>\n"
    path = tmp_path / "1.emlx"
    assert read_file(path, b"%-10d\n" % len(data) + data + plist) == [Document("1.emlx", "The boat", ONE)]
    assert documents(path, data) == [Document("1.emlx", "The boat", ONE)]
    assert len(documents(path, b"")) == 1


def test_messages_and_mailboxes_without_an_extension_are_recognised() -> None:
    head = "Return-Path: <a@b>\nReceived: from x\n by y\nFrom: a@b\nSubject: x\n\ntext"
    assert mailboxes.looks_like_message(head.encode())
    assert mailboxes.looks_like_message(head[:45].encode()) is False  # no field of a person yet
    assert mailboxes.looks_like_message(head[:60].encode())
    assert not mailboxes.looks_like_message(b"From: London\nTo: Paris\nDate: 3 March\n\nDear Tom,")
    assert not mailboxes.looks_like_message(b"Anna: Come in.\nTom: Thank you.\nAnna: Sit down.\n")
    assert not mailboxes.looks_like_message(b"")
    assert not mailboxes.looks_like_mailbox(b"From here on it rained.\n")
    assert not mailboxes.looks_like_mailbox(b"")
    assert not mailboxes.looks_like_mailbox(f"{MARK}\nno header\n".encode())


def mailbox(texts: list[str], sender: str = "anna@example.org") -> str:
    return "".join(f"{MARK}\nFrom: {sender}\n\n{text}\n\n" for text in texts)


def test_lines_that_end_many_messages_go(tmp_path: Path) -> None:
    words = [f"This is letter {n}, and the river rises by {n} feet." for n in range(20)]
    footer = "Anna Miller\nKeeper of the Mill\nwww.example.org"
    motto = "The river is never the same twice."
    cases = {
        f"\n\nBest wishes,\nAnna\n\n{footer}": "\n\nBest wishes,\nAnna",
        f"\n\nBest wishes,\n{footer}": "\n\nBest wishes,\nAnna Miller",
        f"\n\nAnna\n\n{motto}": "\n\nAnna",
        f"\n\nBest wishes,\n\nAnna\n\n{footer}\n\n{motto}": "\n\nBest wishes,\n\nAnna",
        "\n\nBest wishes,\nAnna": "\n\nBest wishes,\nAnna",
        "\n\nAnna": "\n\nAnna",
    }
    for end, left in cases.items():
        results = documents(tmp_path / "a.mbox", mailbox([text + end for text in words]))
        assert [item.text for item in results if isinstance(item, Document)] == [text + left for text in words]


def test_lines_that_end_a_few_messages_stay(tmp_path: Path) -> None:
    words = [f"This is letter {n}, and the river rises by {n} feet." for n in range(40)]
    closing = "\n\nLooking forward to hearing from you soon."
    texts = [text + (closing if n % 5 == 0 else "") for n, text in enumerate(words)]
    # One letter to many friends is no footer, nor is a message that is there twice.
    circular = [
        f"Dear {name},\n\n" + "\n".join(f"Line {n} of the long letter." for n in range(20)) for name in "ABCDEFGH"
    ]
    for sample in (texts, circular, [words[0]] * 20):
        results = documents(tmp_path / "a.mbox", mailbox(sample))
        assert [item.text for item in results if isinstance(item, Document)] == sample
    senders = "".join(
        mailbox([f"{text}\n\nThat is all for today."], f"{n}@example.org") for n, text in enumerate(words)
    )
    assert all(
        "That is all" in item.text for item in documents(tmp_path / "b.mbox", senders) if isinstance(item, Document)
    )


def test_footers_are_known_from_one_window_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "_WINDOW_MESSAGES", 10)
    words = [f"This is letter {n}, and the river rises by {n} feet." for n in range(22)]
    results = documents(
        tmp_path / "a.mbox", mailbox([f"{text}\n\nThe river is never the same twice." for text in words])
    )
    assert [item.text for item in results if isinstance(item, Document)] == words


# Hostile input


HOSTILE = {
    "quoted": "> quoted\n" * 100_000,
    "on": "On Sunday, 2 March\n" * 50_000,
    "on wrote": "On 2 March 2025 at 18:02, Tom wrote:\n" * 25_000,
    "on marks": "On " * 150_000,
    "wrote": "wrote: " * 100_000,
    "from": "From: a@b\n" * 50_000,
    "fields": "From: a\nSent: 1\n" * 25_000,
    "one line": "From: Sent: " * 50_000,
    "original": "-----Original Message-----\n> x\n" * 25_000,
    "forwarded": "----- Forwarded by x -----\n> x\n" * 25_000,
    "ends": "----- Forwarded by x -----\nx\n----- End forwarded -----\n" * 15_000,
    "dashes": "-" * 500_000,
    "signatures": "--\nx\n" * 50_000,
    "rules": "_____\n" * 50_000,
    "sent": "Sent from my iPhone\n" * 50_000,
    "sent long": "Sent from my iPhone " * 25_000,
    "legal": "this message is confidential and for the addressee " * 10_000,
    "legal blocks": "this message is confidential and for the addressee\n\n" * 10_000,
    "armour": "-----BEGIN PGP SIGNATURE-----\n" * 25_000,
    "armoured": "-----BEGIN PGP SIGNED MESSAGE-----\n" + "\n" * 250_000,
    "blank": "\n" * 500_000,
    "blanks": " " * 500_000 + "x",
    "targets": "x<http:" * 50_000,
    "phones": "+1 " * 150_000,
    "digits": "1" * 500_000,
    "brackets": "[image: " * 50_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_takes_linear_time(text: str) -> None:
    own(text)
    own(f"{ONE}\n\n{text}\n{TWO}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        "Content-Type: text/plain" + '; a="b' * 150_000 + "\n\nx",
        "Subject: " + "=?utf-8?Q?a?= " * 100_000 + "\n\nx",
        "From: " + "(" * 250_000 + "\n\nx",
        "From: " + "a@" * 250_000 + "\n\nx",
        "Subject: x\n" + " y\n" * 150_000 + "\nx",
        "X: y\n" * 100_000 + "\nx",
        "Content-Type: multipart/mixed; boundary=b\n\n" + "--b\n\nx\n" * 150_000,
        "Content-Type: multipart/alternative; boundary=b\n\n" + "--b\nContent-Type: text/html\n\n<p>x\n" * 900,
        "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(3_000)) + "x",
        "Content-Type: message/rfc822\n\n" * 5_000 + "x",
        "Content-Type: text/html\n\n" + "<blockquote>" * 50_000,
        "Content-Type: text/html\n\n" + "<div class=signature>x" * 25_000,
        "Content-Type: text/html\n\n" + "<table><tr><td>" * 25_000,
        "Content-Type: text/html\n\n" + "<br>" * 100_000,
        "Content-Type: text/html\n\n" + f"<div>{WROTE['gmail']}</div><blockquote>x</blockquote>" * 10_000,
        "Content-Type: text/plain; format=flowed\n\n" + "x \n> y \n" * 50_000,
        "Content-Type: text/plain; format=flowed\n\n" + ">" * 500_000,
        "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n" + "=" * 500_000,
        "Content-Type: text/plain; charset=idna\n\n" + "é" * 50_000,
    ],
    ids=range(19),
)
def test_hostile_messages_take_linear_time(data: str, tmp_path: Path) -> None:
    assert len(read_file(tmp_path / "a.eml", data)) == 1
    assert len(read_file(tmp_path / "a.mbox", f"{MARK}\n{data}")) == 1


def test_a_broken_message_ends_no_mailbox(tmp_path: Path) -> None:
    deep = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(3_000))
    box = f"{mailbox([ONE])}{MARK}\n{deep}\n\n{mailbox([TWO])}"
    results = documents(tmp_path / "a.mbox", box)
    assert [item.text for item in results if isinstance(item, Document)] == [ONE, TWO]


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_any_bytes_are_one_item(data: bytes) -> None:
    for head in (b"", b"Content-Type: multipart/mixed; boundary=b\n\n--b\n", b"Content-Type: text/html; charset="):
        assert isinstance(message.read(head + data, "a", ()), Letter | Broken)
    assert mailboxes.looks_like_message(data) in (True, False)
    assert mailboxes.looks_like_mailbox(data) in (True, False)


def test_a_large_attachment_costs_no_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes.items, "LARGEST", 3_000)
    attached = f"--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n{'abcd' * 2_000}\n--b--\n"
    data = f"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n{ONE}\n{attached}"
    assert [item.text for item in documents(tmp_path / "a.eml", data) if isinstance(item, Document)] == [ONE]
    results = documents(tmp_path / "a.mbox", f"{MARK}\n{data}\n\n{mailbox([TWO])}")
    assert [item.text for item in results if isinstance(item, Document)] == [ONE, TWO]
