"""Expressions of `_text` and `_content`: words, "phrases", beginnings of words (hyper*), AND, OR, NOT and brackets; words side by side
must all be there.

Specification: https://hl7.org/fhir/R4/search.html#content
"""

from __future__ import annotations

import re

from fhir_server.search.errors import invalid
from fhir_server.search.query import And, Criterion, Not, Or, Phrase, Worded
from fhir_server.search.words import words

MOST = 100
"""Most words, phrases and operators of an expression."""
_TOKEN = re.compile(r'\s*(?:"(?P<phrase>[^"]*)"|(?P<bracket>[()])|(?P<word>[^\s()"]+))')


def text_criterion(name: str, place: str, text: str) -> Criterion:
    """The criterion of an expression over the words of `place`. Raises FhirError 400."""
    return _Expression(name, place, text).whole()


class _Expression:
    def __init__(self, name: str, place: str, text: str) -> None:
        self._name, self._place, self._text = name, place, text
        self._tokens: list[tuple[str, str]] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            found = _TOKEN.match(text, at)
            if found is None:
                raise invalid(name, text, "a phrase has no closing quotation mark", "短语缺少结尾的引号")
            kind = str(found.lastgroup)
            value = found[kind]
            if kind == "word" and value.upper() in ("AND", "OR", "NOT"):
                kind, value = "operator", value.upper()
            self._tokens.append((kind, value))
            at = found.end()
        if len(self._tokens) > MOST:
            raise invalid(name, text, f"has more than {MOST} words and operators", f"词语和运算符超过 {MOST} 个")
        self._at = 0

    def whole(self) -> Criterion:
        found = self._either()
        if self._at < len(self._tokens):
            raise invalid(
                self._name, self._text, f"'{self._tokens[self._at][1]}' is not expected there", f"此处不应出现“{self._tokens[self._at][1]}”"
            )
        return found

    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _either(self) -> Criterion:
        parts = [self._all()]
        while self._next() == ("operator", "OR"):
            self._at += 1
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all(self) -> Criterion:
        parts = [self._one()]
        while True:
            kind, value = self._next()
            if (kind, value) == ("operator", "AND"):
                self._at += 1
            elif kind == "end" or (kind, value) in (("bracket", ")"), ("operator", "OR")):
                break
            parts.append(self._one())
        plain = [part for part in parts if isinstance(part, Worded)]
        rest = [part for part in parts if not isinstance(part, Worded)]
        if plain:
            # One look at the words finds all phrases.
            rest.insert(0, Worded(self._place, tuple(phrase for part in plain for phrase in part.phrases)))
        return rest[0] if len(rest) == 1 else And(tuple(rest))

    def _one(self) -> Criterion:
        kind, value = self._next()
        self._at += 1
        if (kind, value) == ("operator", "NOT"):
            return Not(self._one())
        if (kind, value) == ("bracket", "("):
            found = self._either()
            if self._next() != ("bracket", ")"):
                raise invalid(self._name, self._text, "a bracket is not closed", "括号没有闭合")
            self._at += 1
            return found
        if kind not in ("word", "phrase"):
            raise invalid(
                self._name,
                self._text,
                f"a word is missing {f'before {value}' if value else 'at the end'}",
                f"{f'“{value}”之前' if value else '末尾'}缺少词语",
            )
        is_open = kind == "word" and value.endswith("*")
        found_words = tuple(words(value))
        if not found_words:
            raise invalid(self._name, self._text, f"'{value}' holds no letter and no digit", f"“{value}”不含字母或数字")
        return Worded(self._place, (Phrase(found_words, is_open),))
