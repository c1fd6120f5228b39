"""Regular expressions of FHIRPath, within bounds: no pattern or text may keep the server busy for ever.

Specification: http://hl7.org/fhirpath/N1/#matchesregex-string-boolean (single-line mode, PCRE syntax)
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from fhir_server.fhirpath.errors import FhirPathError

MAX_PATTERN = 1000
"""Longest pattern, in characters."""
OFTEN = 8
"""From so many repetitions on a part is looked at as if it repeated without end."""
MAX_SUBJECT = 1_000_000
"""Longest text that is searched, in characters."""

_parse: Any = re._parser.parse  # type: ignore[attr-defined]
_NAMED = re.compile(r"\(\?<(?![=!])")
_REFERENCE = re.compile(r"\$(?:(\d{1,2})|\{(\w+)\})")


@lru_cache(maxsize=512)
def pattern(text: str) -> re.Pattern[str]:
    """The compiled pattern; raises FhirPathError where it is none, too long, or could take exponential time."""
    if len(text) > MAX_PATTERN:
        raise FhirPathError(f"a regular expression may have {MAX_PATTERN} characters at most, this has {len(text)}")
    own = _NAMED.sub("(?P<", text)
    try:
        if _explodes(_parse(own, re.S), within=False):
            raise FhirPathError(f"'{text[:60]}' repeats what is itself repeated without end; such a pattern can take exponential time")
        return re.compile(own, re.S)
    except (re.error, OverflowError, RecursionError) as fault:
        raise FhirPathError(f"'{text[:60]}' is no regular expression: {fault}") from None


def _explodes(parsed: Any, *, within: bool, repeated: bool = False) -> bool:
    """Whether an often repeated part could match the same text in several ways: (a+)+, (a|aa)*, (\\w+\\s?)*, (a?){30}.

    A repeat inside is harmless when something beside it must match each time (as in `(\\.[a-z]+)*`). `within`: nothing such is
    there; `repeated`: the part stands in an often repeated one.
    """
    for operator, argument in parsed:
        name = str(operator)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, inner = argument
            if within and low != high:
                return True
            often = high >= OFTEN
            if _explodes(inner, within=(often or within) and _loose(inner), repeated=repeated or often):
                return True
        elif name in ("SUBPATTERN", "ATOMIC_GROUP"):
            if _explodes(argument[-1] if name == "SUBPATTERN" else argument, within=within, repeated=repeated):
                return True
        elif name == "BRANCH":
            if repeated and _overlap(argument[1]):
                return True
            if any(_explodes(branch, within=within, repeated=repeated) for branch in argument[1]):
                return True
    return False


def _overlap(branches: Any) -> bool:
    """Whether two alternatives could begin with the same character."""
    seen: set[int] = set()
    for branch in branches:
        first = _first(branch)
        if first is None or not seen.isdisjoint(first):
            return True
        seen |= first
    return False


def _first(parsed: Any) -> set[int] | None:
    """The characters with which a part can begin; None where that is not told easily, or where it can be empty."""
    for operator, argument in parsed:
        name = str(operator)
        if name == "LITERAL":
            return {argument}
        if name == "IN":
            found: set[int] = set()
            for kind, what in argument:
                if str(kind) == "LITERAL":
                    found.add(what)
                elif str(kind) == "RANGE" and what[1] - what[0] < 65536:
                    found.update(range(what[0], what[1] + 1))
                elif str(what) == "CATEGORY_DIGIT":
                    found.update(range(48, 58))
                else:
                    return None
            return found
        if name == "SUBPATTERN":
            return _first(argument[-1])
        if name in ("MAX_REPEAT", "MIN_REPEAT") and argument[0] > 0:
            return _first(argument[2])
        if name != "AT":
            return None
    return None


def _loose(parsed: Any) -> bool:
    """Whether nothing in a sequence has to match each time besides one unbounded repeat."""
    firm = 0
    for operator, argument in parsed:
        name = str(operator)
        if name in ("LITERAL", "NOT_LITERAL", "IN", "ANY") or (name == "SUBPATTERN" and not _loose(argument[-1])):
            firm += 1
    return firm == 0


def subject(text: str) -> str:
    """The text, unless it is too long to be searched."""
    if len(text) > MAX_SUBJECT:
        raise FhirPathError(f"a text of more than {MAX_SUBJECT} characters is not searched by a regular expression")
    return text


def replaced(text: str, expression: str, new: str) -> str:
    """replaceMatches(): $1 and ${name} in `new` are what the groups matched. An empty expression changes nothing."""
    if not expression:
        return text
    found = pattern(expression)

    def one(match: re.Match[str]) -> str:
        def group(reference: re.Match[str]) -> str:
            try:
                return match[int(reference[1]) if reference[1] else reference[2]] or ""
            except IndexError:
                return str(reference[0])

        return _REFERENCE.sub(group, new)

    return found.sub(one, subject(text))
