"""The share of sentences that Link Grammar parses in full, where its command `link-parser` is installed."""

import re
import shutil
import subprocess
from collections.abc import Iterable

from llm60_jax.evaluate import prose

_LEAST, _MOST, _SENTENCES = 4, 25, 150  # words in a sentence; sentences that are parsed
_SECONDS = 120


def parse_rate(texts: Iterable[str]) -> float | None:
    """Of the first sentences of 4 to 25 words; None without the program, or without such sentences.

    It tells of grammar only beside the rate of human text: prose of books comes to 0.5 to 0.8, shuffled words to 0.02.
    """
    program = shutil.which("link-parser")
    chosen = [
        " ".join(sentence.split())
        for text in texts
        for sentence in prose.sentences(text)
        if _LEAST <= len(sentence.split()) <= _MOST and sentence[0].isalpha()  # others are commands of the program
    ][:_SENTENCES]
    if program is None or not chosen:
        return None
    command = [program, "en", "-batch", "-timeout=2"]
    try:
        done = subprocess.run(
            command, input="\n".join(chosen) + "\n", capture_output=True, text=True, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    # In this mode it names the sentences that it cannot parse, and counts them at the end.
    told = re.search(r"^(\d+) errors?\.", done.stdout + "\n" + done.stderr, re.MULTILINE)
    return 1 - int(told[1]) / len(chosen) if told else None
