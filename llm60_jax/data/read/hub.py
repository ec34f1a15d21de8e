"""Text from Hugging Face `datasets`, downloaded into a folder once, part by part.

`download.json` in the folder names the dataset, the complete parts and the position in the stream.
It is written after each part. An interrupted download resumes after the last complete part: no
document is repeated or missing.
"""

import contextlib
import dataclasses
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm60_jax.config import HubSource
from llm60_jax.errors import DamageError, Failure, InputError, MachineError
from llm60_jax.machine import files, shipped
from llm60_jax.machine.progress import Track

_RECORD = "download.json"
PART_CHARACTERS = 16_000_000


@dataclasses.dataclass
class _Download:
    """The content of download.json."""

    source: dict[str, Any]  # the settings that determine the documents
    revision: str | None  # the version of the dataset, the same for all parts
    parts: dict[str, str] = dataclasses.field(default_factory=dict)  # file -> SHA-256
    state: dict[str, Any] | None = None  # position of the stream after the last part
    documents: int = 0
    characters: int = 0
    without_text: int = 0  # records without text in `text_field`
    ended: bool = False  # the dataset has no more records

    def enough(self, source: HubSource) -> bool:
        return self.ended or self.characters >= source.max_characters


def fetch(source: HubSource, track: Track) -> None:
    """Complete the folder of a source. A complete one needs no network.

    Raises:
      InputError: the library is not installed, the dataset or field does not exist, or the folder
        holds another download.
      DamageError: a downloaded part has changed.
      MachineError: the network or the disk fails. The same command resumes.
    """
    folder = Path(source.path)
    download = _read(folder, source)
    if download.enough(source):
        return
    if importlib.util.find_spec("datasets") is None:
        raise InputError(f"source {source.name}: reading it needs the library datasets: {shipped.extra('hub')}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"{folder}: cannot be written: {error.strerror or error}") from None
    with _explained(source):
        stream = _stream(source, download)
        records = track(iter(stream), f"{source.path}: downloading {source.name}")
        while not download.enough(source):
            _add_part(folder, source, download, stream, records)
    if not download.documents:
        raise InputError(f"source {source.name}: no record has text in its field '{source.text_field}'")


def is_complete(source: HubSource) -> bool:
    """Whether a source is fully downloaded. Raises as `fetch` for a wrong or damaged folder."""
    return _read(Path(source.path), source).enough(source)


def parts(source: HubSource) -> list[Path]:
    """Return the files of a complete download. Raises InputError if it is not complete."""
    folder = Path(source.path)
    download = _read(folder, source)
    if not download.enough(source):
        raise InputError(
            f"source path '{source.path}': {source.name} is not downloaded yet; "
            "python tools/prepare_data.py downloads it, and so does the run"
        )
    return [folder / name for name in sorted(download.parts)]


def _identity(source: HubSource) -> dict[str, Any]:
    """Return the settings that determine the documents, as JSON values."""
    names = ("name", "config", "split", "revision", "data_files", "text_field", "title_field")
    return dict(json.loads(json.dumps({name: getattr(source, name) for name in names})))


def _read(folder: Path, source: HubSource) -> _Download:
    """Read and verify the download in a folder; an empty download if there is none."""
    path = folder / _RECORD
    try:
        download = _Download(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return _Download(_identity(source), source.revision)
    except (OSError, ValueError, TypeError) as error:
        reason = type(error).__name__
        raise DamageError(f"{path}: unreadable ({reason}); delete the folder and download again") from None
    if download.source != _identity(source):
        recorded = download.source
        changed = {name: value for name, value in _identity(source).items() if recorded.get(name) != value}
        changes = "; ".join(f"{name} {recorded.get(name)!r}, now {value!r}" for name, value in changed.items())
        raise InputError(
            f"source path '{source.path}': the folder holds another download ({changes}); give this one a path of its "
            "own, or delete the folder"
        )
    for name, digest in download.parts.items():
        try:
            whole = files.sha256_of(folder / name) == digest
        except OSError:
            whole = False
        if not whole:
            raise DamageError(f"{folder / name}: missing or changed; delete the folder and download again")
    return download


def _stream(source: HubSource, download: _Download) -> Any:
    """Open the dataset at the position where the download resumes."""
    import datasets
    import huggingface_hub

    datasets.disable_progress_bars()
    if not source.data_files and not Path(source.name).exists() and not download.parts:
        # A dataset can change: all parts come from the version that the first part came from.
        download.revision = huggingface_hub.HfApi().dataset_info(source.name, revision=source.revision).sha
    origin = {"data_files": list(source.data_files)} if source.data_files else {"revision": download.revision}
    stream = datasets.load_dataset(source.name, source.config, split=source.split, streaming=True, **origin)
    names = stream.column_names
    if names is not None and source.text_field not in names:
        raise InputError(f"source {source.name}: text_field: there is no '{source.text_field}'; there are {names}")
    if download.state is not None:
        stream.load_state_dict(download.state)
    return stream


def _add_part(folder: Path, source: HubSource, download: _Download, stream: Any, records: Iterator[Any]) -> None:
    """Write the next part of the stream, then download.json."""
    wanted = min(PART_CHARACTERS, source.max_characters - download.characters)
    lines: list[str] = []
    characters = without = 0
    for record in records:
        text, title = record.get(source.text_field), record.get(source.title_field)
        if not isinstance(text, str) or not text.strip():
            without += 1
            continue
        lines.append(json.dumps({"title": title if isinstance(title, str) else "", "text": text}) + "\n")
        characters += len(text)
        if characters >= wanted:
            break
    else:
        download.ended = True
    if lines:
        name = f"part-{len(download.parts):05}.jsonl"
        files.write_text(folder / name, "".join(lines))
        download.parts[name] = files.sha256_of(folder / name)
    download.state = stream.state_dict()
    download.documents += len(lines)
    download.characters += characters
    download.without_text += without
    files.write_text(folder / _RECORD, files.dump(dataclasses.asdict(download)))


@contextlib.contextmanager
def _explained(source: HubSource) -> Iterator[None]:
    """Turn the library's exceptions into an InputError or, for the network, a MachineError."""
    import datasets.exceptions

    input_errors = (FileNotFoundError, ValueError, TypeError, KeyError, RuntimeError, datasets.exceptions.DatasetsError)
    try:
        yield
    except (Failure, ImportError):
        raise
    except input_errors as error:
        # The library raises FileNotFoundError also for an address that it cannot reach.
        if type(error) is FileNotFoundError and error.__cause__ is not None:
            raise _stopped(source, error) from None
        reason = " ".join(str(error).split())[:300]
        hint = "check name, config, split, revision and data_files"
        if "script" in reason:
            hint = "use a dataset of Parquet files; many have them at revision = 'refs/convert/parquet'"
        raise InputError(f"source {source.name}: {type(error).__name__}: {reason}; {hint}") from None
    except Exception as error:  # the network layers raise exceptions of many libraries
        raise _stopped(source, error) from None


def _stopped(source: HubSource, error: Exception) -> MachineError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    remedy = f"The complete parts are in {source.path}; run the same command again to resume"
    return MachineError(f"source {source.name}: the download stopped: {reason}. {remedy}")
