"""How much of each source a phase takes: "poetry: small dose only" (playbook, section 4.2).

Pure functions.
"""

import math
from collections.abc import Mapping, Sequence

from llm60_jax.config import Dose, Source


def allowed(characters: Sequence[int], shares: Sequence[float | None], caps: Sequence[int | None]) -> list[int]:
    """Return the characters that each source may give, for the largest possible total.

    Args:
      characters: what each source has.
      shares: the largest share of the total that each may have; None for no limit.
      caps: the most characters that each may give; None for no limit.
    """
    available = [have if cap is None else min(have, cap) for have, cap in zip(characters, caps, strict=True)]
    pairs = [(have, 1.0 if share is None else share) for have, share in zip(available, shares, strict=True)]
    total, before = float(sum(available)), math.inf
    # Sources at their share fix the other sources' part of the total. A smaller total can bring
    # more sources to theirs.
    while total < before:
        unlimited = sum(have for have, share in pairs if have <= share * total)
        limited_share = sum(share for have, share in pairs if have > share * total)
        before, total = total, min(total, unlimited / (1 - limited_share)) if limited_share < 1 else total
    return [round(min(have, share * total)) for have, share in pairs]


def left_out(sources: Sequence[Source], lengths: Mapping[str, int], source_numbers: Sequence[int]) -> set[str]:
    """Return the ids of the pieces that exceed the doses of their sources.

    The choice depends on the ids alone. It compares them from their last digit: validation takes
    the smallest ids, and the dose must not favour either end.

    Args:
      lengths: id -> characters, of all pieces.
      source_numbers: the index of each piece's source, in the same order.
    """
    if all(source.dose == Dose() for source in sources):
        return set()
    available = [0] * len(sources)
    for length, source_number in zip(lengths.values(), source_numbers, strict=True):
        available[source_number] += length
    room = allowed(available, [s.dose.share for s in sources], [s.dose.characters for s in sources])
    excess = set()
    for name, source_number in sorted(zip(lengths, source_numbers, strict=True), key=lambda pair: pair[0][::-1]):
        if lengths[name] <= room[source_number]:
            room[source_number] -= lengths[name]
        else:
            excess.add(name)
    return excess
