"""Private strings are found, and a model that memorised its training text is refused."""

import copy
import json
import random
from pathlib import Path

import check_privacy
import pytest
from conftest import NOUNS, few_pairs, shared_programs

from llm60_jax import checkpoint, generate
from llm60_jax import config as config_module
from llm60_jax.data.clean import canaries, private
from llm60_jax.errors import DamageError, GateError
from llm60_jax.evaluate import prediction, privacy
from llm60_jax.machine.remembered import Unfinished
from llm60_jax.machine.signals import Interrupts
from llm60_jax.record import store
from llm60_jax.run import loop

FIRST = "anna ben clara david emma frank grace henry iris jack karen liam".split()
LAST = "smith jones brown taylor wilson moore clark lewis walker hall young king".split()
ROADS = "Street Avenue Road Lane Drive Terrace Court Square".split()


def with_check_digit(digits: str) -> str:
    """Append the check digit of Luhn to a card number."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return digits + str(-total % 10)


def account(rng: random.Random) -> str:
    body = "WEST" + "".join(rng.choices("0123456789", k=14))
    number = int("".join(str(int(c, 36)) for c in body + "GB00"))
    return f"GB{98 - number % 97:02}{body}"


def key(rng: random.Random, length: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return "".join(rng.choices(letters, k=length))


def private_sentences(rng: random.Random):
    """Yield two hundred sentences, each with its private string."""
    for _ in range(20):
        first, last = rng.choice(FIRST), rng.choice(LAST)
        street = f"{rng.randint(1, 999)} {rng.choice(NOUNS).title()} {rng.choice(ROADS)}"
        card = with_check_digit("4" + "".join(rng.choices("0123456789", k=14)))
        spaced = " ".join(card[i : i + 4] for i in range(0, 16, 4))
        for secret in (
            f"{first}.{last}{rng.randint(1, 99)}@{rng.choice(NOUNS)}.org",
            f"(212) 555-{rng.randint(1000, 9999)}",
            f"+44 20 7946 0{rng.randint(100, 999)}",
            spaced,
            account(rng),
            f"ghp_{key(rng, 36)}",
            f"AKIA{key(rng, 16).upper()}",
            f"{rng.randint(100, 665)}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}",
            f"8.{rng.randint(1, 254)}.{rng.randint(1, 254)}.{rng.randint(1, 254)}",
            street,
        ):
            yield f"She wrote {secret} on the wall, and left.", secret


def innocent_sentences(rng: random.Random):
    """Yield two hundred sentences with numbers and names that are not private."""
    for _ in range(20):
        year = rng.randint(1200, 2020)
        yield f"The war of {year}-{year + rng.randint(1, 9)} cost {rng.randint(1, 999)},{rng.randint(100, 999)} lives."
        yield f"In chapter {rng.randint(1, 40)}, verse {rng.randint(1, 80)}, the {rng.choice(NOUNS)} burns."
        yield f"It cost ${rng.randint(1, 9)},{rng.randint(100, 999)}.{rng.randint(10, 99)} in {year}."
        yield f"{rng.choice(FIRST).title()} {rng.choice(LAST).title()} lived on the avenue for {year - 1100} years."
        yield f"The ISBN is 978-3-{rng.randint(10, 99)}-{rng.randint(100000, 999999)}-{rng.randint(0, 9)}."
        yield f"At {rng.randint(1, 12)}:{rng.randint(10, 59)} on {year}-0{rng.randint(1, 9)}-11 it rained."
        yield f"A well-known, hard-won and long-remembered {rng.choice(NOUNS)}; see pp. {rng.randint(1, 99)}-{year}."
        yield f"He counted {rng.randint(10**6, 10**7)} grains, then {rng.randint(10**8, 10**9)} more."
        yield f"Room {rng.randint(100, 999)}, platform 9, flight BA{rng.randint(100, 999)}, model X{year}."
        yield f"The temperature fell from {rng.randint(20, 40)}.{rng.randint(0, 9)} to -{rng.randint(1, 30)} degrees."


def test_private_strings_are_found_and_others_left_alone():
    rng = random.Random(3)
    sentences = list(private_sentences(rng))
    missed = [
        sentence
        for sentence, secret in sentences
        if not any(secret in string.text or string.text in secret for string in private.find(sentence))
    ]
    innocent = list(innocent_sentences(rng))
    false = [(sentence, private.find(sentence)) for sentence in innocent if private.find(sentence)]
    assert len(sentences) == len(innocent) == 200
    assert len(missed) <= 10, missed[:10]
    assert len(false) <= 10, false[:10]


def test_a_path_is_no_key():
    assert not private.find("It is in /home/someone/projects/model/checkpoints/12000 and runs/llm60/phases/fine_tune2.")
    assert private.find("aws_secret = wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLE3KEY4")[0].kind == "random key"


def test_a_private_string_is_shown_masked():
    (found,) = private.find("Write to anna.smith@river.org today.")
    assert found.kind == "e-mail address"
    assert found.masked == "an…g (20 characters)"
    assert private.described({"e-mail address": 2, "key": 1}) == ["2 e-mail addresses", "1 key"]


def test_a_decoy_has_the_form_and_not_the_content():
    rng = random.Random(1)
    for secret in ("212-555-0187", "Anna.smith7@river.org", "ghp_aB3dE"):
        decoys = {private.alike(secret, ["house", "stone"], rng) for _ in range(50)}
        assert secret not in decoys
        assert len(decoys) > 5
        for decoy in decoys:
            assert [c for c in decoy if not c.isalnum()] == [c for c in secret if not c.isalnum()]


def test_canaries_follow_from_the_configuration():
    made = canaries.make(1, "fine_tune", 6)
    assert made == canaries.make(1, "fine_tune", 6)
    assert made != canaries.make(2, "fine_tune", 6)
    assert made != canaries.make(1, "vocabulary", 6)
    assert [canary.times for canary in made] == [1, 4] * 3
    assert len({canary.secret for canary in made}) == 6
    assert len(canaries.texts(1, "fine_tune", 6)) == 15
    assert canaries.texts(1, "fine_tune", 0) == []


@pytest.fixture(scope="module")
def memorised(texts, tmp_path_factory):
    """A run of a model trained over and over on a few short texts with telephone numbers, and on canaries."""
    from conftest import tiny_tree

    folder, rng = tmp_path_factory.mktemp("memorised"), random.Random(5)
    (folder / "own").mkdir()
    for number in range(27):
        words = " ".join(rng.choices(NOUNS, k=20))
        secret = f"My telephone number is 212 555 {rng.randrange(10000):04} these days."
        (folder / "own" / f"{number}.txt").write_text(f"{words}. {secret} So ends part {number}.\n")
    tree = copy.deepcopy(tiny_tree(texts)) | {"workdir": str(folder / "run"), "tokenizer": {"phases": ["grammar"]}}
    tree["model"] |= {"layers": 2, "stacks": [2], "dim": 64, "hidden_dim": 128}
    tree["train"] |= {"tokens_per_step": 512, "micro_batch": [[64, 8]], "log_every": 1000, "evaluate_every": 1000}
    tree["train"] |= {"save_every": 1000}
    flat = {"context": [[0.0, 64]], "freeze": [[0.0, 0]], "mlp_dropout": 0.0}
    base = tree["phase"][0] | flat | {"tokens": 20 * 512}
    own = tree["phase"][2] | flat | {"tokens": 400 * 512, "learning_rate": [4e-3, 1e-3], "canaries": 6, "exclude": {}}
    own["sources"] = [{"kind": "folder", "path": str(folder / "own")}]
    own["exclude"] = {"rules": ["boilerplate"]}
    tree["phase"] = [base, own]
    with pytest.MonkeyPatch.context() as patch:
        few_pairs(patch)
        shared_programs(patch)
        loop.launch(config_module.parse(tree, "x"), Interrupts(), "again")
    return folder / "run"


@pytest.mark.slow
def test_a_model_that_memorised_its_text_is_refused(memorised, capsys):
    path = memorised / "phases" / "fine_tune"
    options = [str(path), "--prefixes", "64", "--secrets", "6", "--decoys", "64"]
    assert check_privacy.main(options) == 3
    captured = capsys.readouterr()
    assert "REFUSED" in captured.out
    assert "do not share this model; the report is" in captured.err
    report = json.loads((memorised / "privacy" / "fine_tune.json").read_text())
    assert report["trained_on"]["drawn"] > 0.05 > report["held_out"]["drawn"]
    assert report["private_strings"].keys() == {"telephone number"}
    assert sum(canary["by_heart"] for canary in report["canaries"]) >= 3
    assert len(report["canaries"]) == 6
    text = (memorised / "privacy" / "fine_tune.json").read_text() + captured.out
    assert "212 555" not in text  # the report itself leaks nothing
    state = store.read_meta(path)["state_sha256"]
    with pytest.raises(GateError, match="refused: it continues"):
        privacy.require(memorised, path, state)
    assert check_privacy.main([*options, "--accept-leak-risk", "--why", "all of it is made up"]) == 0
    assert privacy.require(memorised, path, state)["override"] == "all of it is made up"


@pytest.mark.slow
def test_the_model_before_the_phase_passes(memorised):
    path = memorised / "phases" / "grammar"
    with pytest.raises(GateError, match=r"privacy/grammar\.json: missing; check the model before you publish it"):
        privacy.require(memorised, path, "")
    assert check_privacy.main([str(path), "--prefixes", "64", "--json"]) == 0
    report = privacy.require(memorised, path, store.read_meta(path)["state_sha256"])
    assert report["refused"] == []
    with pytest.raises(DamageError, match="belongs to state"):
        privacy.require(memorised, path, "0" * 64)
    (memorised / "privacy" / "grammar.json").write_text("{")
    with pytest.raises(DamageError, match="unreadable"):
        privacy.require(memorised, path, "0" * 64)


@pytest.mark.slow
def test_what_an_interrupted_check_keeps_holds_no_text(memorised, monkeypatch):
    kept: dict[str, object] = {}
    real = Unfinished.__setitem__

    def keep(self, name, value):
        kept[name] = value
        real(self, name, value)

    monkeypatch.setattr(Unfinished, "__setitem__", keep)
    assert check_privacy.main([str(memorised / "phases" / "fine_tune"), "--prefixes", "32", "--decoys", "32"]) == 3
    assert {name.rpartition(" ")[0] for name in kept} == {"training text", "held-out text", "private string", "canary"}

    def leaves(value):
        return [leaf for entry in value for leaf in leaves(entry)] if isinstance(value, list | tuple) else [value]

    assert {type(leaf) for value in kept.values() for leaf in leaves(value)} == {bool, float}


@pytest.mark.slow
def test_a_likely_continuation_is_that_of_the_model_itself(memorised):
    """One forward pass finds the tokens that greedy decoding would write."""
    trained = checkpoint.open_(memorised / "phases" / "fine_tune")
    training, _ = check_privacy.texts_of(trained, Path(trained.config.data_dir))
    ids = [trained.tokenizer.bos, *trained.tokenizer.encode(training[0]["text"])][:64]
    _, is_likeliest = prediction.predict(trained, [ids])
    given = 16
    greedy = generate.Choice(-2, temperature=0.0)
    rows = generate.begin(trained.model, [[*ids[:given], *[generate.FREE] * (64 - given)]], [64], [0], [greedy])
    written = generate.advance(trained.model, trained.plain_params, rows, 63).tokens_BS[0].tolist()
    wrong = next((i for i in range(given, 64) if written[i] != ids[i]), 64)
    assert is_likeliest[0, given - 1 : wrong - 1].all()
    assert wrong == 64 or not is_likeliest[0, wrong - 1]


@pytest.mark.slow
def test_missing_text_and_missing_reason_are_named(memorised, tmp_path, capsys):
    assert check_privacy.main([str(memorised), "--data-dir", str(tmp_path)]) == 2
    assert "the text of phase fine_tune is not here" in capsys.readouterr().err
    assert check_privacy.main([str(memorised), "--accept-leak-risk"]) == 2
    assert "--accept-leak-risk and --why REASON must be used together" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [{"refused": "it leaks"}, {"refused": [7]}, {"refused": [["x"]]}, {"override": True}, {"override": ["why"]}, None],
)
def test_a_foreign_report_is_unreadable(tmp_path, change):
    folder, report = tmp_path / "phases" / "p", {"refused": [], "override": None, "state_sha256": "a"}
    path = privacy.path_of(tmp_path, folder)
    path.parent.mkdir()
    path.write_text(json.dumps(report))
    assert privacy.require(tmp_path, folder, "a") == report
    path.write_text(json.dumps(report | change) if change else "[" * 100_000)
    with pytest.raises(DamageError, match="unreadable"):
        privacy.require(tmp_path, folder, "a")
