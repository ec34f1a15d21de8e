"""An author who writes English prose of any length from word lists, the same for the same seed.

No run of four words occurs twice in what one author writes. So a run that a text holds says which
block it comes from, and no text of one author is a near-duplicate of another.
"""

import random
import re
from collections.abc import Callable

from writing.truth import RUN, Block, tokens

_NOUNS = """
almanac anchor apple apron attic awning axle badger baker ballad barge barrel basket beacon bell bench blanket boat
bonfire bookcase bottle bridge broom bucket button cabinet candle canoe carpet carriage cart cellar chapel chimney
chisel circus clerk cloak clock coat compass copper cottage cradle crane cricket crow crown cupboard curtain cushion
dairy desk donkey door dove drawer drum dyke eagle elm engine envelope farmer feather fence ferry fiddle field flood
flour forge fountain fox frost garden gate glove goat goose grain granary hammer harbour harvest hat hedge heron hinge
horse hour hut ink island jacket jar jetty journal kettle key kitchen kite ladder lake lamp lantern lawn ledger lemon
letter lighthouse lock loom mare map market mast meadow melon mill mirror mole moth mule nail needle nest notebook oak
oar oven owl paddle parcel parlour path pearl pebble pencil pepper pigeon pillow pipe plank plough plum pocket pond
porch potter pump puzzle quarry quilt raft railway rake raven ribbon ridge ring river road robin roof rope rudder
saddle sail saw school scythe shed shelf ship shoe shovel sickle signal sparrow spoon spring squirrel stable stair
stone stove stream sundial table tailor teapot thimble thread tide tower trunk tunnel turnip umbrella valley vase
village violin wagon wall walnut weaver weir wheel whistle willow window wolf workshop yard
""".split()
_ADJECTIVES = """
ancient awkward bare bitter blue blunt brave brief bright broad broken brown busy calm careful cheap chilly clean
clever clumsy common cracked crooked crowded curious damp dark dear deep dim distant drowsy dry dull dusty eager early
empty faded faint familiar fine flat foolish forgotten fragile frozen gentle golden grand grey handsome hasty heavy
hidden hollow honest humble idle jolly kind late lazy lean lonely long loose lost loud low mild modest muddy narrow
neat noisy odd old painted pale patient plain pleasant proud quick quiet rare red restless rough round rusty sad
second shabby shallow sharp short silent silver simple slender slow small smooth soft sour spare steady steep stiff
strange sturdy sudden tall tame thick thin tidy tired tough uneven useful warm weary wet white wide wild wooden yellow
""".split()
_VERBS = """
admired answered avoided bought borrowed broke brought built buried carried caught chose cleaned counted covered
crossed described discovered dragged drew dropped envied examined fetched filled followed forgave forgot found gave
guarded hated hid ignored imagined inherited kept kicked led lent lifted loved measured mended mentioned missed moved
named noticed offered opened ordered owned packed painted paid passed praised preferred pulled pushed questioned
recognised recommended refused remembered repaired replaced rescued returned saved searched sent served sketched sold
spared stole studied swept tested thanked touched traded trusted turned understood visited wanted warmed washed watched
welcomed wrapped
""".split()
_INTRANSITIVE = """
arrived blinked bowed coughed dreamt dozed drifted fell frowned hesitated hurried joked knelt laughed leaned limped
listened lingered nodded paused prayed promised rested returned rose sang shivered shrugged sighed slept smiled stayed
stood stumbled trembled vanished waited walked wandered wept whispered whistled wondered worked yawned
""".split()
_ADVERBS = """
again alone anyway badly barely briefly calmly carefully cheerfully early eagerly easily freely gently gladly gravely
half-heartedly heavily honestly kindly late loudly meanwhile neatly often openly patiently plainly politely quickly
quietly rarely sadly seldom sharply shyly slowly softly steadily stubbornly suddenly sweetly twice warmly wearily wisely
""".split()
_ABSTRACT = """
affection ambition attention beauty boredom candour caution chance character charity comfort courage courtesy craft
curiosity custom danger delay doubt duty envy faith fame fashion fear freedom friendship generosity gossip gratitude
grief habit haste honesty honour hope humour ignorance invention jealousy judgement justice kindness knowledge labour
laughter learning leisure loyalty luck memory mercy modesty music order patience persistence pity pleasure poverty
praise pride prudence punctuality reason regret repetition rest ritual sadness silence skill sleep solitude taste
thrift time tradition travel trust truth vanity virtue wealth wit wonder work youth
""".split()
_PEOPLE = """
Agnes Alfred Alice Ambrose Anna Barnaby Beatrice Benedict Bridget Cecily Clara Cyril Daphne Dora Edith Edmund Eleanor
Elsie Esther Felix Florence Frances Gilbert Greta Harriet Hester Hubert Ida Ines Irene Jasper Josephine Judith Lydia
Mabel Magnus Marian Martha Matilda Maud Miriam Nathaniel Nora Olive Oscar Osbert Percy Phoebe Rosalind Rufus Silas
Simon Stella Sybil Theodora Tobias Ursula Violet Walter Winifred
""".split()
_ROLES = """
apprentice aunt blacksmith bookseller butcher captain carpenter carter cousin doctor fisherman gardener glazier
grandfather grandmother grocer innkeeper landlord mayor mechanic midwife miller neighbour niece nurse organist painter
plumber postman printer ranger sailor schoolmaster sexton shepherd stationmaster stranger teacher uncle vicar
watchmaker widow
""".split()
_PLACES = """
Alderfold Ambleford Barrowmere Birchstead Brackwater Brindle Calderhythe Copsley Dunmarsh Eastmoor Elmbridge Fennick
Foxholme Garsley Harrowby Heathwick Kelderby Larkham Lindley Marlowe Millbrook Norcombe Oakhanger Pendry Quarley
Ravensett Saltby Sedgewick Stonelow Tarnside Thornbury Underhay Wexcombe Whitley Withern Yarrowdale
""".split()
_PLURALS = [
    noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")
    for noun in _NOUNS
    if noun not in ("shelf", "wolf", "goose", "grain", "flour", "ink")
    and not (noun.endswith("y") and noun[-2] not in "aeiou")
]
_TIMES = """
after breakfast|after the rain|all that winter|at dawn|at dusk|at midnight|at noon|before Christmas|before supper|by
candlelight|by Easter|during Lent|every Friday|every second Sunday|for three weeks|in April|in August|in December|in
February|in June|in May|in November|in spring|last Tuesday|on Monday|on Saturday|once a month|one evening|one
morning|some years later|that afternoon|that summer|the next day|towards evening|twice a year|until October|when I was
nine
"""
_WORDS: dict[str, list[str]] = {
    "n": _NOUNS,
    "ns": _PLURALS,
    "a": _ADJECTIVES,
    "v": _VERBS,
    "i": _INTRANSITIVE,
    "d": _ADVERBS,
    "q": _ABSTRACT,
    "name": _PEOPLE,
    "role": _ROLES,
    "place": _PLACES,
    "time": " ".join(_TIMES.split()).split("|"),
    "prep": "above across against along around behind below beneath beside beyond in near over past towards under"
    " with within without".split(),
    "det": "a|the|my|her|his|our|that|their|the other|every|one".split("|"),
    "link": "although|and|because|but|so that|though|until|when|where|whereas|while|before|after|unless".split("|"),
    "think": "believe|claim|doubt|feel|hear|hope|know|suspect|suppose|swear|fear|imagine".split("|"),
    "said": "answered asked cried grumbled murmured remarked replied said shouted wrote".split(),
    "number": "two three four five six seven eight nine ten eleven twelve twenty thirty forty".split(),
}
_GRAMMAR: dict[str, list[str]] = {
    **_WORDS,
    "who": ["{name}", "the {role}", "my {role}", "the {a} {role}", "{name} the {role}", "a {role} from {place}"],
    "what": ["{det} {n}", "{det} {a} {n}", "{det} {n} of {place}", "{number} {a} {ns}", "{q}", "the {n} and the {n}"],
    "where": ["{prep} {det} {n}", "{prep} {det} {a} {n}", "in {place}", "near {place}", "{prep} the {n} at {place}"],
    "clause": [
        "{who} {v} {what}",
        "{who} {v} {what} {where}",
        "{who} {i} {where}",
        "{who} {d} {v} {what}",
        "{det} {n} {i} {d}",
        "nobody {v} {what}",
        "{what} had {a} edges",
        "{who} never {v} {what}",
        "there was {det} {n} {where}",
        "{who} {v} {what} for {what}",
    ],
    "mine": [
        "I {v} {what}",
        "I {d} {v} {what} {where}",
        "I {i} {where} {time}",
        "my {n} {i} {where}",
        "I had {v} {what} {time}",
        "{who} and I {v} {what}",
    ],
    "narrative": [
        "{Time} {clause}, and {clause}.",
        "{Clause}, {link} {clause}.",
        "{Clause}; {clause}.",
        "{Who} {v} {what}, {v} {what}, and {i} {where}.",
        "{Where} there was {det} {a} {n}, {link} {clause}.",
        "{Clause}, which {v} {what} {time}.",
        "{Who}, who {v} {what}, {i} {where}.",
        "{Clause}.",
    ],
    "personal": [
        "{Mine}, {link} {clause}.",
        "{Time} {mine}, and {mine}.",
        "I {think} that {clause}, {link} {mine}.",
        "{Mine}; {clause}.",
        "As a child {mine}, {link} {who} {i}.",
        "{Mine}.",
    ],
    "argument": [
        "{Q} is no {n}, and {q} is seldom {a}.",
        "That {clause} does not follow from {q}, {link} {clause}.",
        "Whoever {v} {what} owes {q} to {what}.",
        "People {think} that {q} needs {q}; {q} needs {what}.",
        "What has {q} to do with {what}, if {clause}?",
        "Perhaps {q} is more {a} than {q}, {link} {clause}.",
        "Of {q} and {q} the {a} one {i} first.",
        "There is a {a} {q} in {what} that {q} lacks.",
        "Neither {q} nor {what} was ever {a} {where}, {link} {clause}.",
    ],
    "speech": [
        "Have you {v} {what}?",
        "{Who} {v} {what}, and {clause}.",
        "You {think} that {clause}.",
        "Nobody {v} that {n}, {link} {clause}.",
        "Was it {q}, or had {who} {v} {what}?",
        "I {v} {what} {where}, {link} {clause}.",
    ],
    "verse": [
        "The {n} is {a}, the {n} is {a},",
        "And {who} {v} {det} {n};",
        "O {a} {n} of {place},",
        "I {v} a {n} {where},",
        "No {n} {i} so {d}",
        "And {q} {i} {where},",
        "My {a} {n}, my {a} {n},",
        "But {name} {v} the {n}.",
        "So {i} the {n} {where}.",
    ],
    "item": [
        "{number} {a} {ns} from {place}",
        "a {a} {n} and {what}",
        "the {n} that {who} {v}",
        "{what} {where} again",
    ],
    "title": ["The {A} {N} of {Place}", "A {N} and the {N}", "{Who} and the {A} {N}", "On {Q} and the {N}"],
    "accented": [
        "“{Clause},” said Zoë in the café, {link} {clause}.",
        "My naïve fiancée {v} {what}, {link} it wasn\u2019t {a}.",
        "The façade was a cliché; {clause} for £{number_sign}.",
        "Renée\u2019s résumé {i} {where}, and {clause}.",
        "{Clause}, as the curé of Orléans {v} {what}.",
    ],
    "number_sign": [str(number) for number in range(2, 99)],
}
_TRIES = 1_000  # to write something new
_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")


class Author:
    """A writer of prose, verse, talk and lists. Each call returns new text."""

    def __init__(self, seed: str):
        self.rng = random.Random(seed)
        self._used: set[tuple[str, ...]] = set()

    def line(self, form: str) -> str:
        """Return one text of a form of the grammar ("narrative", "verse", "item", ...)."""
        return self._new(lambda: self._expanded(form))

    def written(self, template: str) -> str:
        """Return a text after a template with slots of the grammar."""
        return self._new(lambda: self._filled(template))

    def sentences(self, count: int, form: str = "") -> str:
        """Return some sentences; their forms vary with the topic unless `form` is given."""
        topic = self.rng.choice((("narrative", "personal"), ("argument", "narrative"), ("personal", "argument")))
        return " ".join(self.line(form or self.rng.choice(topic)) for _ in range(count))

    def paragraph(self, form: str = "") -> Block:
        """Return a paragraph of three to six sentences."""
        return Block(self.sentences(self.rng.randint(3, 6), form))

    def prose(self, paragraphs: int) -> list[Block]:
        """Return consecutive paragraphs."""
        return [self.paragraph() for _ in range(paragraphs)]

    def talk(self, speeches: int) -> list[Block]:
        """Return direct speech, a paragraph for each speaker."""
        said = ['"{speech}" {said} {who}.', '"{speech}"', '{Who} {i}. "{speech}"']
        texts = [self._new(lambda: self._filled(self.rng.choice(said))) for _ in range(speeches)]
        return [Block(text.replace('."', ',"') if text.endswith(".") and '." ' in text else text) for text in texts]

    def stanza(self, lines: int = 4) -> Block:
        """Return a stanza: short lines that begin with capitals."""
        return Block("\n".join(self._new(lambda: self._short("verse", 48)) for _ in range(lines)), "verse")

    def heading(self) -> Block:
        """Return a heading of four to six words."""
        return Block(self.title(), "heading")

    def title(self) -> str:
        """Return a title of four to eight words."""
        return self._new(lambda: self._expanded("title"))

    def items(self, count: int) -> list[Block]:
        """Return the items of a list."""
        return [Block(self.line("item"), "item") for _ in range(count)]

    def _new(self, make: Callable[[], str]) -> str:
        """Return the first text without a run of words that this author has used before."""
        for _ in range(_TRIES):
            text = make()
            words = tokens(text)
            runs = [tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]
            if runs and len(set(runs)) == len(runs) and self._used.isdisjoint(runs):
                self._used.update(runs)
                return text
        raise ValueError(f"no new text in {_TRIES} tries: {text!r}")

    def _short(self, form: str, characters: int) -> str:
        """Return a text of at most so many characters."""
        while len(text := self._expanded(form)) > characters:
            pass
        return text

    def _expanded(self, form: str) -> str:
        return self._filled(self.rng.choice(_GRAMMAR[form]))

    def _filled(self, template: str) -> str:
        """Fill the slots of a template. A slot in capitals begins with a capital letter."""

        def fill(match: "re.Match[str]") -> str:
            name = match.group(1)
            text = self._filled(self.rng.choice(_GRAMMAR[name.lower()]))
            return text if name.islower() else text[0].upper() + text[1:]

        return _ARTICLE.sub(r"\1n ", _SLOT.sub(fill, template))
