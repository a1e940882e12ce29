"""The facts of two folders -> what one of them lost, doubled, or has otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tests.faults.facts import Facts, Place


@dataclass(frozen=True)
class Difference:
    """What a sweep left, against what it should have left: for each, sentences that name the place.

    Attributes:
        lost: there should be more.
        doubled: there should be fewer, or none.
        differing: the number is right, and a value is not.
    """

    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether anything is not as it should be."""
        return bool(self.lost or self.doubled or self.differing)


def compare(expected: Facts, found: Facts) -> Difference:
    """Compare facts place by place; order within a place does not count, number and value do."""
    lost, doubled, differing = [], [], []
    for place in sorted(expected.keys() | found.keys()):
        wanted, there = Counter(expected.get(place, ())), Counter(found.get(place, ()))
        missing, odd = (wanted - there).total(), (there - wanted).total()
        if changed := min(missing, odd):
            differing += [_sentence(place, wanted, there)] * changed
        lost += [_sentence(place, wanted, there)] * (missing - changed)
        doubled += [_sentence(place, wanted, there)] * (odd - changed)
    return Difference(tuple(lost), tuple(doubled), tuple(differing))


def _sentence(place: Place, wanted: Mapping[str, int], there: Mapping[str, int]) -> str:
    return f"{' / '.join(filter(None, place))}: {_values(there)} instead of {_values(wanted)}"


def _values(counts: Mapping[str, int]) -> str:
    words = [f"{number} x {value[:60]}" if number > 1 else value[:60] for value, number in counts.items()]
    return ", ".join(words) or "nothing"
