"""The command `llm60`: run launch.py as `train`, and every script of tools/ by its name."""

import difflib
import runpy
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import llm60_jax
from llm60_jax.errors import InputError
from llm60_jax.machine import shipped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names. It ends the process with its own exit code.

    Returns:
      2 where there is no such command; 0 after the list of all, or the version.
    """
    entry = shipped.ENTRIES[1 if sys.argv[0].endswith("__main__.py") else 0]
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    scripts = shipped.scripts()
    script = scripts.get(name.replace("-", "_"))
    if script is not None:
        shipped.started_by(entry, name)
        sys.argv[1:] = rest
        sys.path.insert(0, str(script.parent))  # as for a script that Python starts
        runpy.run_path(str(script), run_name="__main__")
        return 0
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends what only prints
    if name == "--version":
        print(f"llm60_jax {llm60_jax.__version__}")
        return 0
    if name in ("-h", "--help"):
        print(_overview(entry))
        return 0
    known = [script_name.replace("_", "-") for script_name in scripts]
    if Path(name).suffix == ".toml" or name in shipped.configs():
        hint = f"to train this configuration: {entry} {shipped.TRAIN} {name}"
    elif near := difflib.get_close_matches(name, known, 1):
        hint = f"did you mean '{near[0]}'?"
    else:
        hint = f"`{entry} --help` lists all"
    print(f"{entry}: there is no command '{name}'; {hint}", file=sys.stderr)
    return InputError.exit_code


def _overview(entry: str) -> str:
    """Return the list of commands and shipped configurations."""
    scripts = shipped.scripts()
    width = max(map(len, scripts))
    lines = [f"  {name.replace('_', '-').ljust(width)}  {shipped.purpose(path)}" for name, path in scripts.items()]
    return "\n".join(
        [
            f"usage: {entry} COMMAND ...",
            "",
            "Train a small, deep language model from raw text, and use it.",
            "",
            "commands (each has --help):",
            *lines,
            "",
            "shipped configurations, by name:",
            f"  {', '.join(shipped.configs())}",
            "",
            "examples:",
            f"  {entry} train quickstart",
            f'  {entry} generate runs/quickstart --prompt "The history of"',
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
