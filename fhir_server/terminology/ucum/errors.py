"""What is wrong with a unit code or a conversion: the code, the place, the rule, and the code that is probably meant.

Specification: https://ucum.org/ucum (the sections that messages name)
"""

from __future__ import annotations

_SHOWN = 60
"""So many characters of a long code are shown in a message."""


class UcumError(ValueError):
    """A code that is no UCUM, units that cannot be converted into each other, or a value outside a unit's domain.

    `code`: as given; `position`: index of the character at fault (None where the code itself is right);
    `rule`: the rule that it breaks, with its section; `suggestion`: a valid code that is probably meant, or None.
    """

    def __init__(self, code: str, rule: str, position: int | None = None, suggestion: str | None = None) -> None:
        self.code = code
        self.rule = rule
        self.position = position
        self.suggestion = suggestion
        super().__init__(code, rule, position, suggestion)

    def __str__(self) -> str:
        shown = self.code if len(self.code) <= _SHOWN else self.code[: _SHOWN - 1] + "…"
        shown = shown.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair cannot be sent
        place = "" if self.position is None else f", character {self.position + 1}"
        meant = f"; did you mean '{self.suggestion}'?" if self.suggestion else ""
        return f"UCUM code '{shown}'{place}: {self.rule}{meant}"
