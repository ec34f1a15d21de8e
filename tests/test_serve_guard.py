"""Hostile requests: each is refused in the right way, and the server goes on."""

import asyncio
import contextlib
import errno
import json
import socket
import threading
import time

import pytest

pytest.importorskip("starlette", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")

from serving import TOKEN, served

from llm60_jax.errors import MachineError
from llm60_jax.serve import guard
from llm60_jax.serve import server as server_module
from llm60_jax.serve.guard import Entry

BEARER = f"authorization: Bearer {TOKEN}"
JSON = "content-type: application/json"
CHUNKED = "transfer-encoding: chunked"
EVIL = "origin: http://evil.example"
GOOD = {"model": "run", "prompt": "The", "max_tokens": 1}


@pytest.fixture(scope="module")
def server(base):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "_BODY_SECONDS", 0.6)
        patch.setattr(server_module, "_REQUEST_SECONDS", 0.6)
        with served([base]) as running:
            assert running.post(**GOOD).status_code == 200  # the model is loaded
            yield running


def head(line, *headers, host="localhost"):
    """The head of a request that closes its connection."""
    lines = [f"{line} HTTP/1.1", f"host: {host}", "connection: close", *headers]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n"


def get(path, *headers, host="localhost"):
    return head(f"GET {path}", *headers, host=host)


def post(body, *headers, path="/v1/completions", length=None):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    length = len(body) if length is None else length
    return head(f"POST {path}", BEARER, f"content-length: {length}", *(headers or [JSON])) + body


def asked(**fields):
    return post({**GOOD, **fields})


def chunked(*chunks):
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head("POST /v1/completions", BEARER, JSON, CHUNKED) + framed


ABOVE = guard.MOST_BODY_BYTES + 1
DEEP = b'{"model": "run", "prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
HOSTILE = {
    # the token
    "no token": (401, get("/v1/models")),
    "wrong token": (401, get("/v1/models", "authorization: Bearer wrong")),
    "part of the token": (401, get("/v1/models", f"authorization: Bearer {TOKEN[:-1]}")),
    "longer token": (401, get("/v1/models", f"authorization: Bearer {TOKEN}x")),
    "empty token": (401, get("/v1/models", "authorization: Bearer ")),
    "basic": (401, get("/v1/models", f"authorization: Basic {TOKEN}")),
    "token in other case": (401, get("/v1/models", f"authorization: Bearer {TOKEN.upper()}")),
    "token of another cookie": (401, get("/v1/models", f"cookie: token={TOKEN}; llm60_token_1={TOKEN}")),
    "wrong cookie": (401, get("/v1/models", "cookie: llm60_token_PORT=x")),
    "token in the address of the API": (401, get(f"/v1/models?token={TOKEN}")),
    "wrong token in the address": (401, get("/?token=wrong")),
    "empty token in the address": (401, get("/?token=")),
    "another token last": (401, get(f"/?token={TOKEN}&token=x")),
    "token that is no text": (401, get("/?token=%FF%00%ED%A0%80")),
    "hundred parameters": (400, get("/?" + "&".join(["token=x"] * 100))),
    "token of bytes": (401, get("/v1/models", "authorization: Bearer \udcff\udcfe")),
    "two tokens": (400, get("/v1/models", "authorization: Bearer x", BEARER)),
    "posts without a token": (401, head("POST /v1/completions", JSON, "content-length: 2") + b"{}"),
    "page without a token": (401, get("/")),
    "static without a token": (401, get("/static/page.js")),
    # the sender
    "forged host": (403, get("/v1/models", BEARER, host="evil.example")),
    "host of a rebinding name": (403, get("/v1/models", BEARER, host="127.0.0.1.evil.example:PORT")),
    "host with a user": (403, get("/v1/models", BEARER, host="localhost@evil.example")),
    "host with our name as user": (403, get("/v1/models", BEARER, host="evil.example#localhost")),
    "host with a path": (403, get("/v1/models", BEARER, host="localhost/evil")),
    "host with a word as port": (403, get("/v1/models", BEARER, host="localhost:x")),
    "empty host": (403, get("/v1/models", BEARER, host="")),
    "another address of loopback": (403, get("/v1/models", BEARER, host="127.0.0.2")),
    "broken IPv6 host": (403, get("/v1/models", BEARER, host="[::1")),
    "no host": (400, f"GET /v1/models HTTP/1.1\r\n{BEARER}\r\nconnection: close\r\n\r\n".encode()),
    "no host by HTTP/1.0": (403, f"GET /v1/models HTTP/1.0\r\n{BEARER}\r\n\r\n".encode()),
    "two hosts": (400, get("/v1/models", BEARER, "host: evil.example")),
    "foreign origin": (403, get("/v1/models", BEARER, EVIL)),
    "foreign port": (403, get("/v1/models", BEARER, "origin: http://localhost:1")),
    "origin of a file": (403, get("/v1/models", BEARER, "origin: null")),
    "origin by https": (403, get("/v1/models", BEARER, "origin: https://localhost")),
    "two origins": (400, get("/v1/models", BEARER, "origin: http://localhost", EVIL)),
    "preflight": (403, head("OPTIONS /v1/completions", EVIL, "access-control-request-method: POST")),
    "page of another site": (403, get("/v1/models", BEARER, "sec-fetch-site: cross-site")),
    "page of another port": (403, get("/static/page.js", BEARER, "sec-fetch-site: same-site")),
    # bodies
    "huge body": (413, post(b"", length=ABOVE)),
    "endless body": (413, post(b"", length=10**18)),
    "negative length": (400, post(b"", length=-1)),
    "huge chunked body": (413, chunked(*[b" " * 65536] * 20)),
    "body of a GET": (413, get("/v1/models", BEARER, f"content-length: {ABOVE}")),
    "no body": (400, post(b"")),
    "length and chunks": (400, head("POST /v1/completions", BEARER, JSON, "content-length: 5", CHUNKED)),
    "two lengths": (400, head("POST /v1/completions", BEARER, JSON, "content-length: 2", "content-length: 3") + b"{}"),
    "form": (415, post(b"model=run", "content-type: application/x-www-form-urlencoded")),
    "plain text": (415, post(GOOD, "content-type: text/plain")),
    "no type": (415, post(GOOD, "x: y")),
    "two types": (400, post(GOOD, JSON, "content-type: text/plain")),
    "compressed": (415, post(GOOD, JSON, "content-encoding: gzip")),
    "body that ends early": (408, post(b"{", length=50)),
    # JSON
    "no JSON": (400, post(b"{model: run}")),
    "half JSON": (400, post(b'{"model": "run"')),
    "list": (400, post([GOOD])),
    "null": (400, post(b"null")),
    "deep lists": (400, post(DEEP)),
    "deep objects": (400, post(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)),
    "NaN": (400, post(b'{"model": "run", "prompt": "x", "temperature": NaN}')),
    "infinity": (400, post(b'{"model": "run", "prompt": "x", "temperature": 1e999}')),
    "long number": (400, post(b'{"model": "run", "prompt": "x", "seed": ' + b"9" * 100_000 + b"}")),
    "field twice": (400, post(b'{"model": "run", "model": "run", "prompt": "x"}')),
    "no UTF-8": (400, post(b'{"model": "run", "prompt": "\xff\xfe"}')),
    "UTF-16": (400, post(json.dumps(GOOD).encode("utf-16"))),
    "null bytes": (400, post(b"\x00" * 100)),
    # fields
    "unknown field": (400, asked(tempreature=1)),
    "unknown field of half a character": (400, post(b'{"model": "run", "prompt": "x", "\\ud800": 1}')),
    "lone surrogate": (400, post(b'{"model": "run", "prompt": "a\\ud800b"}')),
    "lone surrogate in stop": (400, post(b'{"model": "run", "prompt": "x", "stop": "\\udfff"}')),
    "lone surrogate in the model": (400, post(b'{"model": "\\ud800", "prompt": "x"}')),
    "no prompt": (400, post({"model": "run"})),
    "no model": (400, post({"prompt": "x"})),
    "prompt is a number": (400, asked(prompt=7)),
    "prompt is an object": (400, asked(prompt={"a": 1})),
    "empty list": (400, asked(prompt=[])),
    "mixed list": (400, asked(prompt=["x", 5])),
    "list of empty lists": (400, asked(prompt=[[], []])),
    "truths as ids": (400, asked(prompt=[True, False])),
    "negative id": (400, asked(prompt=[-1])),
    "huge id": (400, asked(prompt=[2**31 - 1])),
    "many prompts": (400, asked(prompt=["x"] * 17)),
    "many texts": (400, asked(n=17)),
    "prompts times n": (400, asked(prompt=["x"] * 5, n=4)),
    "no texts": (400, asked(n=0)),
    "negative n": (400, asked(n=-1)),
    "n is text": (400, asked(n="1")),
    "n is a truth": (400, asked(n=True)),
    "huge max_tokens": (400, asked(max_tokens=10**20)),
    "long max_tokens": (400, asked(max_tokens=10**9)),
    "negative max_tokens": (400, asked(max_tokens=-1)),
    "fraction of a token": (400, asked(max_tokens=1.5)),
    "long prompt": (400, asked(prompt="x " * 10_000)),
    "negative temperature": (400, asked(temperature=-0.1)),
    "high temperature": (400, asked(temperature=2.1)),
    "temperature of text": (400, asked(temperature="hot")),
    "top_p of nothing": (400, asked(top_p=0)),
    "top_p above all": (400, asked(top_p=1.1)),
    "negative seed": (400, asked(seed=-1)),
    "large seed": (400, asked(seed=2**31)),
    "many alternatives": (400, asked(logprobs=21)),
    "alternatives of chat": (400, asked(logprobs=True)),
    "10,000 stop texts": (400, asked(stop=["x"] * 10_000)),
    "empty stop text": (400, asked(stop=[""])),
    "long stop text": (400, asked(stop="x" * 5000)),
    "stop is a number": (400, asked(stop=[1])),
    "stream of text": (400, asked(stream="yes")),
    "options without a stream": (400, asked(stream_options={"include_usage": True})),
    "unknown option": (400, asked(stream=True, stream_options={"x": 1})),
    "best_of": (400, asked(best_of=3)),
    "suffix": (400, asked(suffix="end")),
    "logit_bias": (400, asked(logit_bias={"50": 100})),
    "presence": (400, asked(presence_penalty=0.5)),
    "frequency": (400, asked(frequency_penalty=-0.5)),
    "user is an object": (400, asked(user={})),
    # addresses
    "unknown model": (404, asked(model="none")),
    "model above": (404, asked(model="../run")),
    "model inside": (404, asked(model="run/../run/phases/grammar")),
    "model of a path": (404, asked(model="/etc/passwd")),
    "model of the state": (404, asked(model="run/phases/grammar/state")),
    "model of the root": (404, asked(model="run/")),
    "model with a null byte": (404, asked(model="run\x00")),
    "long model": (400, asked(model="x" * 10_000)),
    "empty model": (400, asked(model="")),
    "path above": (404, get("/v1/models/../../../../etc/passwd", BEARER)),
    "escaped path above": (404, get("/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd", BEARER)),
    "null byte in a path": (404, get("/v1/models/run%00", BEARER)),
    "bytes in a path": (404, get("/v1/models/%ff%fe", BEARER)),
    "static above": (404, get("/static/../../../etc/passwd", BEARER)),
    "static escaped": (404, get("/static/..%2f..%2fpyproject.toml", BEARER)),
    "static backslash": (404, get("/static/..%5c..%5cpyproject.toml", BEARER)),
    "static absolute": (404, get("/static//etc/passwd", BEARER)),
    "whole address": (404, get("http://evil.example/v1/models", BEARER)),
    "chat": (404, post(GOOD, path="/v1/chat/completions")),
    "slash at the end": (404, get("/v1/models/", BEARER)),
    "GET of completions": (405, get("/v1/completions", BEARER)),
    "DELETE of a model": (405, head("DELETE /v1/models/run", BEARER)),
    "PUT": (405, head("PUT /v1/models", BEARER, "content-length: 0")),
    "TRACE": (405, head("TRACE /v1/models", BEARER)),
    "unknown method": (405, head("BREW /v1/models", BEARER)),
    # HTTP itself
    "header with a break": (400, get("/v1/models", BEARER, "x: a\rb: c")),
    "header with a null byte": (400, get("/v1/models", BEARER, "x: a\x00b")),
    "name with a space": (400, get("/v1/models", BEARER, "x y: z")),
    "huge header": (431, get("/v1/models", BEARER, "x: " + "y" * 100_000)),
    "many headers": (431, get("/v1/models", BEARER, *[f"x{number}: y" for number in range(5000)])),
    "length of 30 digits": (400, post(b"", length=10**30)),
    "bad chunk": (400, chunked() + b"zz\r\n{}\r\n0\r\n\r\n"),
    "unknown coding": (400, head("POST /v1/completions", BEARER, JSON, "transfer-encoding: gzip, chunked")),
    "no HTTP": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n"),
    "version 2": (403, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
}  # fmt: skip


def test_there_are_enough_of_them():
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_is_refused(server, name, caplog):
    status, data = HOSTILE[name]
    answer = server.raw(data.replace(b"PORT", str(server.port).encode()))
    first, _, rest = answer.partition(b"\r\n")
    assert first.split(b" ")[1:2] == [str(status).encode()], answer[:500]
    heads, _, body = rest.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert len(error["message"]) < 1000
    for word in (b"Traceback", b"site-packages", b"llm60_jax/", TOKEN.encode()):
        assert word not in answer
    assert b"access-control" not in heads.lower()
    assert not caplog.records, caplog.text
    assert server.client.get("/health").status_code == 200


def test_the_server_still_writes(server):
    assert server.engine._thread.is_alive()
    assert server.post(**GOOD).status_code == 200


def test_every_answer_has_the_headers(server):
    for path in ("/health", "/v1/models", "/nothing", "/v1/models/none", "/"):
        headers = server.client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
        assert not [name for name in headers if name.startswith("access-control")]
    refused = server.client.get("/v1/models", headers={"Authorization": "Bearer x"})
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_what_is_no_http_is_refused_with_the_headers_of_all(server):
    heads = server.raw(HOSTILE["no HTTP"][1]).partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert {b": ".join(header) for header in guard.ALWAYS} <= set(heads)


@pytest.mark.parametrize(("port", "other"), [(8060, 8061), (65535, 65534)])
def test_the_port_that_is_proposed_exists(monkeypatch, port, other):
    def bind(self, address):
        raise OSError(errno.EADDRINUSE, "taken")

    monkeypatch.setattr(server_module.socket.socket, "bind", bind)
    with pytest.raises(MachineError, match=f"--port {other},"):
        server_module.listen("127.0.0.1", port)


def test_good_requests_pass(server):
    port = server.port
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "LOCALHOST:9"):
        assert b" 200 " in server.raw(get("/v1/models", BEARER, host=host))[:20], host
        origin = f"origin: http://{host}"
        assert b" 200 " in server.raw(get("/v1/models", BEARER, origin, host=host))[:20], host
    assert b" 200 " in server.raw(get("/v1/models", f"cookie: a=b; llm60_token_{port}={TOKEN}"))[:20]
    assert b" 200 " in server.raw(chunked(json.dumps(GOOD).encode(), b""))[:20]


def test_the_page_visit_sets_the_cookie(server):
    answer = server.raw(get(f"/?token={TOKEN}&theme=dark", "sec-fetch-site: cross-site")).decode()
    assert answer.startswith("HTTP/1.1 303")
    assert "\r\nlocation: /?theme=dark\r\n" in answer
    cookie = answer.partition("set-cookie: ")[2].partition("\r\n")[0]
    assert cookie.startswith(f"llm60_token_{server.port}={TOKEN};")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie  # a link in another site's page leads here, and the redirect must bring it
    assert "Max-Age" not in cookie


def test_a_person_without_the_token_is_told_in_a_sentence(server):
    answer = server.raw(get("/", "accept: text/html,*/*")).decode()
    assert answer.startswith("HTTP/1.1 401")
    assert "content-type: text/html" in answer
    assert "tools/serve.py printed" in answer
    assert "content-security-policy" in answer
    assert "text/html" not in server.raw(get("/v1/models", "accept: text/html,*/*")).decode()


def test_slow_clients_are_hung_up_on_and_harm_nobody(server):
    connections = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(30)]
    try:
        for number, connection in enumerate(connections):
            connection.sendall([b"", b"GET /v1/mod", get("/v1/models")[:-2], post(GOOD)[:-3]][number % 4])
        assert server.client.get("/health").status_code == 200
        assert server.post(**GOOD).status_code == 200
        for connection in connections:
            with contextlib.suppress(ConnectionError):
                while connection.recv(1000):
                    pass
    finally:
        for connection in connections:
            connection.close()


def test_a_second_request_must_come_whole_in_time_too(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b" 200 " in connection.recv(65536)
        connection.sendall(b"GET /hea")
        start = time.monotonic()
        while connection.recv(1000):
            pass
        assert time.monotonic() - start < 5


def test_an_answer_in_progress_is_not_cut(server):
    gate = server.held()
    opener = threading.Timer(1.5, gate.set)  # longer than a head may take here
    opener.start()
    assert server.post(**GOOD).status_code == 200
    opener.join()


def test_connections_above_the_limit_are_closed_at_once(server, monkeypatch):
    server.client.get("/health")
    monkeypatch.setattr(server_module, "_MOST_CONNECTIONS", 1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1000) == b""
        assert server.client.get("/health").status_code == 200  # on the connection that is there


def test_a_flood_of_trouble_in_the_loop_is_one_line(caplog):
    running = server_module._Server(server_module.uvicorn.Config(lambda: None), None, None)
    loop = asyncio.new_event_loop()
    for _ in range(100):
        running._say(loop, {"message": "accept", "exception": OSError(errno.EMFILE, "too many")})
    loop.close()
    assert len(caplog.records) == 1
    assert "too many open files" in caplog.text


def test_who_has_no_token_takes_no_place(server, monkeypatch):
    monkeypatch.setattr(guard, "MOST_AT_ONCE", 1)
    half = head("POST /health", "content-length: 9") + b"{"
    for data in (half, post(GOOD)[:-3].replace(TOKEN.encode(), b"wrong")):
        start = time.monotonic()
        assert server.raw(data)[9:12] in (b"405", b"401")
        assert time.monotonic() - start < 0.5  # it does not wait for the body
    assert server.raw(head("POST /v1/models", BEARER, "content-length: 9") + b"{")[9:12] == b"405"


def test_a_client_that_reads_nothing_harms_nobody(server):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.sendall(asked(n=16, max_tokens=50, stream=True, logprobs=20))
        assert server.post(**GOOD).status_code == 200
        assert server.client.get("/health").status_code == 200


def test_many_requests_at_once_are_refused_in_time(server, monkeypatch):
    monkeypatch.setattr(guard, "MOST_AT_ONCE", 3)
    gate = server.held()
    clients = [threading.Thread(target=server.post, kwargs=GOOD) for _ in range(3)]
    for client in clients:
        client.start()
    server.await_waiting(3)
    answer = server.client.get("/v1/models")
    gate.set()
    for client in clients:
        client.join(30)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert server.client.get("/v1/models").status_code == 200


def test_an_unexpected_failure_shows_nothing_of_the_inside(server, monkeypatch, caplog):
    def fail(self):
        raise ZeroDivisionError("a secret of the inside \x1b[2J" + "y" * 1000)

    monkeypatch.setattr(type(server.shelf), "models", fail)
    answer = server.client.get("/v1/models")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert "a secret of the inside" in caplog.text  # on the terminal
    assert "\x1b" not in caplog.text
    monkeypatch.undo()
    assert server.client.get("/v1/models").status_code == 200


def test_without_a_token_the_sender_is_still_checked(base):
    with served([base], token=None) as server:
        assert server.client.get("/v1/models").status_code == 200
        assert b" 403 " in server.raw(get("/v1/models", host="evil.example"))[:20]
        assert b" 403 " in server.raw(get("/v1/models", EVIL))[:20]
        assert b" 415 " in server.raw(post(GOOD, "content-type: text/plain"))[:20]


@pytest.mark.parametrize(
    ("host", "name", "is_ours"),
    [
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "192.0.2.7", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("::", "192.0.2.8", True),  # any address of this machine
        ("::", "evil.example", False),
        ("::", socket.gethostname(), True),
        ("::1", "::1", True),
    ],
)
def test_names_of_ours(host, name, is_ours):
    assert Entry(host, 1, None).is_ours(name) is is_ours


def test_the_printed_address():
    assert Entry("127.0.0.1", 80, "t").address == "http://127.0.0.1:80/?token=t"
    assert Entry("::1", 8060, None).address == "http://[::1]:8060/"
    assert Entry("::", 8060, None).address == "http://127.0.0.1:8060/"


def test_tokens_are_compared_in_constant_time(monkeypatch):
    compared = []
    real = guard.hmac.compare_digest
    monkeypatch.setattr(guard.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"token=x", "headers": []}
    with pytest.raises(guard.Refusal):
        guard.Guard(None, Entry("127.0.0.1", 1, "t"))._check_token(scope, {b"cookie": b"llm60_token_1=y"})
    assert (b"x", b"t") in compared
    assert (b"y", b"t") in compared
