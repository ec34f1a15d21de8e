"""The addresses that the server answers. No jax."""

import http

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llm60_jax.record import curves
from llm60_jax.serve import completions, page, requests
from llm60_jax.serve.completions import Inbox, Reply
from llm60_jax.serve.engine import Call, Done, Engine
from llm60_jax.serve.guard import Entry, Guard
from llm60_jax.serve.models import Shelf
from llm60_jax.serve.replies import FAILED, Refusal


def build(shelf: Shelf, engine: Engine, entry: Entry) -> Guard:
    """Return the application: what clients may ask, behind its guard."""
    app = Starlette(
        routes=[*page.routes(shelf.runs), *API],
        exception_handlers={Refusal: _refuse, HTTPException: _refuse_address, Exception: _fail},
    )
    app.router.redirect_slashes = False
    app.state.shelf, app.state.engine = shelf, engine
    return Guard(app, entry, [route.path for route in API if "POST" in (route.methods or ())])


async def _health(request: Request) -> Response:
    return Reply({"status": "ok"})


def _models(request: Request) -> Response:
    return Reply({"object": "list", "data": [model.to_tree() for model in request.app.state.shelf.models()]})


def _model(request: Request) -> Response:
    return Reply(request.app.state.shelf.find(request.path_params["name"]).to_tree())


async def _completions(request: Request) -> Response:
    body = await _json_body(request)
    wanted = await run_in_threadpool(requests.completion, body)
    model = await run_in_threadpool(request.app.state.shelf.find, wanted.model)
    return await completions.answer(request.app.state.engine, request, model, wanted)


async def _inside(request: Request) -> Response:
    body = await _json_body(request)
    wanted = await run_in_threadpool(requests.inside, body)
    model = await run_in_threadpool(request.app.state.shelf.find, wanted.model)

    def question(loaded):
        from llm60_jax.serve import inside

        return inside.look(loaded, wanted.text)

    inbox = Inbox(request.app.state.engine, request, lambda emit: Call(model, emit, question))
    try:
        async with inbox.followed():
            event = await inbox.next()
    finally:
        inbox.job.is_abandoned = True
    assert isinstance(event, Done)
    return Reply({"model": wanted.model, **event.value, "charts": "".join(curves.blocks(event.value))})


async def _no_chat(request: Request) -> Response:
    raise Refusal(404, "these models continue texts and do not chat; use /v1/completions")


async def _json_body(request: Request) -> bytes:
    """Return the body of a request that says that it is JSON. Raise Refusal."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, f"the Content-Type is {kind[:100]!r}; only application/json is read")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "the body is compressed; send it as it is")
    return await request.body()


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    headers = {name.decode("ascii"): value.decode("ascii") for name, value in error.headers}
    return Reply(error.to_tree(), error.status, headers)


async def _fail(request: Request, error: Exception) -> Response:
    """Answer for an exception that nobody foresaw. The guard logs it."""
    return Reply(Refusal(500, FAILED).to_tree(), 500)


async def _refuse_address(request: Request, error: Exception) -> Response:
    """Answer for an address or a method that is not there."""
    assert isinstance(error, HTTPException)
    phrase = http.HTTPStatus(error.status_code).phrase.lower()
    what = Refusal(error.status_code, f"{request.method} {request.url.path[:200]}: {phrase}")
    return Reply(what.to_tree(), what.status, error.headers)


# What programs ask for, in the shapes of OpenAI's API, and a look inside a model.
API = [
    Route("/health", _health),
    Route("/v1/models", _models),
    Route("/v1/models/{name:path}", _model),
    Route("/v1/completions", _completions, methods=["POST"]),
    Route("/v1/chat/completions", _no_chat, methods=["POST"]),
    Route("/api/inside", _inside, methods=["POST"]),
]
