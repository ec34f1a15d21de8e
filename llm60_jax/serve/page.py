"""The page's own answers: its files by fixed names, and the runs that it watches."""

from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from llm60_jax.errors import Failure, InputError
from llm60_jax.machine import pages
from llm60_jax.serve.completions import Reply
from llm60_jax.serve.replies import Refusal
from llm60_jax.serve.watch import Fragment, Watch

_HERE = Path(__file__).parent
_FILES = {  # by their names in the page
    "style.css": (pages.STYLE, "text/css"),
    "icon.svg": (_HERE / "icon.svg", "image/svg+xml"),
    "page.css": (_HERE / "page.css", "text/css"),
    "page.js": (_HERE / "page.js", "text/javascript"),
    "write.js": (_HERE / "write.js", "text/javascript"),
    "watch.js": (_HERE / "watch.js", "text/javascript"),
    "inside.js": (_HERE / "inside.js", "text/javascript"),
    "common.js": (_HERE / "common.js", "text/javascript"),
}


def routes(runs: Callable[[], Mapping[str, Path]]) -> list[Route]:
    """Return the routes of the page.

    Args:
      runs: returns the run directories that are there now, by their names.
    """
    watch = Watch(runs)

    # Starlette calls plain functions in a thread, so none of these delays an answer of a model.
    def listed(request: Request) -> Response:
        return Reply([run._asdict() for run in watch.list()])

    def now(request: Request) -> Response:
        return _answer(request, lambda: watch.run(_name(request)).now())

    def sections(request: Request) -> Response:
        return _answer(request, lambda: watch.run(_name(request)).sections())

    def compared(request: Request) -> Response:
        return _answer(request, lambda: watch.compare(request.query_params.getlist("run")))

    return [
        Route("/", _page),
        Route("/static/{name}", _file),
        Route("/api/runs", listed),
        Route("/api/runs/now", now),
        Route("/api/runs/sections", sections),
        Route("/api/runs/compared", compared),
    ]


def _page(request: Request) -> Response:
    return HTMLResponse(pages.render(_HERE / "page.html"))


def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _FILES:
        raise Refusal(404, f"/static/{name[:100]}: there is no such file")
    path, kind = _FILES[name]
    return Response(path.read_bytes(), media_type=kind)


def _name(request: Request) -> str:
    return request.query_params.get("run", "")


def _answer(request: Request, fragment: Callable[[], Fragment]) -> Response:
    """Return a fragment, or 304 if the browser has it. Raise Refusal."""
    try:
        found = fragment()
    except InputError as error:
        raise Refusal(404, str(error)) from None
    except Failure as failure:
        raise Refusal(500, str(failure)) from None
    tag = f'"{found.tag}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"etag": tag})
    return HTMLResponse(found.html, headers={"etag": tag})
