"""Writing as people have it: posts, mails, notes and books of every kind, made up, with the truth.

`write` puts a folder of files for each kind on disk and returns what their author wrote in them.
`truth.measure` compares that with what comes out of the cleaning.
"""

from collections.abc import Sequence
from pathlib import Path

from writing import mails, markdown, markup, office, pages, pdfs, texts
from writing.author import Author
from writing.texts import Maker
from writing.truth import Sample

KINDS: dict[str, Maker] = {
    **texts.KINDS,
    **markdown.KINDS,
    **markup.KINDS,
    **mails.KINDS,
    **pages.KINDS,
    **office.KINDS,
    **pdfs.KINDS,
}


def write(folder: Path, documents: int, seed: int = 0, kinds: Sequence[str] = ()) -> dict[str, Sample]:
    """Write the files of each kind into a folder of its own; the same seed gives the same bytes.

    Args:
      documents: of each kind; a journal has 12 times as many.
      kinds: which kinds; none means all.
    """
    samples = {}
    for kind in kinds or KINDS:
        samples[kind] = KINDS[kind](Author(f"{seed} {kind}"), documents)
        for name, data in samples[kind].files.items():
            path = folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return samples
