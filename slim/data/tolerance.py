"""How many bad training lines are too many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slim.errors import InputError

LIMIT = 0.001
"""Share of a training set that may be unreadable or outside the dictionary."""


@dataclass
class Tolerance:
    """Counts the distinct training lines that cannot be used; raises when they are too many.

    Args:
        strict: the first bad line raises.
        limit: share of the data set that may be bad (0.001: two lines of 2,000, none of 900).

    ``unreadable`` and ``outside`` share the limit. Texts too long for the width (``too_long``) and
    empty ones are only counted: they are a choice of the recipe, not a fault of the data.
    """

    strict: bool = False
    limit: float = LIMIT
    total: int = 0
    unreadable: set[int] = field(default_factory=set)
    outside: set[int] = field(default_factory=set)
    too_long: set[int] = field(default_factory=set)
    characters: set[str] = field(default_factory=set)

    def count_unreadable(self, number: int, error: InputError) -> None:
        """Line ``number`` has an image that ``error`` tells about."""
        self.unreadable.add(number)
        self._judge(str(error), error)

    def count_outside(self, number: int, characters: str, where: str) -> None:
        """The text of line ``number`` has ``characters`` that the dictionary lacks."""
        self.outside.add(number)
        self.characters.update(characters)
        self._judge(f"{where}: characters outside the dictionary: {characters[:20]!r}", None)

    def count_too_long(self, number: int) -> None:
        """The text of line ``number`` needs more time steps than the width gives, or is empty."""
        self.too_long.add(number)

    def summary(self) -> dict[str, int]:
        """Counts of distinct lines, for progress lines and reports."""
        return {
            "unreadable": len(self.unreadable),
            "outside_dictionary": len(self.outside),
            "too_long": len(self.too_long),
        }

    def told(self) -> dict[str, list[int]]:
        """Numbers of the bad lines, plain data for `join`."""
        return {name: sorted(getattr(self, name)) for name in ("unreadable", "outside", "too_long")}

    def join(self, told: Mapping[str, Sequence[int]]) -> None:
        """Count the lines that another process met as well; raises as they would have here."""
        before = len(self.unreadable | self.outside)
        for name, numbers in told.items():
            getattr(self, name).update(numbers)
        if len(self.unreadable | self.outside) > before:
            self._judge("met by another process", None)

    def _judge(self, last: str, cause: InputError | None) -> None:
        bad = len(self.unreadable | self.outside)
        if self.strict:
            raise InputError(f"{last} (strict)", remedy="mend or remove the line") from cause
        if bad > self.limit * self.total:
            raise InputError(
                f"{bad} of {self.total} training lines cannot be used, limit {self.limit:.1%};"
                f" {len(self.unreadable)} unreadable, {len(self.outside)} outside the dictionary;"
                f" the last: {last}",
                remedy="mend the label file, or choose its dictionary",
            ) from cause
