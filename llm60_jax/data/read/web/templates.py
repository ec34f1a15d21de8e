"""Templates of Wikipedia that carry words: the text that a reader sees in their place."""

import re
from collections.abc import Callable

# Stands for a template whose text is unknown, until the sentence or bracket around it is judged.
UNKNOWN = "\ufdd0"
_MONTHS = "January February March April May June July August September October November December".split()
_NUMBER = re.compile(r"[-+\u2212]?[\d.,]*\d(?:\+?\d{0,4}/{1,2}\d{1,4})?(?:e[-+]?\d{1,3})?$")
# What stands between the numbers of a range, and how it is written.
_RANGES = {
    "-": "\u2013", "\u2013": "\u2013", "to": " to ", "to(-)": " to ", "and": " and ", "and(-)": " and ", "or": " or ",
    "x": " \u00d7 ", "xx": " \u00d7 ", "\u00d7": " \u00d7 ", "*": " \u00d7 ", "by": " by ", "by(x)": " by ",
    "+": " + ", "+/-": " \u00b1 ", "\u00b1": " \u00b1 ", "+-": " \u00b1 ", "to about": " to about ",
}  # fmt: skip
# How units are written, where their code is not their sign.
_UNITS = {
    "km2": "km\u00b2", "m2": "m\u00b2", "cm2": "cm\u00b2", "sqkm": "km\u00b2", "sqm": "m\u00b2", "sqmi": "sq mi",
    "sqft": "sq ft", "sqyd": "sq yd", "m3": "m\u00b3", "km3": "km\u00b3", "cuft": "cu ft", "cuyd": "cu yd",
    "cumi": "cu mi", "C": "\u00b0C", "F": "\u00b0F", "K": "K", "kph": "km/h", "impgal": "imp gal", "USgal": "US gal",
    "acre": "acres", "mile": "miles", "foot": "feet", "inch": "inches", "yard": "yards", "pound": "pounds",
    "ounce": "ounces", "tonne": "tonnes", "LT": "long tons", "ST": "short tons", "nmi": "nautical miles",
    "kn": "knots", "hp": "horsepower", "cuin": "cu in", "lbf": "lbf", "kg/m3": "kg/m\u00b3",
    "PD/sqkm": "per km\u00b2", "PD/sqmi": "per sq mi",
}  # fmt: skip
_LANGUAGES = {
    "ar": "Arabic", "bg": "Bulgarian", "ca": "Catalan", "cs": "Czech", "cy": "Welsh", "da": "Danish", "de": "German",
    "el": "Greek", "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish",
    "fr": "French", "ga": "Irish", "gd": "Scottish Gaelic", "gl": "Galician", "grc": "Ancient Greek", "he": "Hebrew",
    "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "is": "Icelandic", "it": "Italian", "ja": "Japanese",
    "ko": "Korean", "la": "Latin", "lt": "Lithuanian", "lv": "Latvian", "nl": "Dutch", "no": "Norwegian",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sa": "Sanskrit", "sk": "Slovak",
    "sl": "Slovene", "sr": "Serbian", "sv": "Swedish", "th": "Thai", "tr": "Turkish", "uk": "Ukrainian",
    "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
# Signs that templates write.
_SIGNS = {
    "ndash": "\u2013", "endash": "\u2013", "en dash": "\u2013", "\u2013": "\u2013", "mdash": "\u2014",
    "emdash": "\u2014", "em dash": "\u2014", "\u2014": "\u2014", "spaced ndash": " \u2013 ",
    "spaced en dash": " \u2013 ", "snd": " \u2013 ", "spnd": " \u2013 ", "sndash": " \u2013 ", "spndash": " \u2013 ",
    "spaced mdash": " \u2014 ", "spaced em dash": " \u2014 ", "smd": " \u2014 ", "'": "'", "' \"": "'\"",
    "\" '": "\"'", "'\"": "'\"", "\"'": "\"'", "'s": "'s", "apostrophe": "'", "=": "=", "!": "|", "pipe": "|",
    "nbsp": " ", "space": " ", "spaces": " ", "thinsp": " ", "thin space": " ", "hairsp": " ", "px2": " ",
    "times": "\u00d7", "\u00d7": "\u00d7", "minus": "\u2212", "\u2212": "\u2212", "dot": " \u00b7 ",
    "middot": " \u00b7 ", "\u00b7": " \u00b7 ", "bull": " \u2022 ", "bullet": " \u2022 ", "okina": "\u02bb",
    "hamza": "\u02be", "ayin": "\u02bf", "ellipsis": "\u2026", "...": "\u2026", "break": " ", "br": " ", "crlf": " ",
}  # fmt: skip
# Signs before an amount of money.
_MONEY = {
    "usd": "US$", "us$": "US$", "us dollar": "US$", "gbp": "\u00a3", "\u00a3": "\u00a3", "pound sterling": "\u00a3",
    "\u00a3sd": "\u00a3", "euro": "\u20ac", "eur": "\u20ac", "\u20ac": "\u20ac", "inr": "\u20b9",
    "indian rupee": "\u20b9", "\u20b9": "\u20b9", "rupee": "\u20b9", "jpy": "\u00a5", "\u00a5": "\u00a5",
    "cny": "CN\u00a5", "aud": "A$", "a$": "A$", "cad": "C$", "c$": "C$", "nz$": "NZ$", "nzd": "NZ$",
}  # fmt: skip


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split("|"))


# Show their first argument.
_FIRST = _names(
    "nowrap|nobr|nobreak|no wrap|small|smaller|big|larger|resize|abbr|abbrlink|tooltip|em|strong|bold|italic|"
    "noitalic|no italic|nobold|math|mvar|mono|code|tt|kbd|var|samp|key press|not a typo|typo|sic|as written|"
    "proper name|linktext|visible anchor|vanchor|va|center|centre|block indent|in5|smallcaps|small caps|sc|sc1|"
    "sc2|smallcaps2|uline|underline|strikethrough|highlight|sub|sup|nihongo|birth-date|death-date|"
    "birth date text|num|nts|ntsh|number|chem2|iast|unicode|polytonic|script|hebrew|arabic|citation needed span|"
    "cnspan|cn span|text|plain text|nowiki|disputed inline span|flag|flagu|flagcountry|flag country|country|"
    "dropinitial|drop initial|drop cap|nomobile|unbulleted|mention|verse translation|transl-simple|font|span|"
    "legend inline|first word|keypress|respelled"
)
# Show their second argument.
_SECOND = _names("lang|color|colour|font color|fontcolor|align|wikt-lang|audio|bgcolor|rtl-lang|background color")
_SMALLER = _names("ft in|foot in|lb oz|st lb|mi yd|mi ft|yd ft|mi chain")  # units of one measure: 5 ft 7 in
_LAST = _names("transl|transliteration|tlit|script-transl")
QUOTES = _names(
    "quote|cquote|blockquote|block quote|quotation|bquote|rquote|pull quote|pquote|centered pull quote|"
    "long quotation|poemquote|poem quote|poem|verse|epigraph|imagequote|talkquote|tq|tqi|quotetext|cquotetxt"
)
# Show nothing that belongs to the text: sources, notes, remarks of editors, pronunciation, places, boxes.
_SILENT = _names(
    "efn|refn|sfn|sfnp|sfnm|sfnmp|notetag|ref|reflist|notelist|r|rp|ref label|note|note label|cn|fact|"
    "citation needed|citation|better source needed|better source|verify source|failed verification|"
    "verification needed|clarify|clarification needed|who|whom|when|where|which|why|how|by whom|"
    "according to whom|dubious|dubious-inline|disputed inline|vague|page needed|pn|full citation needed|"
    "unreliable source?|primary source inline|non-primary source needed|weasel inline|pov inline|opinion|"
    "attribution needed|update inline|undue weight inline|specify|year needed|date missing|contradictory inline|"
    "ambiguous|relevance inline|editorializing|tone inline|peacock inline|synthesis inline|"
    "original research inline|or|copyedit inline|coord|coordinates|listen|audio icon|flagicon|flag icon|fi|isbn|"
    "ipa|ipac-en|respell|pronunciation|pron|phonetic|sound|"
    "issn|oclc|doi|lccn|jstor|pmid|bibcode|arxiv|hdl|anchor|clear|clr|-|main|see also|see|further|about|for|"
    "hatnote|redirect|distinguish|other uses|rellink|details|broader|short description|toc|toc limit|tocleft|"
    "dead link|webarchive|wayback|link note|in lang|subscription required|registration required|inflation-fn|"
    "inflation/fn|inflation-year|cite|use dmy dates|use mdy dates|quote box|quotebox|multiple image|image frame|"
    "image label|gallery|sister project|commons|commonscat|wikisource|wiktionary|portal|portal bar|"
    "authority control|stub|default sort|defaultsort|hs|sort|shy|zwj|zwnj|wbr|zwsp|0|nowrap begin|nowrap end|"
    "nobreak begin|nobreak end|col-begin|col-break|col-end|div col|div col end|colbegin|colend|official website|"
    "url|imdb title|imdb name|dead|update after|void|pagename|fullpagename|sronly"
)
# Show what is worked out from their arguments.
_UNKNOWN = _names("age|age in years|age in years and days|age nts|inflation|zh|zh-cp|korean|lang-zh")
_UNKNOWN_STARTS = ("age ", "inflation/")
_SILENT_STARTS = (
    "cite ", "cite-", "harv", "infobox", "ipa-", "ipac-", "ipa/", "pronunciation", "flagicon", "#", "use ", "taxobox",
    "automatic taxobox", "speciesbox", "navbox",
    "sidebar", "refbegin", "refend", "coord ", "wikisource", "commons ", "main ", "authority", "listen", "location map",
    "campaignbox", "sfn", "defaultsort", "displaytitle", "s-", "succession", "ahnentafel", "unreferenced",
    "citations needed", "more citations", "inflation-", "notelist",
)  # fmt: skip
_PLAIN_WORDS = re.compile(r"(?=.{0,120}[^\W\d_]{2})[^|{}<>\[\]=/\\_]{2,300}$")


class Arguments:
    """The arguments of a template, as text."""

    def __init__(self, places: list[str], names: dict[str, str]):
        self.places, self.names = places, names

    def at(self, number: int) -> str:
        """Return a numbered argument, the first being 1; "" if it is missing."""
        return self.places[number - 1] if number <= len(self.places) else ""

    def named(self, *names: str) -> str:
        return next((self.names[name] for name in names if self.names.get(name)), "")


def name_of(title: str) -> str:
    """Return a template's name in lower case, without namespace and underscores."""
    return " ".join(title.replace("_", " ").split()).lower().removeprefix("template:").strip()


def text_of(title: str, arguments: Arguments) -> str:
    """Return the text of a template inside a sentence; `UNKNOWN` if it cannot be known."""
    name = name_of(title)
    if ":" in name and not name.startswith("#"):
        function, _, rest = " ".join(title.split()).partition(":")
        if (name_of(function)) in _FUNCTIONS:
            return _FUNCTIONS[name_of(function)](rest.strip())
    if name in _SIGNS:
        return _SIGNS[name]
    if name in _MONEY:
        return _MONEY[name] + arguments.at(1)
    if name in _FIRST or name.startswith("script/"):
        return arguments.at(1) or arguments.named("1", "text")
    if name in _SECOND:
        return arguments.at(2) or arguments.named("2", "text")
    if name in _LAST:
        return arguments.places[-1] if arguments.places else ""
    if name in QUOTES:
        return arguments.named("text", "quote", "content", "1") or arguments.at(1)
    if name in _HANDLERS:
        return _HANDLERS[name](arguments)
    if name.startswith("lang-"):
        return _in_language(name[5:], arguments.at(1))
    if name in _UNKNOWN or name.startswith(_UNKNOWN_STARTS):
        return UNKNOWN
    if name in _SILENT or name.startswith(_SILENT_STARTS):
        return ""
    return _guessed(arguments)


def is_known(title: str) -> bool:
    """Whether a template is one that carries words, or is known to carry none."""
    name = name_of(title)
    known = (_SIGNS, _MONEY, _FIRST, _SECOND, _LAST, QUOTES, _HANDLERS, _SILENT, _UNKNOWN)
    starts = ("lang-", "script/", *_SILENT_STARTS, *_UNKNOWN_STARTS)
    return any(name in names for names in known) or name.startswith(starts) or name.partition(":")[0] in _FUNCTIONS


def _guessed(arguments: Arguments) -> str:
    """Return the first argument of an unknown template if it is words. Most show that."""
    first = arguments.at(1)
    if _PLAIN_WORDS.match(first):
        return first
    return UNKNOWN if first or arguments.names else ""


def _in_language(code: str, text: str) -> str:
    language = _LANGUAGES.get(code.split("-")[0])
    return f"{language}: {text}" if language and text else text


def _grouped(number: str) -> str:
    """Return a number with a comma before each three digits."""
    match = re.fullmatch(r"([-+\u2212]?)(\d{4,30})((?:\.\d{0,30})?)", number)
    return f"{match.group(1)}{int(match.group(2)):,}{match.group(3)}" if match else number


def _amount(text: str) -> str:
    """Return a number as it is written: 5+1/2 as 5 1/2."""
    return _grouped(text.replace(",", "")) if "/" not in text else text.replace("//", "/").replace("+", " ")


def _convert(arguments: Arguments) -> str:
    """Return a measure in its first unit: "93 km", "5 to 7 m", "5 ft 7 in"."""
    places = [place for place in arguments.places if place]
    if not places or not _NUMBER.match(places[0]):
        return UNKNOWN
    text, i = _amount(places[0]), 1
    while i + 1 < len(places) and places[i].lower() in _RANGES and _NUMBER.match(places[i + 1]):
        text += _RANGES[places[i].lower()] + _amount(places[i + 1])
        i += 2
    if i == len(places):
        return text
    unit = places[i]
    text += f" {_UNITS.get(unit, unit)}"
    while i + 2 < len(places) and f"{unit} {places[i + 2]}" in _SMALLER and _NUMBER.match(places[i + 1]):
        unit = places[i + 2]
        text += f" {_amount(places[i + 1])} {_UNITS.get(unit, unit)}"
        i += 2
    if arguments.named("adj") == "mid" and i + 1 < len(places):
        text += " " + places[-1].lstrip("-")
    return text


def _fraction(arguments: Arguments) -> str:
    places = arguments.places
    if len(places) == 1:
        return f"1/{places[0]}"
    return f"{places[0]} {places[1]}/{places[2]}" if len(places) > 2 else "/".join(places)


def _date(arguments: Arguments) -> str:
    """Return a date of year, month and day."""
    numbers = [place for place in arguments.places[:3] if place.isascii() and place.isdigit() and len(place) < 5]
    if not numbers:
        return arguments.at(1)
    year, month = numbers[0], _month(numbers[1]) if len(numbers) > 1 else ""
    if len(numbers) < 3 or not month:
        return f"{month} {year}".strip()
    day = str(int(numbers[2]))
    return f"{day} {month} {year}" if arguments.named("df") else f"{month} {day}, {year}"


def _month(number: str) -> str:
    return _MONTHS[int(number) - 1] if number.isascii() and number.isdigit() and 1 <= int(number[:4]) <= 12 else ""


def _as_of(arguments: Arguments) -> str:
    if arguments.named("alt"):
        return arguments.named("alt")
    words = "since" if arguments.named("since") else "as of"
    year, month, day = arguments.at(1), arguments.at(2), arguments.at(3)
    month = _month(month) or month
    date = " ".join(part for part in (day if month else "", month, year) if part)
    if arguments.named("df") == "us" and day and month:
        date = f"{month} {day}, {year}"
    return f"{words if arguments.named('lc', 'since') else words.capitalize()} {date}"


def _circa(mark: str) -> Callable[[Arguments], str]:
    def text(arguments: Arguments) -> str:
        return " \u2013 ".join(f"{mark} {place}" for place in arguments.places if place) or mark

    return text


def _height(arguments: Arguments) -> str:
    parts = [f"{value} {unit}" for unit in ("m", "cm", "ft", "in") if (value := arguments.named(unit))]
    return " ".join(parts) or UNKNOWN


def _value(arguments: Arguments) -> str:
    number, error, unit = _grouped(arguments.at(1)), arguments.at(2), arguments.named("u", "ul")
    return " ".join([number + (f" \u00b1 {error}" if error else ""), unit]).strip()


def _ordinal(arguments: Arguments) -> str:
    number = arguments.at(1)
    last = "th" if number[-2:-1] == "1" else {"1": "st", "2": "nd", "3": "rd"}.get(number[-1:], "th")
    return number + last if number.isdigit() else number


def _joined(between: str) -> Callable[[Arguments], str]:
    return lambda arguments: between.join(place for place in arguments.places if place)


def _ship(arguments: Arguments) -> str:
    return " ".join(place for place in arguments.places[:2] if place)


def _prefixed(prefix: str) -> Callable[[Arguments], str]:
    return lambda arguments: f"{prefix} {arguments.at(1)}".strip()


_HANDLERS: dict[str, Callable[[Arguments], str]] = {
    **dict.fromkeys(("convert", "cvt", "conv", "convert/sandbox"), _convert),
    **dict.fromkeys(("frac", "sfrac", "fraction", "fract"), _fraction),
    **dict.fromkeys(("circa", "c.", "ca", "ca.", "c"), _circa("c.")),
    **dict.fromkeys(("floruit", "fl", "fl."), _circa("fl.")),
    **dict.fromkeys(
        (
            "birth date", "death date", "start date", "end date", "birth date and age", "death date and age", "bda",
            "dda", "start date and age", "end date and age", "film date", "dob", "birth year and age",
            "death year and age", "dts", "birth year", "date", "release date", "launch date", "opening date",
        ),
        _date,
    ),
    "as of": _as_of,
    "asof": _as_of,
    "langx": lambda arguments: _in_language(arguments.at(1), arguments.at(2)),
    **dict.fromkeys(
        ("ill", "interlanguage link", "link-interwiki", "illm", "interlanguage link multi"),
        lambda arguments: arguments.named("lt") or arguments.at(1),
    ),
    "reign": lambda arguments: "r. " + _joined("\u2013")(arguments),
    "height": _height,
    "val": _value,
    "gaps": _joined(""),
    "ordinal": _ordinal,
    "ord": _ordinal,
    "sortname": lambda arguments: f"{arguments.at(1)} {arguments.at(2)}".strip(),
    "gloss": lambda arguments: f"\u2018{arguments.at(1)}\u2019",
    "angbr": lambda arguments: f"\u27e8{arguments.at(1)}\u27e9",
    "chem": _joined(""),
    **dict.fromkeys(("bibleverse", "bibleref", "bibleref2", "sourcetext"), _joined(" ")),
    **{name: _prefixed(name.upper()) for name in ("hms", "uss", "ss", "rms", "hmas", "hmcs", "ms", "mv", "usns")},
    "ship": _ship,
    "sclass": lambda arguments: f"{arguments.at(1)}-class {arguments.at(2)}".strip(),
    "plusminus": lambda arguments: f"\u00b1{arguments.at(1)}",
    "\u00b1": lambda arguments: f"\u00b1{arguments.at(1)}",
    "oldstyledate": lambda arguments: f"{arguments.at(1)} {arguments.at(2)} [O.S. {arguments.at(3)}]",
}  # fmt: skip
# Functions of the software: {{formatnum:12345}}.
_FUNCTIONS: dict[str, Callable[[str], str]] = {
    "formatnum": _grouped,
    "lc": str.lower,
    "uc": str.upper,
    "lcfirst": lambda text: text[:1].lower() + text[1:],
    "ucfirst": lambda text: text[:1].upper() + text[1:],
    "nowrap": str,
}
