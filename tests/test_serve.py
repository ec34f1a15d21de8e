"""The server: texts, batches, models that come and go, a look inside, and the tool."""

import asyncio
import errno
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT

pytest.importorskip("starlette", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")

import bench_serve
import httpx
import jax
import serve as tool
from serving import TOKEN, served

from llm60_jax import generate
from llm60_jax.checkpoint import open_
from llm60_jax.errors import InputError
from llm60_jax.evaluate import depth
from llm60_jax.generate import Request
from llm60_jax.model import groups
from llm60_jax.model.drawing import Choice
from llm60_jax.serve import batch, completions, engine, inside, writing
from llm60_jax.serve.batch import Loaded
from llm60_jax.serve.engine import Call, Writing
from llm60_jax.serve.models import Model, Shelf
from llm60_jax.serve.requests import Completion
from llm60_jax.serve.texts import Alphabet, Growing, RowText


@pytest.fixture(scope="module")
def server(base):
    with served([base]) as running:
        yield running


@pytest.fixture(scope="module")
def trained(base):
    return open_(base)


@pytest.fixture
def slow_steps(monkeypatch):
    """Each step of a batch takes 20 ms; the list grows by one with each."""
    real, steps = generate.advance, []

    def advance(*arguments):
        steps.append(1)
        time.sleep(0.02)
        return real(*arguments)

    monkeypatch.setattr(batch.generate, "advance", advance)
    return steps


def continued(trained, prompt, tokens, seed, **settings):
    """What tools/generate.py writes after a prompt."""
    choice = Choice(trained.tokenizer.eos, **settings)
    pieces = generate.stream(
        trained.model, trained.plain_params, trained.tokenizer, Request(prompt, tokens, seed), choice
    )
    return "".join(pieces)[len(prompt) :]


def drawn_ids(trained, given, tokens, choice, seed):
    """A row of ids with what is drawn after those given, and where its text ends."""
    config = trained.model
    row = np.full((1, config.max_context), generate.FREE)
    row[0, : len(given)] = given
    rows = generate.begin(config, row, [len(given) + tokens], [seed], [choice])
    rows = generate.advance(config, trained.plain_params, rows, len(given) + tokens - 1)
    ids = np.asarray(rows.tokens_BS)[0].tolist()
    ends = [place for place, token in enumerate(ids) if token in (trained.tokenizer.eos, generate.FREE)]
    return ids, min([*ends, len(given) + tokens])


def log_probabilities(trained, ids):
    """Those of the next token at each place, by one forward pass [T, V]."""
    network, float32 = groups.merge(trained.model, trained.plain_params), np.dtype("float32")
    tokens = np.maximum([ids], 0)
    hidden = network(tokens, np.ones_like(tokens), dtype=float32).hidden_BTD
    return np.asarray(jax.nn.log_softmax(network.logits(hidden, float32)))[0]


def steady(count, seconds=0.3):
    """Wait until a count does not change for a while, and return it."""
    before = None
    while before != (before := count()):
        time.sleep(seconds)
    return before


# --- Texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.0},
        {"temperature": 0.6, "top_p": 0.9},
        {"top_k": 40, "temperature": 1.3},
        {"temperature": 0.0, "repetition_penalty": 1.5},
        {"top_k": 5, "top_p": 0.5, "repetition_penalty": 1.2, "temperature": 2.0},
    ],
)
def test_a_text_is_that_of_the_tool_for_generation(server, trained, settings):
    expected = continued(trained, "The quiet", 24, 5, **settings).rstrip("�")
    asked = {"model": "run", "prompt": "The quiet", "max_tokens": 24, "seed": 5, **settings}
    assert server.text(**asked).rstrip("�") == expected
    pieces = [event["choices"][0]["text"] for event in server.events(**asked)]
    assert "".join(pieces).rstrip("�") == expected
    assert len(pieces) > 3


def test_each_choice_has_the_next_seed_and_each_prompt_begins_anew(server):
    answer = server.post(model="run", prompt=["The", "A"], n=2, seed=8, max_tokens=12).json()
    texts = [choice["text"] for choice in answer["choices"]]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    alone = [
        server.text(model="run", prompt=prompt, seed=seed, max_tokens=12) for prompt in ("The", "A") for seed in (8, 9)
    ]
    assert texts == alone
    assert answer["seed"] == 8
    assert texts[0] != texts[1]
    again = server.post(model="run", prompt="The", max_tokens=12).json()
    assert server.text(model="run", prompt="The", max_tokens=12, seed=again["seed"]) == again["choices"][0]["text"]


def test_prompts_as_ids(server, trained):
    ids = trained.tokenizer.encode("The quiet")
    asked = {"model": "run", "seed": 1, "max_tokens": 10}
    expected = server.text(prompt="The quiet", **asked)
    assert server.text(prompt=ids, **asked) == expected
    assert server.text(prompt=[trained.tokenizer.bos, *ids], **asked) == expected
    assert [c["text"] for c in server.post(prompt=[ids, ids], **asked).json()["choices"]] == [expected, expected]
    for wrong in ([99_999], [*ids, trained.tokenizer.eos], [trained.tokenizer.pad]):
        answer = server.post(prompt=wrong, **asked)
        assert answer.status_code == 400
        assert str(wrong[-1]) in answer.json()["error"]["message"]


def test_a_stop_text_ends_the_text_and_is_never_shown(server):
    asked = {"model": "run", "prompt": "The quiet", "max_tokens": 40, "temperature": 0}
    whole = server.text(**asked)
    for start, length in ((4, 1), (5, 7), (9, 12), (len(whole) - 3, 3)):
        stop = whole[start : start + length]
        expected = whole[: whole.index(stop)]
        answer = server.post(**asked, stop=[stop, "no such text"]).json()["choices"][0]
        assert (answer["text"], answer["finish_reason"]) == (expected, "stop")
        events = server.events(**asked, stop=stop)
        assert "".join(event["choices"][0]["text"] for event in events) == expected
        assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert server.text(**asked, stop="no such text") == whole


def test_stop_texts_and_tokens_on_their_borders(trained):
    alphabet = Alphabet(trained.tokenizer)
    bos, ids = trained.tokenizer.bos, trained.tokenizer.encode("xylem quartz")
    assert len(ids) > 6  # no words of the tiny vocabulary
    text = RowText(alphabet, [bos, *trained.tokenizer.encode("The")], ["lem qu", "zzz"], None)
    shown = ""
    for token in ids:
        text.add(token, None)
        shown += text.take(False)[0]
        assert "l" not in shown
        if text.has_stopped:
            break
    assert text.has_stopped
    assert shown + text.take(True)[0] == " xy"
    # The beginning of a stop text that does not go on is shown after all.
    text = RowText(alphabet, [bos, *trained.tokenizer.encode("The")], ["quartz gate"], None)
    for token in ids:
        text.add(token, None)
    assert text.take(False)[0] == " xylem "
    assert text.take(True)[0] == "quartz"


def test_no_half_character_is_shown(trained):
    alphabet = Alphabet(trained.tokenizer)
    ids = trained.tokenizer.encode("The 日本 é€ 𝄞 end")
    text = RowText(alphabet, [trained.tokenizer.bos, ids[0]], [], None)
    pieces = []
    for token in ids[1:]:
        text.add(token, None)
        pieces.append(text.take(False)[0])
    assert all("�" not in piece for piece in pieces)
    assert "".join(pieces).endswith("日本 é€ 𝄞 end")
    half = RowText(alphabet, [trained.tokenizer.bos, ids[0]], [], None)
    for token in trained.tokenizer.encode("𝄞")[:-1]:
        half.add(token, None)
    assert half.take(True)[0].strip() == ""


def test_a_text_that_grows_is_the_decoded_text(trained):
    alphabet, tokenizer, rng = Alphabet(trained.tokenizer), trained.tokenizer, np.random.default_rng(0)
    newline = tokenizer.encode("\n")[0]
    for _ in range(40):
        ids = [tokenizer.bos, *rng.choice([*range(4, tokenizer.vocab_size), *[newline] * 20], 50).tolist()]
        start = int(rng.integers(1, 20))
        growing, before = Growing(alphabet, ids[:start]), alphabet.text(ids[:start])
        for end in range(start, len(ids)):
            growing.add(ids[end])
            assert before + growing.text == alphabet.text(ids[: end + 1])


def test_odds_are_those_of_the_whole_forward_pass(server, trained):
    asked = {"model": "run", "prompt": "The quiet river", "max_tokens": 12, "seed": 3, "temperature": 1.5}
    asked |= {"echo": True, "logprobs": 4}
    choice = server.post(**asked).json()["choices"][0]
    odds = choice["logprobs"]
    assert "".join(odds["tokens"]) == choice["text"] or any("bytes:" in token for token in odds["tokens"])
    assert odds["token_logprobs"][0] is None
    assert odds["top_logprobs"][0] is None
    events = server.events(**asked)
    streamed = {name: [x for e in events for x in e["choices"][0]["logprobs"][name]] for name in odds}
    assert streamed == odds
    given = [trained.tokenizer.bos, *trained.tokenizer.encode("The quiet river")]
    ids, end = drawn_ids(trained, given, 12, Choice(trained.tokenizer.eos, temperature=1.5), seed=3)
    logs = log_probabilities(trained, ids)
    assert len(odds["tokens"]) == end - 1
    for place in range(1, end - 1):
        assert odds["token_logprobs"][place] == pytest.approx(logs[place, ids[place + 1]], abs=1e-3)
        best = sorted(odds["top_logprobs"][place].values(), reverse=True)
        assert 1 <= len(best) <= 5
        assert best[0] == pytest.approx(logs[place].max(), abs=1e-3)
    offsets = odds["text_offset"]
    assert offsets == sorted(offsets)
    for offset, token in zip(offsets, odds["tokens"], strict=True):
        assert token.startswith("bytes:") or choice["text"][offset:].startswith(token)


def test_odds_of_a_prompt_alone(server, trained):
    ids = trained.tokenizer.encode("The quiet")
    asked = {"model": "run", "max_tokens": 0, "echo": True, "logprobs": 1}
    plain = server.post(prompt="The quiet", **asked).json()
    assert plain["choices"][0]["text"] == "The quiet"
    assert plain["usage"] == {"prompt_tokens": len(ids) + 1, "completion_tokens": 0, "total_tokens": len(ids) + 1}
    assert len(plain["choices"][0]["logprobs"]["tokens"]) == len(ids)
    # Whoever sends BOS gets it back as a token, and the odds of the first token after it.
    marked = server.post(prompt=[trained.tokenizer.bos, *ids], **asked).json()["choices"][0]["logprobs"]
    assert len(marked["tokens"]) == len(ids) + 1
    assert marked["token_logprobs"][0] is None
    assert marked["token_logprobs"][2:] == plain["choices"][0]["logprobs"]["token_logprobs"][1:]
    assert marked["token_logprobs"][1] < 0
    for prompt in ("", [trained.tokenizer.bos]):
        choice = server.post(prompt=prompt, **asked).json()["choices"][0]
        assert choice["text"] == ""
        assert len(choice["logprobs"]["tokens"]) == len(prompt)


def test_a_text_that_does_not_fit_is_refused_with_both_numbers(server, trained):
    context = trained.model.max_context
    answer = server.post(model="run", prompt="The", max_tokens=context)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "context_length_exceeded"
    used = len(trained.tokenizer.encode("The")) + 1
    for number in (context, context + used, used):
        assert str(number) in error["message"]
    fits = server.post(model="run", prompt="The", max_tokens=context - used, temperature=0)
    assert fits.json()["choices"][0]["finish_reason"] in ("length", "stop")


# --- Batches and clients that leave ----------------------------------------------------------------------------------


def test_clients_at_once_share_a_batch_and_get_what_they_get_alone(server):
    asked = [
        {"prompt": "The quiet", "seed": 1, "max_tokens": 20},
        {"prompt": "A", "seed": 2, "max_tokens": 9, "temperature": 0.0},
        {"prompt": "The old river", "seed": 3, "max_tokens": 30, "top_p": 0.8, "n": 2},
        {"prompt": "", "seed": 4, "max_tokens": 16, "repetition_penalty": 1.4, "logprobs": 2, "echo": True},
        {"prompt": "The", "seed": 5, "max_tokens": 16, "top_k": 9},
    ]
    asked = [{"model": "run", **one} for one in asked]
    alone = [server.post(**one).json()["choices"] for one in asked]
    before = server.engine.batches
    gate, answers = server.held(), [None] * len(asked)

    def ask(number):
        answers[number] = server.post(**asked[number]).json()["choices"]

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(len(asked))]
    for client in clients:
        client.start()
    server.await_waiting(len(asked))
    gate.set()
    for client in clients:
        client.join(60)
    for shared, single in zip(answers, alone, strict=True):
        assert rounded(shared) == rounded(single)
    # top_k draws in another way and has a batch of its own
    assert server.engine.batches == before + 2


def rounded(value):
    """A tree with its numbers to three digits: the rounding of a product may depend on the rows beside it."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


def test_a_full_batch_leaves_the_rest_for_the_next(server):
    before, gate, answers = server.engine.batches, server.held(), []
    clients = [
        threading.Thread(
            target=lambda: answers.append(server.post(model="run", prompt="The", n=7, max_tokens=3).status_code)
        )
        for _ in range(4)
    ]
    for client in clients:
        client.start()
    server.await_waiting(4)
    gate.set()
    for client in clients:
        client.join(60)
    assert answers == [200] * 4
    assert server.engine.batches == before + 2


@pytest.mark.parametrize("stream", [True, False])
def test_the_text_of_a_client_that_left_stops(server, slow_steps, stream):
    server.text(model="run", prompt="The", max_tokens=2)  # compiled
    slow_steps.clear()
    asked = {"model": "run", "prompt": "The", "max_tokens": 60, "temperature": 0, "stream": stream}
    body = json.dumps(asked).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + body)
        while not slow_steps:
            time.sleep(0.005)
    stopped = steady(lambda: len(slow_steps))
    whole = 56 if stream else 7  # steps of a text whose client stays
    assert stopped < whole - 1
    assert server.client.get("/health").status_code == 200


def test_a_request_whose_client_left_while_it_waited_is_dropped(server):
    before, gate = server.engine.batches, server.held()
    with pytest.raises(Exception, match=r"timed out|Timeout"):
        server.client.post("/v1/completions", json={"model": "run", "prompt": "The"}, timeout=0.3)
    deadline = time.monotonic() + 10
    while not all(job.is_abandoned for job in server.engine._waiting) and time.monotonic() < deadline:
        time.sleep(0.01)
    gate.set()
    assert server.text(model="run", prompt="The", max_tokens=1) is not None
    assert server.engine.batches == before + 1


def test_a_full_queue_is_said(base):
    with served([base], most_waiting=1) as server:
        gate = server.held()
        waiting = threading.Thread(target=lambda: server.post(model="run", prompt="The", max_tokens=1))
        waiting.start()
        server.await_waiting(1)
        answer = server.post(model="run", prompt="The")
        gate.set()
        waiting.join(60)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0


def test_waiting_requests_are_told_when_the_server_stops(base):
    with served([base]) as server:
        gate, answers = server.held(), []
        waiting = threading.Thread(target=lambda: answers.append(server.post(model="run", prompt="The")))
        waiting.start()
        server.await_waiting(1)
        server.engine.close()
        waiting.join(20)
        gate.set()
    assert answers[0].status_code == 503
    assert "stopping" in answers[0].json()["error"]["message"]


# --- Models ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(base, tmp_path):
    """A copy of the run, with a second checkpoint."""
    run = tmp_path / "runs" / "mine"
    shutil.copytree(base, run)
    (run / "checkpoints").mkdir(exist_ok=True)
    return run


def test_models_are_the_checkpoints_that_are_there(server, base, copied, tmp_path):
    listed = server.client.get("/v1/models").json()["data"]
    assert [model["id"] for model in listed][:2] == ["run", "run/phases/grammar"]
    assert server.client.get("/v1/models/run/phases/grammar").json()["object"] == "model"
    assert server.text(model="run", prompt="The", seed=1) == server.text(
        model="run/phases/grammar", prompt="The", seed=1
    )
    shelf = Shelf([copied.parent])
    before = {model.name for model in shelf.models()}
    assert {"mine", "mine/phases/grammar"} <= before
    shutil.copytree(copied / "phases" / "grammar", copied / "checkpoints" / "12")
    assert {model.name for model in shelf.models()} - before == {"mine/checkpoints/12"}
    assert shelf.find("mine").folder == copied / "checkpoints" / "12"  # the newest
    shutil.copytree(copied, copied.parent / "other")
    assert "other" in shelf.runs()
    with pytest.raises(InputError, match="two runs of one name"):
        Shelf([copied, shutil.copytree(copied, tmp_path / "elsewhere" / "mine")])
    with pytest.raises(InputError, match=r"config\.json"):
        Shelf([tmp_path / "nothing"])
    (tmp_path / "link").symlink_to(copied)
    assert Shelf([tmp_path / "link"]).runs() == {"mine": copied}


def test_vanished_and_damaged_models_are_said_and_the_server_lives(copied):
    folder = copied / "phases" / "grammar"
    shutil.copytree(folder, copied / "checkpoints" / "12")
    with served([copied], keep=1) as server:
        assert server.post(model="mine/checkpoints/12", prompt="The").status_code == 200
        shutil.rmtree(copied / "checkpoints" / "12")
        answer = server.post(model="mine/checkpoints/12", prompt="The")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"
        assert "mine/phases/grammar" in answer.json()["error"]["message"]
        victim = max((path for path in (folder / "state").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
        whole = victim.read_bytes()
        victim.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        answer = server.post(model="mine", prompt="The")
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "damaged_model"
        assert server.post(model="mine", prompt="The", stream=True).status_code == 500
        victim.write_bytes(whole)
        assert server.post(model="mine", prompt="The").status_code == 200


def test_a_checkpoint_that_vanishes_between_listing_and_loading(copied, monkeypatch):
    with served([copied]) as server:
        real = engine.Engine._load

        def load(self, model):
            shutil.rmtree(model.folder)
            return real(self, model)

        monkeypatch.setattr(engine.Engine, "_load", load)
        answer = server.post(model="mine", prompt="The")
    assert answer.status_code == 404
    assert "not there any more" in answer.json()["error"]["message"]


def test_few_models_stay_in_memory(copied, monkeypatch):
    for number in (11, 12, 13):
        shutil.copytree(copied / "phases" / "grammar", copied / "checkpoints" / str(number))
    loads, real = [], batch.load
    monkeypatch.setattr(batch, "load", lambda folder: loads.append(folder.name) or real(folder))
    with served([copied], keep=2) as server:
        for number in (11, 12, 11, 13, 11, 12):
            assert server.post(model=f"mine/checkpoints/{number}", prompt="The", max_tokens=1).status_code == 200
        assert len(server.engine._models) == 2
    assert loads == ["11", "12", "13", "12"]


def test_a_folder_that_cannot_be_looked_at_ends_no_thread(server, monkeypatch):
    def fail(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(engine.manifest, "exists", fail)
        patch.setattr(engine.Engine, "_load", fail)
        events = queue.SimpleQueue()
        server.engine.submit(Call(Model("m", Path("/none"), 1, 1), events.put, print))
        refusal = events.get(timeout=10).refusal
    assert (refusal.status, refusal.code) == (500, "damaged_model")
    assert server.text(model="run", prompt="The", max_tokens=1) is not None
    with monkeypatch.context() as patch:
        patch.setattr(server.engine._thread, "is_alive", lambda: False)
        assert server.post(model="run", prompt="The").status_code == 503


def test_jobs_that_join_a_batch_are_ended_with_it(trained):
    motor, ended = engine.Engine(), []
    wanted = Completion(model="m", prompt=["x"])
    first, second = (Writing(Model("m", Path("m"), 1, 1), ended.append, wanted) for _ in range(2))
    with motor._changed:
        motor._waiting.append(second)
        assert motor._mates(first, Loaded.of(trained)) == [second]
    motor.close(5)
    assert len(ended) == 2
    assert first.is_abandoned
    assert second.is_abandoned
    motor._waiting.append(second)
    assert motor._mates(first, Loaded.of(trained)) == []


def test_a_stream_that_nobody_began_to_read_ends_its_job():
    class Gone(Exception):
        pass

    async def send(message):
        raise Gone

    async def receive():
        await asyncio.sleep(60)

    async def never():
        yield b""

    job = Writing(None, print, Completion(model="m", prompt=["x"]))
    response = completions._Stream(job, never())
    with pytest.raises((Gone, BaseExceptionGroup)):
        asyncio.run(response({"type": "http", "asgi": {}}, receive, send))
    assert job.is_abandoned


def test_a_prompt_that_cannot_fit_is_not_encoded(server, monkeypatch):
    monkeypatch.setattr(writing, "_ids_of", lambda *arguments: pytest.fail("it is encoded"))
    answer = server.post(model="run", prompt="x " * 100_000)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert "200,000" in answer.json()["error"]["message"]
    assert server.post("/api/inside", model="run", text="x" * 100_001).status_code == 400


def test_a_failure_inside_a_batch_is_an_answer(server, monkeypatch, caplog):
    def fail(*arguments):
        raise ZeroDivisionError("of the test")

    monkeypatch.setattr(writing.batch, "write", fail)
    for stream in (False, True):
        answer = server.post(model="run", prompt="The", stream=stream)
        assert (answer.status_code, "of the test" in answer.text) == (200 if stream else 500, False)
        assert "internal error" in answer.text
    monkeypatch.undo()
    assert server.post(model="run", prompt="The").status_code == 200


# --- Look inside -----------------------------------------------------------------------------------------------------


def test_a_look_inside(server, trained):
    text = "The quiet river crossed the garden é."
    answer = server.post("/api/inside", model="run", text=text).json()
    ids = [trained.tokenizer.bos, *trained.tokenizer.encode(text)]
    assert "".join(token["text"] for token in answer["tokens"]) == text
    assert (answer["tokens_in_text"], answer["is_cut"]) == (len(ids) - 1, False)
    rows = inside._rows(ids, trained.model.max_context)
    expected = depth.measure(trained.model, trained.plain_params, rows).to_tree()
    assert {name: answer[name] for name in expected} == expected
    nats = [token["nats"] for token in answer["tokens"]]
    assert np.mean(nats) == pytest.approx(answer["losses"][-1], abs=1e-3)  # two ways to the model's loss
    for token in answer["tokens"]:
        chances = [other["p"] for other in token["likeliest"]]
        assert chances == sorted(chances, reverse=True)
        assert len(chances) == 5
        assert token["nats"] >= -np.log(chances[0]) - 1e-3
    long = server.post("/api/inside", model="run", text=text * 20).json()
    assert long["is_cut"] is True
    assert len(long["tokens"]) == trained.model.max_context - 1 < long["tokens_in_text"]
    assert server.post("/api/inside", model="run", text="").status_code == 400
    assert server.post("/api/inside", model="none", text="x").status_code == 404


# --- The tool --------------------------------------------------------------------------------------------------------


def test_what_lists_runs_imports_no_jax(base):
    code = (
        "import sys, pathlib, serve\n"
        "from llm60_jax.serve import app, engine, guard, models, server\n"
        "shelf = models.Shelf([pathlib.Path(sys.argv[1])])\n"
        "assert len(shelf.models()) >= 2\n"
        "app.build(shelf, engine.Engine(), guard.Entry('127.0.0.1', 1, 'x'))\n"
        "assert not {'jax', 'flax', 'orbax'} & sys.modules.keys()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "tools")])}
    subprocess.run([sys.executable, "-c", code, str(base)], check=True, env=environment)


def test_the_tool_serves_until_a_signal(base):
    command = [sys.executable, str(PROJECT / "tools" / "serve.py"), str(base), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        url, _, token = address.partition("?token=")
        assert len(token) > 20
        with httpx.Client(trust_env=False, timeout=60) as client:
            assert client.get(f"{url}health").json() == {"status": "ok"}
            page = client.get(address)
            assert page.status_code == 303
            assert page.headers["location"] == "/"
            assert client.get(url).status_code == 200  # by the cookie
            models = client.get(f"{url}v1/models").json()["data"]
        assert [model["id"] for model in models][:2] == ["run", "run/phases/grammar"]
        assert os.getpriority(os.PRIO_PROCESS, process.pid) >= 10
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.strip().splitlines()[-1] == "serve.py: interrupted by SIGINT; the server has ended"
    assert "Traceback" not in out + err


def test_the_tool_says_what_is_wrong(base, server, tmp_path, capsys):
    assert tool.main([str(base), "--port", str(server.port)]) == 5
    assert f"port {server.port} is taken" in capsys.readouterr().err
    for arguments, words in (
        ([str(tmp_path)], "config.json"),
        ([str(base), "--host", "example.org"], "no IP address"),
        ([str(base), "--port", "70000"], "--port"),
        ([str(base), "--port", "0", "--host", "::", "--no-token"], "loopback only"),
    ):
        assert tool.main(arguments) == 2, arguments
        assert words in capsys.readouterr().err
    assert tool.main([str(base), "--port", "0", "--host", "192.0.2.1"]) == 5  # an address of documents
    assert "192.0.2.1" in capsys.readouterr().err


def test_the_browser_gets_the_address_by_a_file_of_ours_alone(base, monkeypatch, capsys):
    seen = {}

    def opened(uri):
        path = Path(urllib.parse.unquote(urllib.parse.urlsplit(uri).path))
        seen.update(uri=uri, text=path.read_text(), mode=path.stat().st_mode & 0o777, path=path)
        seen["priority"] = os.getpriority(os.PRIO_PROCESS, 0)

    before = os.getpriority(os.PRIO_PROCESS, 0)
    lowered = []
    monkeypatch.setattr(tool.webbrowser, "open", opened)
    monkeypatch.setattr(tool.os, "nice", lambda by: lowered.append((by, bool(seen))))
    monkeypatch.setattr("llm60_jax.serve.server.run", lambda app, engine, listening, interrupts: listening.close())
    assert tool.main([str(base), "--port", "0", "--open", "--host", "0:0:0:0:0:0:0:1"]) == 0
    address = capsys.readouterr().out.strip()
    token = address.partition("?token=")[2]
    assert address.startswith("http://[::1]:")
    assert address in seen["text"]
    assert token not in seen["uri"]
    assert (seen["mode"], seen["priority"]) == (0o600, before)
    assert lowered == [(10, True), (9, True)]  # after the browser, and the engine before the rest
    assert not seen["path"].exists()


def test_every_address_is_explained(base, monkeypatch, capsys):
    monkeypatch.setattr(tool.os, "nice", lambda by: None)
    monkeypatch.setattr("llm60_jax.serve.server.run", lambda app, engine, listening, interrupts: listening.close())
    assert tool.main([str(base), "--port", "0", "--host", "::"]) == 0
    assert "every address of this computer" in capsys.readouterr().err


def test_a_seed_is_drawn_where_none_is_given():
    wanted = Completion(model="m", prompt=["x"])
    seeds = {Writing(None, print, wanted).seed for _ in range(5)}
    assert len(seeds) > 1


@pytest.mark.slow
def test_the_measurement(base, capsys):
    command = [str(base), "--clients", "1", "4", "--requests", "4", "--tokens", "8"]
    assert bench_serve.main([*command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["clients"] for row in rows] == [1, 4]
    for row in rows:
        assert 0 < row["first_token_seconds"] <= row["request_seconds"]
        assert row["requests_per_second"] > 0
        assert row["generate_tokens_per_second"] > 0
    assert bench_serve.main(command) == 0
    assert "first token" in capsys.readouterr().out


def test_the_measurement_says_what_is_wrong(base, tmp_path, capsys):
    for arguments, code, words in (
        ([str(base), "--tokens", "0"], 2, "--tokens"),
        ([str(base), "--clients", "65"], 2, "--clients"),
        ([str(tmp_path)], 5, "config.json"),
    ):
        assert bench_serve.main(arguments) == code
        assert words in capsys.readouterr().err


def test_a_missing_package_is_named(base, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("llm60_jax.serve.", "uvicorn"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("llm60_jax.serve.app")
    monkeypatch.delattr("llm60_jax.serve.server")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert tool.main([str(base)]) == 2
    message = capsys.readouterr().err
    assert "pip install" in message
    assert "[serve]" in message
