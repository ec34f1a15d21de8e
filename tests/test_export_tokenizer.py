"""The tokenizer in the files of other programs gives our ids, and decodes to our text."""

import json
import random

import pytest
from conftest import write_corpus
from exports import variant

from llm60_jax.data.tokens import tokenizer as own
from llm60_jax.data.tokens.tokenizer import Kind, Tokenizer
from llm60_jax.errors import DamageError, InputError
from llm60_jax.export import tokenizer as exported

tokenizers = pytest.importorskip("tokenizers")

STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": False}
LITERAL = ["<s>", "</s>", "<pad>", "<unk>", "a <s> b", "The</s>\nriver"]


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def words(tmp_path_factory, request) -> Tokenizer:
    """A small tokenizer of each kind."""
    folder = tmp_path_factory.mktemp(request.param)
    texts = [path.read_text() for path in sorted(write_corpus(folder / "text", 60, 1).iterdir())]
    rng = random.Random(2)
    lines = [line + " " + "".join(rng.choices("abcdefgh<>0x41. ", k=30)) for text in texts for line in text.split("\n")]
    size = {"bpe": 500, "unigram": 400}[request.param]
    (folder / "tokenizer.model").write_bytes(own._learn(lines, size, request.param))
    return Tokenizer.load(folder / "tokenizer.model")


@pytest.fixture
def folder(words, tmp_path):
    exported.write(words, tmp_path, 64, answers=False)
    return tmp_path


def made_up(count: int) -> list[str]:
    """Texts of random characters: letters, blanks, newlines, rare scripts."""
    rng = random.Random(5)
    characters = [*"aehortn ", *"aehortn ", " ", "\n", "\u2581", "0", "7", ".", "\u00e9", "\u4f60", "\U0001f600", "\t"]
    texts = ["".join(rng.choices(characters, k=rng.randint(1, 40))) for _ in range(count)]
    anything = [chr(rng.choice([rng.randrange(1, 0xD800), rng.randrange(0xE000, 0x110000)])) for _ in range(count)]
    return [*texts, *("".join(rng.choices(anything, k=8)) for _ in range(count // 4))]


def test_the_vocabulary_is_that_of_the_model_file(words):
    entries = words.entries()
    assert [entry.piece for entry in entries[:4]] == ["<pad>", "<unk>", "<s>", "</s>"]
    assert [entry.kind for entry in entries[:4]] == [Kind.CONTROL, Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL]
    assert sum(entry.kind == Kind.BYTE for entry in entries) == 256
    assert [entry.piece for entry in entries if entry.kind == Kind.USER_DEFINED] == ["\n"]
    assert words.is_bpe == ("bpe" in str(words.path))


def test_ids_and_texts_are_ours(words, folder):
    written = exported.read(folder / exported.NAME)
    ties = 0
    for text in [*exported.ODD_TEXTS, *made_up(400)]:
        if not words.is_bpe and exported._SPELT_BYTE.search(text):
            continue
        ours, theirs = [words.bos, *words.encode(text)], written.encode(text).ids
        if ours != theirs:
            assert exported._is_tie(words, ours, theirs), text
            ties += 1
        space = "" if text.startswith("\n") or not text else " "
        assert written.decode(ours) == space + words.decode(ours), text
    assert ties <= (0 if words.is_bpe else 20)
    assert exported.verify(words, folder, ["The", " river"])[0].startswith("tokenizer.json: the ids of 7")


def test_a_continuation_keeps_the_space_before_it(words, folder):
    """Programs decode the new tokens alone, so the decoder must strip nothing."""
    written = exported.read(folder / exported.NAME)
    ids = words.encode("The river opened the window")
    for cut in range(1, len(ids)):
        parts = [written.decode(ids[:cut]), written.decode(ids[cut:])]
        assert "".join(parts) == " The river opened the window"


def test_literal_control_tokens_are_the_known_exception(words, folder):
    written = exported.read(folder / exported.NAME)
    for text in LITERAL:
        assert written.encode(text).ids != [words.bos, *words.encode(text)], text
        assert words.decode(words.encode(text)) == text  # to us they are text


def test_the_words_about_the_tokenizer(words, folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config == {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "pad_token": "<pad>", "add_bos_token": True, "add_eos_token": False, "clean_up_tokenization_spaces": False,
        "model_max_length": 64, "padding_side": "left", "model_input_names": ["input_ids", "attention_mask"],
    }  # fmt: skip
    special = json.loads((folder / "special_tokens_map.json").read_text())
    assert special == {name: config[name] for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    assert (folder / "tokenizer.model").read_bytes() == words.path.read_bytes()


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (lambda tree: tree["added_tokens"].pop(), "bpe unigram"),
        (lambda tree: tree["decoder"]["decoders"].append(STRIP), "bpe unigram"),
        (lambda tree: tree["model"].update(byte_fallback=False), "bpe unigram"),
        (lambda tree: tree["model"]["merges"].reverse(), "bpe"),
        (lambda tree: tree["post_processor"]["single"].pop(0), "bpe unigram"),
        (lambda tree: tree.update(normalizer=None, pre_tokenizer=METASPACE), "bpe unigram"),
    ],
    ids=["newline", "strip", "bytes", "merges", "bos", "metaspace"],
)
def test_the_check_sees_the_known_traps(words, folder, change, kinds):
    if not words.is_bpe and "unigram" not in kinds:
        pytest.skip("unigram has no merges")
    path = folder / exported.NAME
    tree = json.loads(path.read_text(encoding="utf-8"))
    change(tree)
    path.write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(DamageError, match=r"tokenizer\.json: "):
        exported.verify(words, folder, [])


def test_a_foreign_model_and_a_broken_file(words, folder, monkeypatch):
    (folder / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(DamageError, match="differs from the tokenizer of the run"):
        exported.verify(words, folder, [])
    (folder / exported.NAME).write_text("{}")
    with pytest.raises(DamageError, match="tokenizers cannot read it"):
        exported.verify(words, folder, [])
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"needs the package tokenizers: pip install -e '\.\[export\]'"):
        exported.verify(words, folder, [])


def test_a_model_that_answers_has_a_chat_template(words, tmp_path):
    import jinja2

    exported.write(words, tmp_path, 64, answers=True)
    template = json.loads((tmp_path / "tokenizer_config.json").read_text())["chat_template"]
    messages = [{"role": "user", "content": "First?"}, {"role": "user", "content": "Who opened the window?"}]
    text = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(template).render(
        messages=messages, bos_token="<s>"
    )  # fmt: skip
    assert text == "<s>Who opened the window?\n"
    ids = exported.read(tmp_path / exported.NAME).encode(text, add_special_tokens=False).ids
    assert ids == [words.bos, *words.encode("Who opened the window?\n")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_transformers_reads_it(base, words, folder):
    transformers = pytest.importorskip("transformers")
    from llm60_jax.export import huggingface

    (folder / "config.json").write_text(json.dumps(huggingface._config(variant(base, "gelu"), "float32")))
    theirs = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for text in ["The river", "a\nb", " a", "", "x\n\ny"]:
        assert theirs(text)["input_ids"] == [words.bos, *words.encode(text)], text
    for text in LITERAL:
        ids = theirs(text, split_special_tokens=True)["input_ids"]
        assert ids == [words.bos, *words.encode(text)] or not words.is_bpe, text
    batch = theirs(["The", "The quiet river"], padding=True)
    assert batch["input_ids"][0][0] == words.pad
    assert batch.keys() == {"input_ids", "attention_mask"}
