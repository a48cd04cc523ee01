"""The nearest known name to one that is not known: 'did you mean', or silence.

A suggestion has to look like the mistake: at most one slip (a letter too many, too few, wrong, or
two swapped) in three, and half a name typed is taken for its beginning. Otherwise nothing is
suggested; an absurd suggestion is worse than none.
"""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name in ``known`` that ``name`` was probably meant to be, None for none."""
    wanted = _plain(name)
    best: tuple[int, int, bool, str] | None = None
    for candidate in known:
        likely = _plain(candidate)
        if likely == wanted:
            if candidate != name:
                return candidate
            continue
        cutoff = _cutoff(wanted, likely)
        if best is not None:
            cutoff = min(cutoff, best[0])
        if abs(len(likely) - len(wanted)) > cutoff and not _begun(wanted, likely):
            continue
        distance = damerau(wanted, likely, cutoff)
        if distance is None and _begun(wanted, likely):
            distance = _cutoff(likely, likely)
        if distance is None:
            continue
        rank = (distance, abs(len(likely) - len(wanted)), _unlike(name, candidate), candidate)
        if best is None or rank < best:
            best = rank
    return best[-1] if best else None


def suggestion(name: str, known: Iterable[str]) -> str | None:
    """``did you mean 'x'?`` for a hint, None where nothing is near."""
    found = nearest(name, known)
    return f"did you mean '{found}'?" if found else None


def _unlike(name: str, candidate: str) -> bool:
    """Whether a human command was typed and a request found, or the other way round."""
    return "_" in name and "_" not in candidate


def _plain(name: str) -> str:
    # block_stream and block-stream are the same slip of memory.
    return name.lower().replace("_", "-")


def _cutoff(wanted: str, likely: str) -> int:
    return max(len(wanted), len(likely)) // 3 if min(len(wanted), len(likely)) > 1 else 0


def _begun(wanted: str, likely: str) -> bool:
    return len(wanted) >= 3 and likely.startswith(wanted) and 2 * len(wanted) >= len(likely)


def damerau(one: str, other: str, most: int) -> int | None:
    """Slips between two texts (optimal string alignment); None for more than ``most``."""
    if abs(len(one) - len(other)) > most:
        return None
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        older, before = before, row
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        if min(row) > most and (not before or min(before) > most):
            return None
    return row[-1] if row[-1] <= most else None
