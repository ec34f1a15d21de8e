"""The server as OpenAI's own client sees it."""

import asyncio

import pytest

pytest.importorskip("starlette", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("openai")

import httpx
import openai
from serving import TOKEN, served


@pytest.fixture(scope="module")
def server(base):
    with served([base]) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0, http_client=httpx.Client(trust_env=False)
    ) as made:
        yield made


def create(client, **fields):
    return client.completions.create(**{"model": "run", "prompt": "The quiet", **fields})


def test_a_completion(client):
    answer = create(client, max_tokens=12, seed=3, temperature=0.7, top_p=0.9, user="someone")
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.model == "run"
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.choices[0].logprobs is None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens <= 12
    assert create(client, max_tokens=12, seed=3, temperature=0.7, top_p=0.9).choices[0].text == answer.choices[0].text
    assert create(client, seed=1).usage.completion_tokens <= 16  # OpenAI's default


def test_several_texts(client):
    answer = create(client, prompt=["The", "A"], n=3, best_of=3, max_tokens=6, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3, 4, 5]
    assert len({choice.text for choice in answer.choices}) > 2


def test_a_stream(client):
    whole = create(client, max_tokens=20, seed=3, n=2)
    pieces, usage, finish = ["", ""], None, {}
    for event in create(client, max_tokens=20, seed=3, n=2, stream=True, stream_options={"include_usage": True}):
        usage = event.usage or usage
        for choice in event.choices:
            pieces[choice.index] += choice.text
            finish[choice.index] = choice.finish_reason
    assert pieces == [choice.text for choice in whole.choices]
    assert finish == {choice.index: choice.finish_reason for choice in whole.choices}
    assert usage == whole.usage
    assert all(event.usage is None for event in create(client, max_tokens=3, stream=True))


def test_stop_and_echo(client):
    whole = create(client, max_tokens=30, temperature=0).choices[0].text
    stop = whole[6:9]
    answer = create(client, max_tokens=30, temperature=0, stop=[stop, "§"], echo=True)
    assert answer.choices[0].text == "The quiet" + whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_logprobs(client):
    odds = create(client, max_tokens=5, temperature=0, logprobs=3, echo=True).choices[0].logprobs
    assert odds.token_logprobs[0] is None
    assert len(odds.tokens) == len(odds.token_logprobs) == len(odds.top_logprobs) == len(odds.text_offset)
    for token, log, top in list(zip(odds.tokens, odds.token_logprobs, odds.top_logprobs, strict=True))[-3:]:
        assert max(top.values()) == pytest.approx(log, abs=1e-4)  # the likeliest was drawn
        assert token in top
    streamed = [
        token
        for event in create(client, max_tokens=5, temperature=0, logprobs=3, echo=True, stream=True)
        for token in event.choices[0].logprobs.tokens
    ]
    assert streamed == odds.tokens


def test_models(client):
    names = [model.id for model in client.models.list()]
    assert names[:2] == ["run", "run/phases/grammar"]
    assert client.models.retrieve("run/phases/grammar").owned_by == "llm60_jax"
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.models.retrieve("none")


def test_errors(client, server):
    with pytest.raises(openai.BadRequestError, match="context is 64") as caught:
        create(client, max_tokens=1000)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "max_tokens")
    with pytest.raises(openai.BadRequestError, match="suffix") as caught:
        create(client, suffix="end")
    assert caught.value.param == "suffix"
    with pytest.raises(openai.BadRequestError, match="did you mean 'top_k'"):
        create(client, extra_body={"topk": 3})
    with pytest.raises(openai.NotFoundError):
        create(client, model="none")
    with pytest.raises(openai.NotFoundError, match="continue texts"):
        client.chat.completions.create(model="run", messages=[{"role": "user", "content": "Hello"}])
    with pytest.raises(openai.AuthenticationError, match="token"):
        create(client.with_options(api_key="wrong"))


def test_a_stream_that_is_closed_early(client, server):
    stream = create(client, max_tokens=50, stream=True)
    next(iter(stream))
    stream.close()
    assert create(client, max_tokens=1).choices


def test_the_asynchronous_client(server):
    async def ask():
        http = httpx.AsyncClient(trust_env=False)
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, http_client=http) as client:
            asked = [create(client, prompt=prompt, max_tokens=8, seed=2) for prompt in ("The", "A", "An old")]
            return [answer.choices[0].text for answer in await asyncio.gather(*asked)]

    texts = asyncio.run(ask())
    assert texts == [server.text(model="run", prompt=p, max_tokens=8, seed=2) for p in ("The", "A", "An old")]
