"""What stands before every answer: the token, the addresses, the size of a body, the headers.

A server on loopback can be reached by every page that the browser shows. A page of another site can
send requests to it, and can make its own name mean 127.0.0.1 (DNS rebinding). So the Host header
must be one of ours, an Origin must be our own, no answer allows another origin, and only whoever
has seen the printed address knows the token.
"""

import asyncio
import hmac
import ipaddress
import logging
import socket
import traceback
import urllib.parse
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, NamedTuple

from llm60_jax.machine.terminal import printable
from llm60_jax.serve.replies import FAILED, Headers, Refusal, encoded

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MOST_BODY_BYTES = 2**20
MOST_AT_ONCE = 128  # requests in progress, those that wait for a model among them
_MOST_HEADER_BYTES = 2**15
_BODY_SECONDS = 20.0  # in which a body must have come
_OPEN = ("/health",)  # paths that need no token; they are only read
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ALWAYS: Headers = [  # of every answer
    (b"content-security-policy", _POLICY.encode("ascii")),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
_TOKEN_WANTED = (
    b'<!doctype html><html lang="en"><meta charset="utf-8"><title>llm60</title>'
    b"<p>This page needs a token: open the whole address that tools/serve.py printed in its terminal.</p></html>"
)
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_LOG = logging.getLogger("llm60_jax")


class Entry(NamedTuple):
    """Where the server listens, and the token that opens it."""

    host: str  # an IP address
    port: int
    token: str | None  # None lets every local program in

    @property
    def cookie(self) -> str:
        """The name of the cookie. The browser sends it to servers on other ports of this machine too, so
        they see the token."""
        return f"llm60_token_{self.port}"

    @property
    def address(self) -> str:
        """The address to open in a browser, with the token."""
        host = ipaddress.ip_address(self.host)
        name = "127.0.0.1" if host.is_unspecified else f"[{host}]" if host.version == 6 else str(host)
        query = "" if self.token is None else f"?token={self.token}"
        return f"http://{name}:{self.port}/{query}"

    def is_ours(self, name: str) -> bool:
        """Return whether a name, of a Host header, means this server.

        Any port will do: ssh forwards other ports to ours.
        """
        name = name.lower().strip("[]")
        if name in (*_LOOPBACK_NAMES, self.host):
            return True
        if not ipaddress.ip_address(self.host).is_unspecified:
            return False
        try:
            return bool(ipaddress.ip_address(name))  # an address cannot be made to mean another one
        except ValueError:
            return name.removesuffix(".local") == socket.gethostname().lower()


class Guard:
    """An ASGI application around another one. It lets good requests through and guards all answers."""

    def __init__(self, app: App, entry: Entry, posts: Collection[str] = ()):
        """Take also the addresses to which clients post: no others get a body."""
        self._app = app
        self._entry = entry
        self._posts = posts
        self._at_once = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # neither websockets nor events of a lifespan are offered
        answer = _Answer(send)
        headers: dict[bytes, bytes] = {}
        try:
            headers = _headers(scope)
            self._check_sender(scope, headers)
            if (address := self._check_token(scope, headers)) is not None:
                await answer.redirect(address, self._entry)
                return
            await self._pass_on(scope, headers, receive, answer)
        except Refusal as refusal:
            if refusal.status == 401 and scope["path"] == "/" and b"text/html" in headers.get(b"accept", b""):
                await answer.ask_for_token()
            else:
                await answer.refuse(refusal)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            path, what = printable(scope["path"])[:200], printable(repr(error))[:300]
            _LOG.warning("%s: internal error: %s (%s:%s)", path, what, where.filename, where.lineno)
            await answer.refuse(Refusal(500, FAILED))

    async def _pass_on(
        self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes], receive: Receive, answer: "_Answer"
    ) -> None:
        """Hand an accepted request on, with its body. Raise Refusal."""
        if scope["path"] in _OPEN and scope["method"] not in ("GET", "HEAD"):
            raise Refusal(405, f"{scope['path']}: only GET and HEAD are answered", headers=[(b"allow", b"GET, HEAD")])
        if self._at_once >= MOST_AT_ONCE:
            raise Refusal(503, f"{MOST_AT_ONCE} requests are in progress; try again", headers=[(b"retry-after", b"5")])
        self._at_once += 1
        try:
            _check_length(headers)
            takes_body = scope["method"] == "POST" and scope["path"] in self._posts
            body = await _body(receive) if takes_body else b""
            if body is not None:
                await self._app(scope, _replayed(body, receive), answer)
        finally:
            self._at_once -= 1

    def _check_sender(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes]) -> None:
        """Raise Refusal unless Host and Origin are ours."""
        host = headers.get(b"host", b"").decode("latin-1")
        try:
            parts = urllib.parse.urlsplit(f"//{host}")
            is_ours = parts.netloc == host and "@" not in host and self._entry.is_ours(parts.hostname or "")
            _ = parts.port  # raises if it is none
        except ValueError:
            is_ours = False
        if not is_ours:
            raise Refusal(403, f"the Host header is {host[:100]!r}, which is no name of this server")
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower() != f"http://{host.lower()}":
            raise Refusal(403, f"the Origin header is {origin.decode('latin-1')[:100]!r}; only our own page may ask")
        visits_page = scope["method"] == "GET" and scope["path"] == "/"
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin") and not visits_page:
            raise Refusal(403, "the page of another site sent this request; only our own page may ask")

    def _check_token(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes]) -> str | None:
        """Raise Refusal unless the request has the token, or needs none.

        Returns:
          Where to send a browser that came with the token in its address; None for all others.
        """
        if self._entry.token is None or scope["path"] in _OPEN:
            return None
        token = self._entry.token.encode("ascii")
        if scope["path"] == "/" and scope["method"] in ("GET", "HEAD") and b"token=" in scope["query_string"]:
            try:
                query = scope["query_string"].decode("latin-1")
                pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, max_num_fields=20)
            except ValueError:
                raise Refusal(400, "the address has more than 20 parameters") from None
            given = dict(pairs).get("token", "").encode("utf-8", "replace")
            if hmac.compare_digest(given, token):
                rest = urllib.parse.urlencode([pair for pair in pairs if pair[0] != "token"], errors="replace")
                return f"/?{rest}" if rest else "/"
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        cookies = dict(_pair(part) for part in headers.get(b"cookie", b"").split(b";"))
        key = bearer.strip() if scheme.lower() == b"bearer" else b""
        cookie = cookies.get(self._entry.cookie.encode("ascii"), b"")
        if not (hmac.compare_digest(key, token) or hmac.compare_digest(cookie, token)):
            message = "the token is missing or wrong: open the address that the server printed, or send the token as "
            message += "the API key (Authorization: Bearer TOKEN)"
            raise Refusal(401, message, code="invalid_api_key", headers=[(b"www-authenticate", b"Bearer")])
        return None


class _Answer:
    """The way of an answer to the client. It adds the headers that every answer has."""

    def __init__(self, send: Send):
        self._send = send
        self._has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._has_begun = True
            names = {name.lower() for name, _ in ALWAYS}
            own = [(name, value) for name, value in message.get("headers", []) if name.lower() not in names]
            message = {**message, "headers": own + ALWAYS}
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error, unless an answer has begun."""
        if not self._has_begun:
            # The rest of a body may still come; nobody reads it.
            await self._whole(refusal.status, encoded(refusal.to_tree()), [*refusal.headers, (b"connection", b"close")])

    async def ask_for_token(self) -> None:
        """Tell a person who opened the page without the token."""
        await self._whole(
            401, _TOKEN_WANTED, [(b"www-authenticate", b"Bearer"), (b"connection", b"close")], b"text/html"
        )

    async def redirect(self, address: str, entry: Entry) -> None:
        """Give the browser the token as a cookie, and send it to the address without it.

        Lax, since the browser counts this redirect to the site whose link was followed; Origin and
        Sec-Fetch-Site refuse what Strict would. It lasts until the browser ends, as the token is of
        one server.
        """
        cookie = f"{entry.cookie}={entry.token}; Path=/; HttpOnly; SameSite=Lax"
        location, value = address.encode("ascii", "replace"), cookie.encode("ascii")
        await self._whole(303, b"", [(b"location", location), (b"set-cookie", value)])

    async def _whole(self, status: int, body: bytes, headers: Headers, kind: bytes = b"application/json") -> None:
        headers = [*headers, (b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


def _headers(scope: MutableMapping[str, Any]) -> dict[bytes, bytes]:
    """Return the headers by name. Raise Refusal if one that decides is there twice, or contradicts another."""
    headers: dict[bytes, bytes] = {}
    if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > _MOST_HEADER_BYTES:
        raise Refusal(431, f"the headers are too large: more than {_MOST_HEADER_BYTES:,} bytes")
    for name, value in scope["headers"]:
        if name in headers and name in (b"host", b"origin", b"authorization", b"content-length", b"content-type"):
            raise Refusal(400, f"the header {name.decode('latin-1')} is there twice")
        headers[name] = headers[name] + b"; " + value if name == b"cookie" and name in headers else value
    if b"content-length" in headers and b"transfer-encoding" in headers:
        raise Refusal(400, "the headers Content-Length and Transfer-Encoding exclude each other")
    return headers


def _pair(cookie: bytes) -> tuple[bytes, bytes]:
    name, _, value = cookie.partition(b"=")
    return name.strip(), value.strip()


def _too_large() -> Refusal:
    return Refusal(413, f"the body is too large: more than {MOST_BODY_BYTES:,} bytes")


def _check_length(headers: dict[bytes, bytes]) -> None:
    """Raise Refusal if the body that is announced is too large."""
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 15 or int(length) > MOST_BODY_BYTES:
        raise _too_large()


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request; None if the client left. Raise Refusal if it is too large or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > MOST_BODY_BYTES:
                    raise _too_large()
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {_BODY_SECONDS:.0f} seconds") from None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the whole body first."""
    bodies = [body]

    async def replay() -> Message:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        return await receive()

    return replay
