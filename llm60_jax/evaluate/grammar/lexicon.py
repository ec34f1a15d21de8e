"""Words for the minimal pairs (suite.py): everyday English, sorted by their use in a sentence."""

from typing import NamedTuple


class Noun(NamedTuple):
    """A countable noun."""

    singular: str
    plural: str


class Verb(NamedTuple):
    """The five forms of a verb."""

    base: str
    third: str
    past: str
    participle: str
    ing: str


def _nouns(text: str) -> tuple[Noun, ...]:
    """Return a noun for each word: `boy`, or `child/children` where the plural is irregular."""
    forms = [word.partition("/") for word in text.split()]
    return tuple(Noun(singular, plural or singular + "s") for singular, _, plural in forms)


def _verbs(text: str) -> tuple[Verb, ...]:
    """Return a verb for each line of five forms."""
    return tuple(Verb(*line.split()) for line in text.strip().splitlines())


PEOPLE = _nouns(
    "boy girl teacher doctor farmer sailor student neighbour painter singer baker driver soldier writer guest "
    "visitor child/children woman/women man/men lawyer nurse gardener merchant stranger shepherd poet officer"
)
ANIMALS = _nouns("dog cat horse bird cow goat rabbit lion duck tiger bear mouse/mice goose/geese wolf/wolves hen")
THINGS = _nouns(
    "book letter window table chair lamp bottle clock picture basket key stone boat wagon coat bell mirror box/boxes "
    "knife/knives map ladder barrel candle carpet drum"
)
PLACES = _nouns("house garden village river church/churches bridge school market forest tower harbour field mill road")
MALE = ("king", "father", "uncle", "brother", "prince", "husband", "monk", "grandfather", "gentleman", "son")
FEMALE = ("queen", "mother", "aunt", "sister", "princess", "wife", "nun", "grandmother", "lady", "daughter")

# what people do, without an object
INTRANSITIVE = _verbs("""
laugh laughs laughed laughed laughing
sleep sleeps slept slept sleeping
smile smiles smiled smiled smiling
wait waits waited waited waiting
arrive arrives arrived arrived arriving
talk talks talked talked talking
walk walks walked walked walking
work works worked worked working
listen listens listened listened listening
cough coughs coughed coughed coughing
rest rests rested rested resting
kneel kneels knelt knelt kneeling
weep weeps wept wept weeping
travel travels travelled travelled travelling
""")
# what people do to a person
SOCIAL = _verbs("""
admire admires admired admired admiring
help helps helped helped helping
thank thanks thanked thanked thanking
invite invites invited invited inviting
visit visits visited visited visiting
follow follows followed followed following
praise praises praised praised praising
trust trusts trusted trusted trusting
avoid avoids avoided avoided avoiding
greet greets greeted greeted greeting
blame blames blamed blamed blaming
remember remembers remembered remembered remembering
""")
# what people do to a thing; the object is required
TRANSITIVE = _verbs("""
carry carries carried carried carrying
find finds found found finding
repair repairs repaired repaired repairing
lift lifts lifted lifted lifting
bring brings brought brought bringing
use uses used used using
examine examines examined examined examining
fetch fetches fetched fetched fetching
mention mentions mentioned mentioned mentioning
""")
# verbs whose past differs from their participle, each with things that suit it as objects
IRREGULAR = (
    (Verb("break", "breaks", "broke", "broken", "breaking"), ("window", "bottle", "mirror", "lamp")),
    (Verb("write", "writes", "wrote", "written", "writing"), ("letter", "book", "poem", "song")),
    (Verb("take", "takes", "took", "taken", "taking"), ("key", "coat", "map", "basket")),
    (Verb("see", "sees", "saw", "seen", "seeing"), ("bridge", "tower", "boat", "river")),
    (Verb("choose", "chooses", "chose", "chosen", "choosing"), ("house", "picture", "carpet", "horse")),
    (Verb("steal", "steals", "stole", "stolen", "stealing"), ("clock", "wagon", "horse", "coat")),
    (Verb("hide", "hides", "hid", "hidden", "hiding"), ("letter", "key", "box", "knife")),
    (Verb("eat", "eats", "ate", "eaten", "eating"), ("apple", "cake", "pear", "pie")),
    (Verb("drive", "drives", "drove", "driven", "driving"), ("wagon", "car", "cart", "bus")),
    (Verb("draw", "draws", "drew", "drawn", "drawing"), ("map", "picture", "castle", "tree")),
    (Verb("forget", "forgets", "forgot", "forgotten", "forgetting"), ("name", "key", "song", "date")),
    (Verb("throw", "throws", "threw", "thrown", "throwing"), ("stone", "ball", "rope", "hat")),
)
IRREGULAR_NOUNS = (
    "child/children", "woman/women", "man/men", "mouse/mice", "goose/geese", "foot/feet", "tooth/teeth",
    "knife/knives", "leaf/leaves", "wolf/wolves", "loaf/loaves", "shelf/shelves", "thief/thieves", "wife/wives",
)  # fmt: skip

# adjectives compared by an ending
SHORT = (
    ("tall", "taller", "tallest"), ("old", "older", "oldest"), ("young", "younger", "youngest"),
    ("strong", "stronger", "strongest"), ("kind", "kinder", "kindest"), ("rich", "richer", "richest"),
    ("quick", "quicker", "quickest"), ("brave", "braver", "bravest"), ("wise", "wiser", "wisest"),
    ("poor", "poorer", "poorest"), ("slow", "slower", "slowest"), ("loud", "louder", "loudest"),
)  # fmt: skip
# adjectives compared by "more" and "most"
LONG = (
    "careful", "patient", "generous", "honest", "cheerful", "curious", "famous", "powerful", "stubborn", "anxious",
    "talented", "ambitious",
)  # fmt: skip
MOODS = ("happy", "tired", "ill", "angry", "busy", "sad", "hungry", "afraid", "alone", "awake", "silent", "safe")

# words by their first sound, which the spelling does not always show
VOWEL_THINGS = ("apple", "egg", "orange", "umbrella", "island", "arrow", "engine", "envelope", "onion", "hour", "oven")
CONSONANT_THINGS = (
    "pear", "lamp", "table", "uniform", "carpet", "window", "unicorn", "bottle", "house", "year", "horse",
)  # fmt: skip
VOWEL_QUALITIES = ("old", "ugly", "empty", "honest", "expensive", "unusual", "interesting", "elegant", "ancient")
CONSONANT_QUALITIES = ("new", "heavy", "useful", "beautiful", "huge", "European", "wooden", "simple", "unique")

MASS = ("water", "bread", "milk", "sand", "money", "rain", "butter", "snow", "gold", "salt", "rice", "furniture")

# verbs that take a clause with "that" only, and with "whether" only
SAYS = ("believes", "hopes", "claims", "insists", "assumes", "fears")
ASKS = ("wonders", "asks", "inquires")

# verbs with their only preposition: subject, verb, preposition, object
WITH_OF = (
    ("the book", "consists", "of", "three parts"), ("the person", "approves", "of", "the plan"),
    ("the person", "disposes", "of", "the rubbish"), ("the person", "dreams", "of", "a long journey"),
    ("the cake", "consists", "of", "four layers"), ("the person", "approves", "of", "the marriage"),
)  # fmt: skip
WITH_ON_OR_TO = (
    ("the price", "depends", "on", "the weather"), ("the person", "relies", "on", "the harvest"),
    ("the person", "insists", "on", "a better price"), ("the farm", "belongs", "to", "the old family"),
    ("the person", "listens", "to", "the music"), ("the person", "refers", "to", "the first chapter"),
    ("the answer", "depends", "on", "the question"), ("the person", "objects", "to", "the noise"),
)  # fmt: skip
