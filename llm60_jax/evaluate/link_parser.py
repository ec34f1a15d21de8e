"""The share of sentences that Link Grammar's command `link-parser` parses completely."""

import re
import shutil
import subprocess
from collections.abc import Iterable

from llm60_jax.evaluate import prose

_MIN_WORDS, _MAX_WORDS = 4, 25  # words of a sentence
_MAX_SENTENCES = 150
_TIMEOUT_SECONDS = 120


def parse_rate(texts: Iterable[str]) -> float | None:
    """Return the parsed share of the first 150 sentences of 4 to 25 words.

    Returns None if the program is not installed, or if there are no such sentences. The rate shows
    grammar only beside the rate of human text: prose from books reaches 0.5 to 0.8, shuffled words
    0.02.
    """
    program = shutil.which("link-parser")
    chosen = [
        " ".join(sentence.split())
        for text in texts
        for sentence in prose.sentences(text)
        # the program takes a line that does not begin with a letter for a command
        if _MIN_WORDS <= len(sentence.split()) <= _MAX_WORDS and sentence[0].isalpha()
    ][:_MAX_SENTENCES]
    if program is None or not chosen:
        return None
    command = [program, "en", "-batch", "-timeout=2"]
    try:
        done = subprocess.run(
            command,
            input="\n".join(chosen) + "\n",
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    # In batch mode the program ends with the number of sentences that it cannot parse.
    errors = re.search(r"^(\d+) errors?\.", done.stdout + "\n" + done.stderr, re.MULTILINE)
    return 1 - int(errors[1]) / len(chosen) if errors else None
