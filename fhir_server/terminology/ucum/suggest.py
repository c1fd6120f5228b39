"""The valid code that a wrong one probably means: only for error messages.

Every suggestion is itself read before it is given. The habits that are known are data: `profiles/ucum/misspellings.tsv`.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from functools import lru_cache

from fhir_server.terminology.ucum.errors import UcumError
from fhir_server.terminology.ucum.grammar import check_symbol, read
from fhir_server.terminology.ucum.table import rows, table

MAX_LENGTH = 80
"""Longer codes get no suggestion."""

_POWER_OF_TEN = re.compile(r"[xX]?(?:10(?:[eE]\+?|\*\*|\*\^|\^\^|\+|[*^])|1[eE]\+?)(-?\d{1,3})\Z")
_NUMBERED = re.compile(r"(\d+)([A-Za-z\[].*)\Z")
_NOTE = re.compile(r"\{[^{}]*\}")
_PARTS = re.compile(r"(\{[^{}]*\}|[./()])")
_EXPONENT = re.compile(r"(.*?[^0-9+-])([+-]?\d*)\Z", re.S)
_OPERATORS = str.maketrans({"·": ".", "⋅": ".", "•": ".", "∙": ".", "×": ".", "÷": "/", "⁄": "/", "∕": "/", "−": "-", "–": "-"})
_SPELT = ((re.compile(r"\s+per\s+|\s*/\s*"), "/"), (re.compile(r"\s+"), ""), (re.compile(r"(?<!10)\^(?=-?\d)"), ""))


@lru_cache(maxsize=1)
def _habits() -> dict[str, str]:
    """Longer ones also in lower case; of short ones the case tells units apart (mM is no mm)."""
    found = {row[0]: row[1] for row in rows("misspellings.tsv")}
    return {wrong.lower(): right for wrong, right in found.items() if len(wrong) > 3} | found


@lru_cache(maxsize=1)
def _other_cases() -> dict[str, str]:
    """Atoms in lower case and without brackets to the code; the first of a clash, as the table is ordered by use."""
    found: dict[str, str] = {}
    for code in table().atoms:
        for form in (code.lower(), code.lower().replace("[", "").replace("]", "")):
            found.setdefault(form, code)
    return found


def suggestion(code: str) -> str | None:
    """The valid code that `code` probably means, or None."""
    if not isinstance(code, str) or not code or len(code) > MAX_LENGTH:
        return None
    code = _NOTE.sub(lambda note: "_".join(note[0].split()), code)
    plain = unicodedata.normalize("NFKC", code).replace("μ", "u").translate(_OPERATORS).strip()
    for pattern, replacement in _SPELT:
        plain = pattern.sub(replacement, plain)
    plain = plain.lstrip(".*")  # the sign of multiplication before a power of ten
    for candidate in (_habits().get(code), plain, _habits().get(plain), _habits().get(plain.lower()), _repaired(plain)):
        if candidate and _valid(candidate):
            return candidate
    return None


def _valid(code: str) -> bool:
    try:
        read(code)
    except UcumError:
        return False
    return True


def _repaired(code: str) -> str:
    """The code with each simple unit in it that is wrong replaced by what is near it."""
    parts = _PARTS.split(code)
    for index, part in enumerate(parts):
        if not part or part[0] in "{./()" or part.isdigit() or check_symbol(part):
            continue
        if len(part) > 24:
            return ""
        after_solidus = index > 0 and parts[index - 1] == "/"
        parts[index] = _near(part, after_solidus=after_solidus) or part
    return "".join(parts)


def _near(symbol: str, *, after_solidus: bool) -> str | None:
    """A simple unit, with its exponent, near to a wrong one."""
    if power := _POWER_OF_TEN.match(symbol):
        return f"10*{int(power[1])}"
    if numbered := _NUMBERED.match(symbol):
        unit = numbered[2] if check_symbol(numbered[2]) else _near(numbered[2], after_solidus=False)
        if not unit:
            return None
        return f"({numbered[1]}.{unit})" if after_solidus else f"{numbered[1]}.{unit}"
    split = _EXPONENT.match(symbol)
    stem, exponent = (split[1], split[2]) if split else (symbol, "")
    habits = _habits()
    found = habits.get(symbol) or habits.get(symbol.lower())
    if found:
        return f"({found})" if after_solidus and "/" in found else found
    found = habits.get(stem) or habits.get(stem.lower()) or _other_case(stem) or _close(stem)
    if not found or (exponent and not check_symbol(found + exponent)):
        return None
    return found + exponent


def _other_case(stem: str) -> str | None:
    """The unit when case and brackets are passed over, with a prefix in its own case ('KG', 'mIU', 'mmolL' not)."""
    forms = _other_cases()
    lower = stem.lower().replace("[", "").replace("]", "")
    if lower in forms:
        return forms[lower]
    for prefix in table().prefixes:
        atom = forms.get(lower[len(prefix) :])
        if atom and lower.startswith(prefix.lower()) and check_symbol(prefix + atom):
            exact = stem.startswith(prefix) and not stem.isupper()
            return prefix + atom if exact else _any_case(lower, forms)
    return None


def _any_case(lower: str, forms: dict[str, str]) -> str | None:
    """A prefix in the wrong case too: the small one is the common one (KG is kg, ML is mL)."""
    for prefix in ("da", "k", "m", "u", "n", "p", "f", "d", "c", "h", "M", "G"):
        atom = forms.get(lower[len(prefix) :])
        if atom and lower.startswith(prefix.lower()) and check_symbol(prefix + atom):
            return prefix + atom
    return None


def _close(stem: str) -> str | None:
    """An atom whose spelling differs little."""
    if len(stem) < 5:
        return None
    found = difflib.get_close_matches(stem, table().atoms, n=1, cutoff=0.8)
    return found[0] if found else None
