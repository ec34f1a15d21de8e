"""Text from Hugging Face `datasets`, streamed into a folder once, part by part, and read from there ever after.

`download.json` in the folder says which dataset, which parts are whole, and where the stream goes on; it is written
after each part. An interrupted download goes on after the last whole part: no document twice, none missing.
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
from llm60_jax.machine import files
from llm60_jax.machine.progress import Track

_RECORD = "download.json"
_PART_CHARACTERS = 16_000_000


@dataclasses.dataclass
class _Download:
    """What has been downloaded: the content of download.json."""

    source: dict[str, Any]  # what determines the documents
    revision: str | None  # of the dataset, that was read from the first part on
    parts: dict[str, str] = dataclasses.field(default_factory=dict)  # file -> SHA-256
    state: dict[str, Any] | None = None  # of the stream, after the last part
    documents: int = 0
    characters: int = 0
    without_text: int = 0  # records whose field holds none
    ended: bool = False  # the dataset has no more

    def enough(self, source: HubSource) -> bool:
        return self.ended or self.characters >= source.max_characters


def fetch(source: HubSource, track: Track) -> None:
    """Completes the folder of a source, or finds it complete; then no network is touched.

    Raises:
      InputError: the library is not installed, there is no such dataset or field, or the folder holds another one.
      DamageError: a part is not what was downloaded.
      MachineError: the network or the disk fails. The same command goes on.
    """
    folder = Path(source.path)
    download = _read(folder, source)
    if download.enough(source):
        return
    if importlib.util.find_spec("datasets") is None:
        raise InputError(f"source {source.name}: it needs the library datasets: pip install '.[hub]'")
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
    """Whether all of it has been downloaded. Raises as `fetch` where the folder holds something else."""
    return _read(Path(source.path), source).enough(source)


def parts(source: HubSource) -> list[Path]:
    """The files of a complete download. Raises InputError if it is not complete."""
    folder = Path(source.path)
    download = _read(folder, source)
    if not download.enough(source):
        do = "tools/prepare_data.py and launch.py do it"
        raise InputError(f"source path '{source.path}': {source.name} is not downloaded yet; {do}")
    return [folder / name for name in sorted(download.parts)]


def _identity(source: HubSource) -> dict[str, Any]:
    names = ("name", "config", "split", "revision", "data_files", "text_field", "title_field")
    return dict(json.loads(json.dumps({name: getattr(source, name) for name in names})))


def _read(folder: Path, source: HubSource) -> _Download:
    path = folder / _RECORD
    try:
        download = _Download(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return _Download(_identity(source), source.revision)
    except (OSError, ValueError, TypeError) as error:
        raise DamageError(f"{path}: unreadable ({type(error).__name__}); delete the folder to download anew") from None
    if download.source != _identity(source):
        changed = [name for name, value in _identity(source).items() if download.source.get(name) != value]
        told = "; ".join(f"{name} {download.source.get(name)!r}, now {_identity(source)[name]!r}" for name in changed)
        raise InputError(
            f"source path '{source.path}': the folder holds another download ({told}); give this one a path of its "
            "own, or delete the folder"
        )
    for name, digest in download.parts.items():
        try:
            whole = files.sha256_of(folder / name) == digest
        except OSError:
            whole = False
        if not whole:
            raise DamageError(f"{folder / name}: missing or changed; delete the folder to download anew")
    return download


def _stream(source: HubSource, download: _Download) -> Any:
    """The dataset, set to where the download goes on."""
    import datasets
    import huggingface_hub

    datasets.disable_progress_bars()
    if not source.data_files and not Path(source.name).exists() and not download.parts:
        # A name can mean another version tomorrow: what is read is written down, and read to the end.
        download.revision = huggingface_hub.HfApi().dataset_info(source.name, revision=source.revision).sha
    where = {"data_files": list(source.data_files)} if source.data_files else {"revision": download.revision}
    stream = datasets.load_dataset(source.name, source.config, split=source.split, streaming=True, **where)
    present = stream.column_names
    if present is not None and source.text_field not in present:
        raise InputError(f"source {source.name}: text_field: there is no '{source.text_field}'; there are {present}")
    if download.state is not None:
        stream.load_state_dict(download.state)
    return stream


def _add_part(folder: Path, source: HubSource, download: _Download, stream: Any, records: Iterator[Any]) -> None:
    """Takes the next part from the stream and writes it, then the record of it."""
    wanted = min(_PART_CHARACTERS, source.max_characters - download.characters)
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
    """What the library raises, in one message: either the configuration is wrong, or the network."""
    import datasets.exceptions

    wrong = (FileNotFoundError, ValueError, TypeError, KeyError, RuntimeError, datasets.exceptions.DatasetsError)
    about = f"source {source.name}"
    try:
        yield
    except (Failure, ImportError):
        raise
    except wrong as error:
        if type(error) is FileNotFoundError and error.__cause__ is not None:
            raise _stopped(
                source, error
            ) from None  # an address that cannot be reached is told as one that is not there
        reason = " ".join(str(error).split())[:300]
        hint = "check name, config, split, revision and data_files"
        if "script" in reason:
            hint = "a dataset of Parquet files is needed; many have one at revision = 'refs/convert/parquet'"
        raise InputError(f"{about}: {type(error).__name__}: {reason}; {hint}") from None
    except Exception as error:  # whatever the layers of the network raise
        raise _stopped(source, error) from None


def _stopped(source: HubSource, error: Exception) -> MachineError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    kept = f"What is there is kept in {source.path}; the same command goes on"
    return MachineError(f"source {source.name}: the download stopped: {reason}. {kept}")
