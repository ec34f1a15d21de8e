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
    r"\bgutenberg(?:-tm|\u2122|\(tm\)|tm\b)|\bgutenberg\b.{0,40}\b(?:e-?texts?|e-?books?|licen[cs]e|foundation|trademark)"
    r"|\bgutenberg\.(?:org|net)|\bwww\.gutenberg|\bdistributed\s+proofread|\bsmall\s+print!"
    r"|\bpublic\s+domain\s+e-?texts?|\bliterary\s+archive\s+foundation|\belectronic\s+works?\b|\bproject\s+gutenberg",
    re.IGNORECASE,
)
_CREDITS = re.compile(
    r"^\W{0,3}(?:(?:produced|transcribed|scanned|digiti[sz]ed|prepared|proofread|etext|e-text|html\sversion)\b"
    r".{0,30}?\bby\s+(?:the\s+)?[\W_]{0,3}[A-Z]|transcribed\s+from\s+the\b|[Tt]ranscriber'?s'?\s+[Nn]otes?\b"
    r"|this\s+file\s+should\s+be\s+named\b"
    r"|(?:this\s+)?(?:e-?text|e-?book|file)\s+(?:was\s+)?(?:produced|prepared|created|transcribed)\b)",
    re.IGNORECASE,
)
_CREDIT_WORDS = 40
# A sentence of prose has these; a list of those who made an edition has not.
_VERBS = frozenset("were is are had has have he she it i his her my they we you".split())
# Each is a notice by itself: a phrase with its verb, a date, a number.
_NOTICE = re.compile(
    r"""\b(?:all\srights\sreserved|cookies?\sto\simprove|(?:we|site|page|website)\suses?\scookies|accept\s(?:all\s)?cookies
        |by\s(?:clicking|continuing|using)\b.{0,60}\b(?:you\sagree|you\saccept|you\sconsent)|click\s(?:here|below|the\sbutton)\sto
        |(?:enable|requires?|activate|turn\son|disabled)\sjavascript|javascript\sis\s(?:disabled|required|not\senabled|turned)
        |(?:subscribe|sign\sup)\s(?:to|for)\s(?:our|the|my|weekly|free)\b|unsubscribe\s(?:at|from|here|any)|to\sunsubscribe
        |receive\snew\sposts\sand\ssupport\smy\swork|(?:please\s)?clap\sand\sfollow\sme
        |copyright\s(?:\(c\)|©|\d{4}|notice)|isbn(?:-1[03])?:?\s?\d[\d\s-]{8}|proudly\spowered\sby|without\swarrant(?:y|ies)\sof
        |(?:this|unless|except|all)\b.{0,60}\blicen[cs]ed\sunder|terms\sapply
        |permission\sis\shereby\sgranted|free\sof\scharge,?\sto\sany|(?:copies|portions)\sof\sthe\ssoftware
        |in\sthe\ssoftware\swithout|redistributions?\s(?:and\suse|in|of)\s
        |reproduced\b.{0,40}\bin\sany\b|(?:written|prior)\spermission\b|contributor\slicen[cs]e)|©\s?\d{4}|©\s[A-Z]""",
    re.IGNORECASE | re.VERBOSE,
)
# Topics and requests. Two different ones make a notice of a few words.
_HINT = re.compile(
    r"""\b(?:terms\s(?:of\s(?:use|service)|and\sconditions)|privacy\s(?:policy|notice)|cookies?\s(?:policy|settings)
        |(?:our|weekly|free)\snewsletter|unsubscribe|powered\sby|javascript|related\s(?:posts|articles)|back\sto\stop
        |skip\sto\s(?:main\s)?content|add\sto\scart|free\sshipping|as[\s-]is\b.{0,40}warrant|isbn|copyright|registered\strademark
        |liab(?:le|ility)\b.{0,60}damages|indemnif\w{1,5}|express\sor\simplied|merchantab\w{1,5}|fitness\sfor\sa\sparticular
        |non-?infring\w{1,6}|licen[cs]ed\sunder|reproduc(?:ed|tion)\b.{0,60}permission|(?:subscribe|sign\sup)\s(?:to|for|now|today)
        |(?:sign|log)\s?in\s(?:to|with)|follow\sus|share\s(?:this|on)|advertisement|sponsored|read\smore|click\s(?:here|below)
        |disclaimer|code\sof\sconduct)\b|©""",
    re.IGNORECASE | re.VERBOSE,
)
_NOTICE_WORDS = frozenset(
    (
        "rights terms privacy cookie cookies click clicking subscribe newsletter sign log login follow share copyright "
        "isbn unsubscribe powered javascript advertisement sponsored related read back skip cart shipping warranty "
        "warranties warrant liable liability indemnify indemnification reproduced reproduction trademark conduct "
        "license licence licensed licenced disclaimer gutenberg proofread proofreaders proofreading print domain "
        "produced transcribed scanned digitized digitised prepared etext text html electronic "
        "transcriber transcriber's transcribers named permission software redistribution redistributions implied "
        "merchantability archive ebook file comment comments min receive clap filed tagged"
    ).split()
)
_BARE_WORDS = 4  # a topic in so few words is a line of a page
# What a blog puts below a post. A sentence is none.
_BLOG = re.compile(
    r"share|leave a comment|subscribe(?: now)?|\d{1,3} min read|\d{1,4} comments?"
    r"|(?:filed under|posted in|tagged):? [^|\n]{1,200}\|.{1,200}(?<![.!?])",
    re.IGNORECASE,
)
_SELF = frozenset(("i", "my", "me"))
_READER = frozenset(("our", "your", "please", "shall"))


def boilerplate(paragraph: Paragraph, limits: Exclude) -> bool:
    """Drop publishers' notices, credits, licences, and the repeated text of web pages.

    A topic is no notice: prose mentions cookies, licences and Project Gutenberg. A notice has a set
    phrase, or two topics in few words, or is nothing but the topic.
    """
    if not (paragraph.has(_NOTICE_WORDS) or "©" in paragraph.text):
        return False
    text, words = paragraph.text, paragraph.words
    if len(words) <= _CREDIT_WORDS and _CREDITS.search(text) and (len(words) <= 4 or not paragraph.has(_VERBS)):
        return True
    if _BLOG.fullmatch(text):
        return True
    own = paragraph.has(_SELF)
    if paragraph.has(_PUBLISHER_WORDS) and not own:
        marks = len(_PUBLISHER.findall(text))
        if marks >= 2 and len(words) <= 60 * marks:
            return True
    notices, hints = _NOTICE.findall(text), _HINT.findall(text)
    phrases, topics = len(set(map(str.lower, notices))), len(set(map(str.lower, hints)))
    if own and phrases < 2:
        return False
    sentence = text.rstrip("\"'\u201d\u2019) ").endswith((".", "!", "?"))
    if topics and not sentence and len(words) <= _BARE_WORDS:
        return True
    # Topics alone are a notice if there is no sentence, or one that speaks to the reader of a page.
    if not phrases and (topics < 2 or (sentence and topics < 3 and not paragraph.has(_READER))):
        return False
    return len(words) <= 15 * (2 * len(notices) + len(hints)) - 5


_PUBLISHER_WORDS = frozenset(
    "gutenberg proofread proofreaders proofreading etext etexts electronic archive print".split()
)

_HANDLE = re.compile(r"(?<![\w.@])@\w[\w.]{1,30}\b(?!\.\w)")
_HASHTAG = re.compile(r"(?<![\w#&])#[a-zA-Z]\w{1,40}")
_LINK = re.compile(r"\bhttps?://\S+")
_THREAD = re.compile(r"\bRT\b(?=\s@|\sif|:|\sthe)|^\d{1,2}/(?:\d{1,2})?\s")
_EMOJI_SIGN = re.compile(rf"[{_EMOJI}]\ufe0f?")
_SOCIAL_SIGN = re.compile(rf"[@#{_EMOJI}]|://|\bRT\b")
_CAREFUL = re.compile(r"[^\W\d_a-z]|[\"'\u201c\u2018(]")  # the start of a sentence


def social(paragraph: Paragraph, limits: Exclude) -> bool:
    """Drop posts of social media: handles, hashtags, links, emoji, one mark for 20 words.

    They are of two kinds, or there is nothing else. A diary has emoji, an essay has links, and a
    sentence may thank two handles.
    """
    text = paragraph.text
    if not _SOCIAL_SIGN.search(text):
        return False
    handles, hashtags, links, thread, emoji = (
        len(pattern.findall(text)) for pattern in (_HANDLE, _HASHTAG, _LINK, _THREAD, _EMOJI_SIGN)
    )
    marks = handles + hashtags + links + thread + emoji
    if marks < limits.social_marks:
        return False
    rest = len(_WORDS.findall(_LINK.sub("", text))) - handles - hashtags
    kinds = sum(map(bool, (handles, hashtags, links, thread, emoji)))
    if kinds == 1:
        return rest <= marks // 2 and not (links or thread)
    if _CAREFUL.match(text) and text.rstrip("\"'\u201d\u2019)").endswith((".", "!", "?", ":")):
        return kinds > 2 and 10 * marks >= rest
    return 20 * marks >= rest


_SHORTHAND = frozenset(
    (
        "lol lmao rofl omg tbh imo imho btw smh ngl idk idc ikr fyi afaik iirc wtf ffs plz pls thx ppl abt cuz coz tho "
        "bruh lolz"
    ).split()
)
_SPOKEN = frozenset(
    "gonna gotta wanna kinda sorta dunno lemme gimme y'all yall bro dude meh ugh yikes nah yep nope haha hehe".split()
)
_MISSPELT = frozenset("cant dont wont didnt doesnt isnt ive thats whats".split())
# Each pattern begins with characters that are rare in prose: the search is fast.
_EXCLAIMED = re.compile(r"[!?]{2,}")
_SMILE = re.compile(rf"[:;]-?[)(DPp](?=\s|$)|[{_EMOJI}]")
_SMALL_START = re.compile(r"(?<!\.)\.\s(?<=[a-z]{2}\.\s)(?=[a-z]{2})")
_DRAWN_OUT = tuple(letter * 4 for letter in "aeghilmnoprsuwyz")  # sooooo
_SMALL_WORDS = (" i ", " i'm ", " i've ", " i'll ", " u ", " r ")
_OPINION = re.compile(
    r"""\b(?:in\smy\s(?:humble|honest)\sopinion|just\smy\s(?:two\scents|2\scents|opinion|2c)|my\s(?:two|2)\scents
        |unpopular\sopinion|hot\stake|hear\sme\sout
        |(?:would|do)(?:\snot|n't|\sdefinitely|\shighly){0,3}\srecommend(?:\sit|\sthis\s\w{1,30})?(?:\sto\s\w{1,20}one)?\s?(?:[.!]|$)
        |highly\srecommend(?:ed)?|(?:gave|give|rate[sd]?|deserves?)\b.{0,20}\b(?:five|four|three|two|one|\d)[\s-]stars?
        |\d[\s-]stars?(?:$|[.!])|\d{1,2}\s?/\s?(?:5|10)\b|\d\sout\sof\s(?:5|10|five|ten)
        |thumbs\s(?:up|down)|rant\sover|am\si\sthe\sonly|(?:does|did|has)\sany(?:one|body)\selse|who\selse\sthinks
        |(?:down|up)vote\w{0,3}|worst\s\w{1,20}\sever|best\s\w{1,20}\sever|waste\sof\smoney|save\syour\smoney|totally\sagree
        |disagree\swith\syou|prove\sme\swrong|change\smy\smind|end\sof\srant)""",
    re.IGNORECASE | re.VERBOSE,
)
_OPINION_WORDS = frozenset(
    (
        "opinion cents take hear recommend recommended star stars out thumbs rant only else upvote upvotes upvoted "
        "downvote downvotes downvoted ever waste save agree disagree prove mind"
    ).split()
)
_QUOTED = re.compile(r"\u201c[^\u201d]{0,3000}(?:\u201d|$)|\"[^\"]{0,3000}(?:\"|$)|^\u2018.{0,3000}\u2019")
_SPEECH_START = re.compile(r"\s*(?:[\u2014\u2013]\s?\w|['\u2018]\S|[A-Z][A-Z .'-]{1,30}[.:]\s)")


def post(paragraph: Paragraph, limits: Exclude) -> bool:
    """Drop comments and reviews: by their shorthand, careless spelling and set phrases.

    Marks of one kind are no evidence, except for shorthand and many set phrases. Speech is not
    looked at: it is careless in novels too.
    """
    if not _has_post_mark(paragraph):
        return False
    text = paragraph.text
    if _SPEECH_START.match(text):
        return False
    if '"' in text or "\u201c" in text:
        paragraph = Paragraph.of(_QUOTED.sub(" ", text))
        text = paragraph.text
    words = paragraph.words
    kinds = (
        *(sum(map(kind.__contains__, words)) for kind in (_SHORTHAND, _SPOKEN, _MISSPELT)),
        sum(map(text.count, _SMALL_WORDS)),
        len(_EXCLAIMED.findall(text)),
        len(_SMILE.findall(text)),
        len(_SMALL_START.findall(text)),
        sum(map(text.count, _DRAWN_OUT)),
        2 * len(_OPINION.findall(text)) if paragraph.has(_OPINION_WORDS) else 0,
    )
    shorthand, *_, opinion = kinds
    if sum(map(bool, kinds)) < 2 and shorthand < 2 and opinion < 6:
        return False
    return sum(kinds) >= 2 and sum(kinds) >= limits.informal_share * len(words)


def _has_post_mark(paragraph: Paragraph) -> bool:
    """Whether any mark of a post occurs, in speech or not. Fast."""
    text = paragraph.text
    return (
        paragraph.has(_POST_WORDS)
        or any(mark in text for mark in _POST_MARKS)
        or bool(_EXCLAIMED.search(text) or _SMILE.search(text))
    )


_POST_MARKS = (*_SMALL_WORDS, *_DRAWN_OUT)
_POST_WORDS = _SHORTHAND | _SPOKEN | _MISSPELT | _OPINION_WORDS


_MATH = re.compile(
    r"(?<![\\\w:/])\\[a-zA-Z]{2,20}(?!\\)|\$(?!\d[\d.,]{0,20}(?:[kKmMbB]n?)?(?:[\s;:!?)\]\"'\u201d\u2019\u2013-]|$))"
    r"|[{}^=<>+\u00b1\u00d7\u00f7\u2200-\u22ff\u2190-\u21ff\u2070\u2074-\u209f]|(?<![mM])[\u00b2\u00b3]"
    r"|(?<![\u0370-\u03ff])[\u0370-\u03ff](?![\u0370-\u03ff])|\b[a-zA-Z]_(?=[{\da-zA-Z])"  # a single Greek letter; x_1
)
# Characters that one of these has. Few paragraphs do, and this search is fast.
_MATH_SIGN = re.compile(
    r"[\\${}^=<>+_\u00b1\u00d7\u00f7\u2200-\u22ff\u2190-\u21ff\u2070\u2074-\u209f\u00b2\u00b3\u0370-\u03ff]"
)
_COMMAND_CHARACTERS = 6  # weight of a TeX command, in characters
_FORMULA = re.compile(r"(?<![\\$\w])\$[^\s$\d][^$\n]{0,100}(?<!\s)\$(?!\d)|\$[^\s$]\$(?!\d)")
_ARITHMETIC = frozenset("<>+$\\")
# Prose has these too: commands and braces of text, paths through menus, arrows, plus signs.
_MATH_TEXT = frozenset("\\{}<>+$\u2190\u2191\u2192\u2193\u2194\u21d2")


def math(paragraph: Paragraph, limits: Exclude) -> bool:
    """Drop formulas: a larger share of TeX commands, operators and Greek letters than prose has.

    There are signs of two kinds, or one that prose does not have. A backslash or a price is no sign.
    """
    if not paragraph.words or not _MATH_SIGN.search(paragraph.text):
        return False
    signs = _MATH.findall(paragraph.text)
    commands = sum(sign[0] == "\\" for sign in signs)
    if len(signs) + (_COMMAND_CHARACTERS - 1) * commands < max(4, limits.math_share * len(paragraph.text)):
        return False
    kinds = {sign[0] for sign in signs}
    return bool(kinds - _MATH_TEXT or len(kinds & _ARITHMETIC) >= 2 or _FORMULA.search(paragraph.text))


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
    share = sum(map(_FUNCTION_WORDS.__contains__, words)) / len(words)
    return share < limits.function_words * (1 + min(1.0, len(words) / 100)) and _language(paragraph.text) != "en"


def _language(text: str) -> str:
    """Return the language code of a text."""
    import py3langid  # imported here: it loads its model for a second

    return py3langid.classify(text[:2000])[0]
