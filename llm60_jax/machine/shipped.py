"""Scripts and configurations that come with the package, and how the user starts them.

In a clone `launch.py`, `tools/` and `configs/` stand beside the package. A wheel carries them
inside it, in `shipped/`. `llm60 NAME` and `python -m llm60_jax NAME` run the same scripts.
"""

import ast
import re
from pathlib import Path

TRAIN = "train"  # the name of launch.py
ENTRIES = ("llm60", "python -m llm60_jax")
_started: list[str] = []  # "llm60", "train": how this process was started, if by an entry
_PACKAGE = Path(__file__).resolve().parents[1]
_COMMAND = re.compile(r"python (?:launch|tools/(?:\w+/)?(?P<tool>\w+))\.py(?P<config> configs/\w+\.toml)?")
_OF_THE_PROJECT = ("docs", "config_page", "reference")  # scripts that serve the clone only


def started_by(entry: str, name: str) -> None:
    """Record that an entry of the package started this process to run a command."""
    _started[:] = [entry, name]


def program() -> str | None:
    """Return the words that started this process through an entry, such as `llm60 train`; else None."""
    return " ".join(_started) or None


def is_clone() -> bool:
    """Return whether the package runs from a clone of the project."""
    return not (_PACKAGE / "shipped").is_dir()


def root() -> Path:
    """Return the folder of `launch.py`, `tools/` and `configs/`."""
    return _PACKAGE.parent if is_clone() else _PACKAGE / "shipped"


def configs() -> dict[str, Path]:
    """Return the shipped configurations by name."""
    return {path.stem: path for path in sorted(root().glob("configs/*.toml"))}


def config_file(text: str) -> Path:
    """Return the file that a user means by CONFIG: a path, or the name of a shipped configuration."""
    path = Path(text)
    return path if path.exists() else configs().get(text, path)


def scripts() -> dict[str, Path]:
    """Return the script of each command, by its name."""
    longer = {path.stem: path for path in root().glob("tools/*/*.py")}  # a file in tools/ is its short name
    tools = {path.stem: longer.get(path.stem, path) for path in sorted(root().glob("tools/*.py"))}
    return {TRAIN: root() / "launch.py"} | {name: tools[name] for name in tools if name not in _OF_THE_PROJECT}


def purpose(script: Path) -> str:
    """Return the first sentence of a script's docstring."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=[\w`])[.:](?:\s|$)", " ".join(text.split()), maxsplit=1)[0]


def invocation(name: str) -> str:
    """Return how this user starts a command: as this process was started.

    Args:
      name: `train`, or the name of a script in tools/.
    """
    if _started or not is_clone():
        return f"{_started[0] if _started else ENTRIES[0]} {name.replace('_', '-')}"
    return "python launch.py" if name == TRAIN else f"python tools/{name}.py"


def spoken(text: str) -> str:
    """Return a text with the commands of a clone turned into those that this user types."""
    if invocation(TRAIN) == "python launch.py":
        return text
    return _COMMAND.sub(_typed, text)


def _typed(command: re.Match[str]) -> str:
    config = command["config"] or ""
    shipped_name = re.fullmatch(r" configs/(\w+)\.toml", config)
    name = shipped_name[1] if shipped_name else ""
    return invocation(command["tool"] or TRAIN) + (f" {name}" if name in configs() else config)


def extra(name: str) -> str:
    """Return the command that installs an extra of the package, such as `formats`."""
    package = "-e '." if is_clone() else "'llm60_jax"
    return f"pip install {package}[{name}]'"
