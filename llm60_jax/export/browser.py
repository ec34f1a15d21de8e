"""A page that runs an ONNX export in the browser alone, with transformers.js.

The user names the unpacked npm package `@huggingface/transformers`. Its library, and the WebAssembly
of the onnxruntime-web that it was built with, are copied beside the model. So the folder needs a
server of plain files and no network: `index.html` allows requests to its own server only.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llm60_jax.config.schema import to_tree
from llm60_jax.errors import DamageError, InputError
from llm60_jax.export.source import Source
from llm60_jax.machine import files, pages

INDEX = "index.html"
PAGE = Path("page")  # folder of the page's own files, in the export
_TEMPLATES = Path(__file__).parent / PAGE
_SCRIPTS = ("page.js", "worker.js")
_LIBRARY = "transformers.min.js"  # has all of onnxruntime-web but the two files below
_RUNTIME = ("ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_NAME, _VERSION = "@huggingface/transformers", (4, 3)  # the version that the page was tested with; 4.x is taken
_RUNTIME_NAME = "onnxruntime-web"
_TERMS = re.compile(r"(?i)(licen[cs]e|notice|thirdpartynotices).*")
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; connect-src 'self'; "
    "style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"
)


class Package(NamedTuple):
    """The files of transformers.js and of its onnxruntime-web, and what they are."""

    files: tuple[Path, ...]
    licences: dict[str, Path]  # their licences and notices, by the name that each gets in the page
    about: str  # names, versions and licences

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in (*self.files, *self.licences.values()))


def package(folder: Path) -> Package:
    """Find transformers.js in an unpacked npm package, and the onnxruntime-web that npm put beside it.

    Raises InputError if the folder is another package, too old, or lacks a file.
    """
    install = f"npm install {_NAME}@{'.'.join(map(str, _VERSION))}"
    about = _about(folder, install)
    version = str(about.get("version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if about.get("name") != _NAME or numbers[:1] != _VERSION[:1] or numbers < _VERSION:
        raise InputError(
            f"--with-page: {folder} is {about.get('name')} {version}, not {_NAME} from {_VERSION[0]}.{_VERSION[1]} "
            f"up, below {_VERSION[0] + 1}: {install}"
        )
    needs = about.get("dependencies")
    wanted = needs.get(_RUNTIME_NAME) if isinstance(needs, dict) else None
    places = (folder / "node_modules" / _RUNTIME_NAME, folder.absolute().parents[1] / _RUNTIME_NAME)
    runtime = next((place for place in places if place.is_dir()), None)
    if runtime is None:
        raise InputError(f"--with-page: {_RUNTIME_NAME} {wanted} is neither in {folder} nor beside it: {install}")
    about_runtime = _about(runtime, install)
    if about_runtime.get("version") != wanted or wanted is None:
        raise InputError(
            f"--with-page: {runtime} is version {about_runtime.get('version')}, but {_NAME} {version} "
            f"needs {wanted}: {install}"
        )
    paths = [folder / "dist" / _LIBRARY, *(runtime / "dist" / name for name in _RUNTIME)]
    for path in paths:
        if not path.is_file():
            raise InputError(f"--with-page: {path} is missing: {install}")
    licences = _licences(_NAME, folder) | _licences(_RUNTIME_NAME, runtime)
    lines = (_terms(_NAME, about, licences), _terms(_RUNTIME_NAME, about_runtime, licences))
    return Package(tuple(paths), licences, "".join(lines))


def write(source: Source, folder: Path, bundled: Package) -> None:
    """Write the page into a folder with an ONNX export."""
    (folder / PAGE).mkdir()
    for name, path in _copied(bundled).items():
        shutil.copyfile(path, folder / PAGE / name)
    (folder / PAGE / "licences.txt").write_text(bundled.about, encoding="utf-8")
    (folder / PAGE / "page.css").write_text(pages.render(_TEMPLATES / "page.css"), encoding="utf-8")
    config = source.trained.config
    page = pages.render(
        _TEMPLATES / INDEX,
        name=source.name,
        policy=_POLICY,
        context=config.model.max_context,
        vocabulary=config.model.vocab_size,
        eos=source.trained.tokenizer.eos,
        sampling=to_tree(config.sampling),
    )
    (folder / INDEX).write_text(page, encoding="utf-8")


def verify(folder: Path, bundled: Package) -> list[str]:
    """Compare the copied files with those of the packages. Raise DamageError if one differs."""
    for name, path in _copied(bundled).items():
        if files.sha256_of(path) != files.sha256_of(folder / PAGE / name):
            raise DamageError(f"{folder / PAGE / name}: differs from {path}")
    return [f"{INDEX}: {len(bundled.files)} files of transformers.js and onnxruntime-web copied unchanged"]


def _copied(bundled: Package) -> dict[str, Path]:
    """Return the files that the page is copied from, by the name that each gets."""
    scripts = (_TEMPLATES / name for name in _SCRIPTS)
    return {path.name: path for path in (*bundled.files, *scripts)} | bundled.licences


def _licences(name: str, folder: Path) -> dict[str, Path]:
    """Return the licences and notices of a package by the names that they get in the page."""
    short = name.rpartition("/")[2]
    found = sorted(path for path in folder.glob("*") if _TERMS.fullmatch(path.name) and path.is_file())
    return {f"{short}-{path.stem}.txt": path for path in found}


def _terms(name: str, about: dict[str, Any], licences: Mapping[str, Path]) -> str:
    """Return a line with a package's version and licence, and where the licence's text is."""
    own = [copy for copy in licences if copy.startswith(name.rpartition("/")[2] + "-")]
    where = ", ".join(own) or f"text: {_word(about.get('homepage')) or 'https://www.npmjs.com/package/' + name}"
    return f"{name} {_word(about.get('version'))}, licence {_word(about.get('license')) or 'not stated'}, {where}\n"


def _word(value: Any) -> str:
    """Return a text of a foreign file in one line, or "" for what is no text."""
    return " ".join(value.split()) if isinstance(value, str) else ""


def _about(folder: Path, install: str) -> dict[str, Any]:
    """Read an npm package's description. Raise InputError if there is none."""
    path = folder / "package.json"
    try:
        about = json.loads(files.read_text(path))
    except (DamageError, ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        raise InputError(f"--with-page: {path} is no description of an npm package; unpack one there: {install}")
    return about
