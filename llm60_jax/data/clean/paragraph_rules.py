"""Exclusion rules for paragraphs: each says whether to drop one."""

import re
from typing import NamedTuple

from llm60_jax.config import Exclude


class Paragraph(NamedTuple):
    """A paragraph and its words, which several rules need."""

    text: str
    words: list[str]  # in lower case, without digits and signs

    @staticmethod
    def of(text: str) -> "Paragraph":
        return Paragraph(text, _WORDS.findall(text.lower().replace("\u2019", "'")))

    def has(self, words: frozenset[str]) -> bool:
        """Whether any of the words occurs. Much faster than a pattern: rules test it first."""
        return not words.isdisjoint(self.words)


_WORDS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_EMOJI = "\u2600-\u27bf\U0001f1e6-\U0001faff"

_PUBLISHER = re.compile(
    r"\bproject\s+gutenberg|\bgutenberg(?:-tm)?\b.{0,40}\b(?:electronic|e-?text|e-?book|licen[cs]e|foundation)"
    r"|\bwww\.gutenberg|\bdistributed\s+proofread|\bsmall\s+print!|\bpublic\s+domain\s+e-?texts?",
    re.IGNORECASE,
)
_CREDITS = re.compile(
    r"^\W{0,3}(?:produced|transcribed|scanned|digiti[sz]ed|prepared|proofread|etext|e-text|html version)\b.{0,30}\bby\b"
    r"|^\W{0,3}transcriber'?s'?\s+notes?\b|^\W*this\s+file\s+should\s+be\s+named\b",
    re.IGNORECASE,
)
_NOTICE = re.compile(
    r"""\b(?:all\srights\sreserved|terms\s(?:of\s(?:use|service)|and\sconditions)|privacy\s(?:policy|notice)|cookies?\s(?:policy
        |settings|to\simprove)|(?:uses?|accept)\s(?:all\s)?cookies|click\s(?:here|below|the\sbutton)
        |(?:our|weekly|free)\snewsletter|copyright\s(?:\(c\)|©|\d{4}|notice)|isbn|unsubscribe|powered\sby|javascript
        |related\s(?:posts|articles)|back\sto\stop|skip\sto\s(?:main\s)?content|add\sto\scart|free\sshipping|terms\sapply
        |without\swarrant(?:y|ies)|as[\s-]is\b.{0,40}warrant|liab(?:le|ility)\b.{0,60}damages|indemnif
        |permission\sis\shereby\sgranted|free\sof\scharge,?\sto\sany|(?:copies|portions)\sof\sthe\ssoftware
        |in\sthe\ssoftware\swithout|redistributions?\s(?:and\suse|in|of)\s|express\sor\simplied|merchantab
        |fitness\sfor\sa\sparticular|non-?infring
        |reproduc(?:ed|tion)\b.{0,60}permission|registered\strademark|contributor\slicen[cs]e|licen[cs]ed\sunder)|©""",
    re.IGNORECASE | re.VERBOSE,
)
_HINT = re.compile(
    r"\b(?:subscribe (?:to|now|today)|sign (?:up|in) (?:for|to|with)|log ?in to|follow us|share (?:this|on)"
    r"|advertisement|sponsored|read more|disclaimer|code of conduct|cookies|newsletter|download|web ?site|e-?mail)\b",
    re.IGNORECASE,
)
_NOTICE_WORDS = frozenset(
    (
        "rights terms privacy cookie cookies click subscribe newsletter sign log login follow share copyright isbn "
        "unsubscribe powered javascript advertisement sponsored related read back skip cart shipping warranty "
        "warranties warrant liable liability indemnify indemnification reproduced reproduction trademark conduct "
        "license licence licensed licenced disclaimer gutenberg proofread proofreaders proofreading print domain "
        "produced transcribed scanned digitized digitised prepared etext text html website download email "
        "transcriber transcriber's transcribers named permission software redistribution redistributions implied "
        "merchantability"
    ).split()
)


def boilerplate(paragraph: Paragraph, limits: Exclude) -> bool:
    """Drop publishers' notices, credits, licences, and the repeated text of web pages."""
    if not (paragraph.has(_NOTICE_WORDS) or "©" in paragraph.text):
        return False
    if _PUBLISHER.search(paragraph.text) or _CREDITS.search(paragraph.text):
        return True
    notices = 2 * len(_NOTICE.findall(paragraph.text)) + len(_HINT.findall(paragraph.text))
    # A single hint is no evidence.
    return notices >= 2 and len(paragraph.words) <= 15 * notices - 5


_SOCIAL_SIGN = re.compile(rf"[@#{_EMOJI}]|://|\bRT\b")
_SOCIAL = re.compile(
    rf"(?<![\w.@])@\w[\w.]{{1,30}}\b(?!\.\w)|(?<![\w#&])#[a-zA-Z]\w{{1,40}}|\bhttps?://\S+|\bRT\b(?=\s@|\sif|:)"
    rf"|[{_EMOJI}]\ufe0f?|^\d{{1,2}}/(?:\d{{1,2}})?\s"
)


def social(paragraph: Paragraph, limits: Exclude) -> bool:
    """Drop posts of social media: several handles, hashtags, links or emoji, one per 20 words."""
    if not _SOCIAL_SIGN.search(paragraph.text):
        return False
    marks = len(_SOCIAL.findall(paragraph.text))
    return marks >= limits.social_marks and marks * 20 >= len(paragraph.words)


_SHORTHAND = frozenset(
    (
        "lol lmao rofl omg tbh imo imho btw smh ngl idk idc ikr fyi afaik iirc wtf ffs gonna gotta wanna kinda "
        "sorta dunno lemme gimme plz pls thx y'all yall ppl abt cuz coz tho bruh bro dude meh ugh yikes "
        "nah yep nope haha hehe lolz cant dont wont didnt doesnt isnt ive thats whats"
    ).split()
)
# Each pattern begins with characters that are rare in prose: the search is fast.
_CARELESS = (
    re.compile(r"[!?]{2,}"),
    re.compile(r"[:;]-?[)(DPp](?=\s|$)"),
    re.compile(rf"[{_EMOJI}]"),
    re.compile(r"\.\s(?<=[a-z]{2}\.\s)(?=[a-z]{2})"),
)
_DRAWN_OUT = tuple(letter * 4 for letter in "aeghilmnoprsuwyz")  # sooooo
_CARELESS_WORDS = (" i ", " i'm ", " i've ", " i'll ", " u ", " r ")
_OPINION = re.compile(
    r"""\b(?:in\smy\s(?:humble|honest)\sopinion|just\smy\s(?:two\scents|2\scents|opinion|2c)|my\s(?:two|2)\scents
        |unpopular\sopinion|hot\stake|hear\sme\sout
        |(?:would|do)(?:\snot|n't|\sdefinitely|\shighly)*\srecommend(?:\sit|\sthis\s\w+)?(?:\sto\s\w+one)?\s?(?:[.!]|$)
        |highly\srecommend(?:ed)?|(?:gave|give|rate[sd]?|deserves?)\b.{0,20}\b(?:five|four|three|two|one|\d)[\s-]stars?
        |\d[\s-]stars?(?:$|[.!])|\d{1,2}\s?/\s?(?:5|10)\b|\d\sout\sof\s(?:5|10|five|ten)
        |thumbs\s(?:up|down)|rant\sover|am\si\sthe\sonly|(?:does|did|has)\sany(?:one|body)\selse|who\selse\sthinks
        |(?:down|up)vote\w*|worst\s\w+\sever|best\s\w+\sever|waste\sof\smoney|save\syour\smoney|totally\sagree
        |disagree\swith\syou|prove\sme\swrong|end\sof\srant)""",
    re.IGNORECASE | re.VERBOSE,
)
_OPINION_WORDS = frozenset(
    (
        "opinion cents take hear recommend recommended star stars out thumbs rant only else upvote upvotes upvoted "
        "downvote downvotes downvoted ever waste save agree disagree prove"
    ).split()
)


def post(paragraph: Paragraph, limits: Exclude) -> bool:
    """Drop comments and reviews: by their shorthand, careless spelling and set phrases."""
    marks = sum(word in _SHORTHAND for word in paragraph.words) + sum(map(paragraph.text.count, _CARELESS_WORDS))
    marks += sum(len(pattern.findall(paragraph.text)) for pattern in _CARELESS)
    marks += sum(map(paragraph.text.count, _DRAWN_OUT))
    if paragraph.has(_OPINION_WORDS):
        marks += 2 * len(_OPINION.findall(paragraph.text))
    return marks >= 2 and marks >= limits.informal_share * len(paragraph.words)


_MATH = re.compile(
    r"[\\{}^=<>+$\u00b1\u00d7\u00f7\u2200-\u22ff\u2190-\u21ff\u00b2\u00b3\u2070-\u209f]"
    r"|(?<![\u0370-\u03ff])[\u0370-\u03ff](?![\u0370-\u03ff])|\b[a-zA-Z]_(?=[{\da-zA-Z])"  # a single Greek letter; x_1
)
_COMMAND_CHARACTERS = 6  # weight of a TeX command, in characters


def math(paragraph: Paragraph, limits: Exclude) -> bool:
    """Drop formulas: a larger share of TeX commands, operators and Greek letters than prose has."""
    if not paragraph.words:
        return False
    marks = len(_MATH.findall(paragraph.text)) + (_COMMAND_CHARACTERS - 1) * paragraph.text.count("\\")
    return marks >= max(4, limits.math_share * len(paragraph.text))


_MIN_SYMBOLS_CHARACTERS = 60  # shorter paragraphs can be short answers in quotation marks


def symbols(paragraph: Paragraph, limits: Exclude) -> bool:
    """Drop paragraphs with too few letters: tables of figures, drawn lines, ornaments."""
    characters = len(paragraph.text)
    letters = sum(map(len, paragraph.words)) + paragraph.text.count(" ") + paragraph.text.count("\n")
    return not paragraph.words or (characters >= _MIN_SYMBOLS_CHARACTERS and letters < limits.letter_share * characters)


_FUNCTION_WORDS = frozenset(
    (
        "the of and to a in that it is was he for his with as be not had at on her by she but i they you which have "
        "this from all him said there were so we an or are when if what would who them been no their one will my me "
        "its do then has out up could into your some did than more very now like before only over can such other "
        "how these about time any our after upon must should never where much own well those here thou thee thy "
        "shall hath though yet too made"
    ).split()
)
_MIN_LANGUAGE_WORDS = 12  # the share of function words in fewer is no evidence


def non_english(paragraph: Paragraph, limits: Exclude) -> bool:
    """Drop other languages and scripts. English prose has many function words.

    Below the limit of their share a classifier decides. The limit rises to twice its value for long
    paragraphs, which the classifier judges well.
    """
    words = paragraph.words
    if len(words) < _MIN_LANGUAGE_WORDS:
        return len(words) > 2 and not any(map(str.isascii, words))
    share = sum(word in _FUNCTION_WORDS for word in words) / len(words)
    return share < limits.function_words * (1 + min(1.0, len(words) / 100)) and _language(paragraph.text) != "en"


def _language(text: str) -> str:
    """Return the language code of a text."""
    import py3langid  # imported here: it loads its model for a second

    return py3langid.classify(text[:2000])[0]
