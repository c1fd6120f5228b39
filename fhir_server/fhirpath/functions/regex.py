"""Regular expressions of FHIRPath, within bounds: no pattern or text may keep the server busy.

RE2 reads a text once, whatever the pattern. What it cannot express (looking ahead or back, references to groups) is left to an engine
that tries, against the clock. Decision: docs/decisions/0022-regular-expressions.md
Specification: http://hl7.org/fhirpath/N1/#matchesregex-string-boolean (single-line mode, PCRE syntax)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import re2
import regex

from fhir_server.fhirpath.errors import FhirPathError

MAX_PATTERN = 1000
"""Longest pattern, in characters."""
MAX_SUBJECT = 1_000_000
"""Longest text that is searched, in characters."""
MOST_STEPS = 200_000_000
"""Size of a pattern's program times length of a text: what RE2 needs at worst."""
AT_ONCE, PER_MINUTE = 0.1, 1.0
"""Seconds that a pattern may try: on one text, and on all of a minute."""

_NAMED = regex.compile(r"\(\?<(?![=!])")
_REFERENCE = regex.compile(r"\$(?:(\d{1,2})|\{(\w+)\})")
_OPTIONS = re2.Options()
_OPTIONS.dot_nl, _OPTIONS.log_errors, _OPTIONS.max_mem = True, False, 1 << 20


class Pattern(Protocol):
    """A pattern that ends. Each method raises FhirPathError where it would take too long."""

    def search(self, text: str) -> bool:
        """Whether the pattern fits some part of the text."""

    def fullmatch(self, text: str) -> bool:
        """Whether it fits the whole text."""

    def replace(self, text: str, one: Callable[[Any], str]) -> str:
        """The text with each match replaced; `one` is given the match, whose groups are had by number and name."""


class _Linear:
    """A pattern of RE2."""

    def __init__(self, compiled: Any) -> None:
        self._compiled, self._size = compiled, compiled.programsize

    def _bounded(self, text: str) -> str:
        if self._size * len(subject(text)) > MOST_STEPS:
            what = f"a text of {len(text)} characters is too long for this regular expression"
            raise FhirPathError(what, f"{len(text)} 个字符的文本对此正则表达式过长")
        return text

    def search(self, text: str) -> bool:
        return self._compiled.search(self._bounded(text)) is not None

    def fullmatch(self, text: str) -> bool:
        return self._compiled.fullmatch(self._bounded(text)) is not None

    def replace(self, text: str, one: Callable[[Any], str]) -> str:
        return str(self._compiled.sub(one, self._bounded(text)))


class _Trying:
    """A pattern that only trying can match, as long as the clock allows."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._since, self._spent = time.monotonic(), 0.0

    def _timed(self, run: Callable[..., Any], *arguments: Any) -> Any:
        now = time.monotonic()
        if now - self._since > 60:
            self._since, self._spent = now, 0.0
        left = PER_MINUTE - self._spent
        try:
            if left <= 0:
                raise TimeoutError
            return run(*arguments, timeout=min(AT_ONCE, left), concurrent=True)
        except TimeoutError:
            said = self._compiled.pattern[:60]
            raise FhirPathError(f"the regular expression '{said}' takes too long", f"正则表达式“{said}”耗时过长") from None
        finally:
            self._spent += time.monotonic() - now

    def search(self, text: str) -> bool:
        return self._timed(self._compiled.search, subject(text)) is not None

    def fullmatch(self, text: str) -> bool:
        return self._timed(self._compiled.fullmatch, subject(text)) is not None

    def replace(self, text: str, one: Callable[[Any], str]) -> str:
        return str(self._timed(self._compiled.sub, one, subject(text)))


@lru_cache(maxsize=512)
def pattern(text: str) -> Pattern:
    """The compiled pattern; raises FhirPathError where it is none or too long."""
    if len(text) > MAX_PATTERN:
        what = f"a regular expression may have {MAX_PATTERN} characters at most, this has {len(text)}"
        raise FhirPathError(what, f"正则表达式最多 {MAX_PATTERN} 个字符，此处有 {len(text)} 个")
    own = _NAMED.sub("(?P<", text)
    try:
        return _Linear(re2.compile(own, _OPTIONS))
    except re2.error:
        pass
    try:
        return _Trying(regex.compile(own, regex.DOTALL))
    except (regex.error, OverflowError, RecursionError, ValueError, MemoryError) as fault:
        raise FhirPathError(f"'{text[:60]}' is no regular expression: {fault}", f"“{text[:60]}”不是正则表达式：{fault}") from None


def subject(text: str) -> str:
    """The text, unless it is too long to be searched."""
    if len(text) > MAX_SUBJECT:
        what = f"a text of more than {MAX_SUBJECT} characters is not searched by a regular expression"
        raise FhirPathError(what, f"正则表达式不搜索超过 {MAX_SUBJECT} 个字符的文本")
    return text


def replaced(text: str, expression: str, new: str) -> str:
    """replaceMatches(): $1 and ${name} in `new` are what the groups matched. An empty expression changes nothing."""
    if not expression:
        return text

    def one(match: Any) -> str:
        def group(reference: Any) -> str:
            try:
                return match[int(reference[1]) if reference[1] else reference[2]] or ""
            except (IndexError, KeyError):
                return str(reference[0])

        return str(_REFERENCE.sub(group, new))

    return pattern(expression).replace(text, one)
