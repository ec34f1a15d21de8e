"""Downloads with the library datasets, from files and from a small server on this machine."""

import contextlib
import json
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llm60_jax import config as config_module
from llm60_jax.config import HubSource
from llm60_jax.data.corpus import corpus, joining
from llm60_jax.data.read import hub, sources
from llm60_jax.errors import DamageError, InputError, MachineError
from llm60_jax.machine.progress import silent

datasets = pytest.importorskip("datasets")
pytest.importorskip("aiohttp")
pyarrow = pytest.importorskip("pyarrow")

DOCUMENTS = [f"Document number {number}. " + f"word{number} " * 30 for number in range(60)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make parts small, and do not wait between attempts."""
    monkeypatch.setattr(hub, "PART_CHARACTERS", 2_000)
    monkeypatch.setattr(datasets.config, "STREAMING_READ_MAX_RETRIES", 1)
    monkeypatch.setattr(datasets.config, "STREAMING_READ_RETRY_INTERVAL", 0)
    monkeypatch.setattr(datasets.config, "STREAMING_OPEN_MAX_RETRIES", 1)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write the documents to three Parquet files, with two records without text among them."""
    import pyarrow.parquet

    folder = tmp_path / "files"
    folder.mkdir()
    for part in range(3):
        texts = [*DOCUMENTS[20 * part : 20 * part + 20], *(["", None] if part == 1 else [])]
        table = pyarrow.table({"body": texts, "title": [f"T{i}" for i in range(len(texts))]})
        pyarrow.parquet.write_table(table, folder / f"{part}.parquet", row_group_size=5)
    return sorted(folder.iterdir())


class Server:
    """Serves a folder on loopback, ranges included. It hangs up after `limit` requests."""

    def __init__(self, folder: Path):
        self.requests, self.limit = 0, 10**9
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                server.requests += 1
                if server.requests > server.limit:
                    self.close_connection = True
                    self.connection.close()
                    return
                data = (folder / self.path.rpartition("/")[2]).read_bytes()
                start, end = 0, len(data) - 1
                byte_range = self.headers.get("Range")
                if byte_range:
                    first, _, last = byte_range.removeprefix("bytes=").partition("-")
                    start, end = int(first), min(int(last or end), end)
                self.send_response(206 if byte_range else 200)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(end - start + 1))
                if byte_range:
                    self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
                self.end_headers()
                if body:
                    self.wfile.write(data[start : end + 1])

            def log_message(self, *rest: Any) -> None: ...

            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):  # this test closes the connection on purpose
                    super().handle()

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(files: list[Path]) -> Iterator[Server]:
    running = Server(files[0].parent)
    yield running
    running.close()


def source(path: Path, names: Iterable[Any], **settings: Any) -> HubSource:
    common = {"name": "parquet", "max_characters": 10**6, "text_field": "body", "data_files": tuple(map(str, names))}
    return HubSource(kind="hub", path=str(path), **common | settings)


def texts(folder: Path) -> list[str]:
    lines = [line for part in sorted(folder.glob("part-*")) for line in part.read_text().splitlines()]
    return [json.loads(line)["text"] for line in lines]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("part-*")}


def stopping(after: int) -> Any:
    def track(items: Iterable[Any], description: str, total: int | None = None) -> Iterator[Any]:
        for number, item in enumerate(items):
            if number == after:
                raise KeyboardInterrupt
            yield item

    return track


def test_a_download_is_complete_and_made_once(tmp_path: Path, server: Server, files: list[Path]) -> None:
    wanted = source(tmp_path / "text", [f"{server.address}/{file.name}" for file in files])
    hub.fetch(wanted, silent)
    assert texts(tmp_path / "text") == DOCUMENTS
    record = json.loads((tmp_path / "text" / "download.json").read_text())
    assert (record["documents"], record["without_text"], record["ended"]) == (60, 2, True)
    assert record["characters"] == sum(map(len, DOCUMENTS))
    assert len(record["parts"]) > 3
    before = server.requests
    hub.fetch(wanted, stopping(0))
    assert server.requests == before
    assert [file.name for file in sources.inputs(wanted)] == sorted(record["parts"])


@pytest.mark.parametrize("after", [0, 1, 13, 30, 59])
def test_a_download_resumes_where_it_stopped(tmp_path: Path, files: list[Path], after: int) -> None:
    hub.fetch(source(tmp_path / "whole", files), silent)
    wanted = source(tmp_path / "text", files)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            hub.fetch(wanted, stopping(after))
        with pytest.raises(InputError, match="parquet is not downloaded yet"):
            sources.inputs(wanted)
        if after < 13:
            break
        after = 3  # the second interruption comes before the next part is complete
    hub.fetch(wanted, silent)
    assert content(tmp_path / "text") == content(tmp_path / "whole")


def test_a_lost_connection_is_one_message_and_the_download_resumes(
    tmp_path: Path, server: Server, files: list[Path]
) -> None:
    wanted = source(tmp_path / "text", [f"{server.address}/{file.name}" for file in files])
    server.limit = server.requests + 7
    with pytest.raises(MachineError, match=r"the download stopped: .* run the same command again to resume"):
        hub.fetch(wanted, silent)
    assert texts(tmp_path / "text") == DOCUMENTS[: len(texts(tmp_path / "text"))]
    server.limit = 10**9
    hub.fetch(wanted, silent)
    assert texts(tmp_path / "text") == DOCUMENTS


def test_max_characters_limits_a_download_and_can_be_raised(tmp_path: Path, files: list[Path]) -> None:
    hub.fetch(source(tmp_path / "text", files, max_characters=5_000), silent)
    first = texts(tmp_path / "text")
    assert 5_000 <= sum(map(len, first)) < 5_000 + max(map(len, DOCUMENTS))
    assert first == DOCUMENTS[: len(first)]
    hub.fetch(source(tmp_path / "text", files, max_characters=9_000), silent)
    assert texts(tmp_path / "text") == DOCUMENTS[: len(texts(tmp_path / "text"))]
    assert sum(map(len, texts(tmp_path / "text"))) >= 9_000


def test_a_folder_holds_one_download(tmp_path: Path, files: list[Path]) -> None:
    hub.fetch(source(tmp_path / "text", files), silent)
    with pytest.raises(InputError, match=r"another download \(data_files .*give this one a path of its own"):
        hub.fetch(source(tmp_path / "text", files[:2]), silent)
    part = next((tmp_path / "text").glob("part-*"))
    part.write_text(part.read_text().replace("word", "ward"))
    with pytest.raises(DamageError, match=rf"{part.name}: missing or changed; delete the folder"):
        hub.fetch(source(tmp_path / "text", files), silent)


def test_a_wrong_name_is_one_message(tmp_path: Path, files: list[Path]) -> None:
    cases = [
        ({"text_field": "txt"}, r"text_field: there is no 'txt'; there are \['body', 'title'\]"),
        ({"split": "tran"}, "tran"),
        ({"data_files": (str(tmp_path / "nothing.parquet"),)}, "nothing.parquet.*check name"),
    ]
    for settings, words in cases:
        with pytest.raises(InputError, match=words):
            hub.fetch(source(tmp_path / "text", files, **settings), silent)


def test_a_dataset_with_a_script_is_refused(tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*rest: Any, **settings: Any) -> None:
        raise RuntimeError("Dataset scripts are no longer supported, but found bookcorpus.py")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(InputError, match="revision = 'refs/convert/parquet'"):
        hub.fetch(source(tmp_path / "text", files), silent)


def test_a_dataset_is_pinned_to_one_version(tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    load, calls = datasets.load_dataset, []

    def from_hub(name: str, config: Any, *, split: str, streaming: bool, revision: str) -> Any:
        calls.append((name, config, revision))
        return load(str(files[0].parent), split=split, streaming=streaming)

    class Api:
        def dataset_info(self, name: str, revision: Any) -> Any:
            return type("Info", (), {"sha": "0123abc"})

    monkeypatch.setattr(datasets, "load_dataset", from_hub)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    common = {"name": "someone/books", "data_files": (), "config": "en"}
    with pytest.raises(KeyboardInterrupt):
        hub.fetch(source(tmp_path / "text", [], **common), stopping(30))
    monkeypatch.setattr(huggingface_hub, "HfApi", None)  # must not be called again
    hub.fetch(source(tmp_path / "text", [], **common), silent)
    assert calls == [("someone/books", "en", "0123abc")] * 2
    assert texts(tmp_path / "text") == DOCUMENTS
    assert sources.label(source(tmp_path / "text", [], **common)) == "someone/books"


def test_a_download_becomes_a_corpus(tree: dict[str, Any], tmp_path: Path, files: list[Path]) -> None:
    wanted = {"kind": "hub", "name": "parquet", "path": str(tmp_path / "text"), "max_characters": 10**6}
    wanted |= {"data_files": list(map(str, files)), "text_field": "body", "licence": "CC0"}
    tree["phase"][0] |= {"sources": [wanted], "exclude": {"rules": []}}
    phase = config_module.parse(tree, "hub").phase[0]
    made = corpus.prepare(phase, tmp_path / "data", silent)
    (ledger,) = made.ledger["sources"]
    assert (ledger["documents_in"], ledger["licence"]) == (60, "CC0")
    titles = {record["title"] for split in joining.SPLITS for record in made.read(split)}
    assert titles == {f"T{i}" for i in range(20)}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "a/b"}, "data_files: required by the names 'parquet' and 'json' and by no other; the name is 'a/b'"),
        ({"data_files": []}, "data_files"),
        ({"revision": "main"}, "revision: files have none"),
        ({"max_characters": 0}, "max_characters"),
        ({"trust_remote_code": True}, "trust_remote_code"),
    ],
)
def test_wrong_settings_are_refused(tree: dict[str, Any], settings: dict[str, Any], words: str) -> None:
    wanted = {"kind": "hub", "name": "parquet", "path": "text", "max_characters": 5, "data_files": ["a.parquet"]}
    tree["phase"][0]["sources"] = [wanted | settings]
    with pytest.raises(InputError, match=words):
        config_module.parse(tree, "hub")
