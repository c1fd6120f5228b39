"""Required bindings: which codes an element must take, and the form of codes whose list nobody can carry along.

Specification: https://hl7.org/fhir/R4/terminologies.html#required
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_server.model.definitions import Definitions
from fhir_server.validation.primitives import Fault
from fhir_server.validation.report import Path, Report, shown

ObjectCheck = Callable[[Any, Path, Report], None]

_VALUE_SET = "http://hl7.org/fhir/ValueSet/"
# RFC 6838: type/subtype of restricted names, then parameters. R4 also lists bare codes of its own formats (https://hl7.org/fhir/R4/http.html#mime-type).
_MIME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}(?:\s*;\s*[^;]+)*\Z|(?:xml|json|ttl|html)\Z"
)
# RFC 5646: language, extended language, script, region, variants, extensions, private use; or private use alone; or grandfathered i- tags.
_LANGUAGE = re.compile(
    r"(?:[A-Za-z]{2,3}(?:-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|[0-9]{3}))?"
    r"(?:-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(?:-[A-WY-Za-wy-z0-9](?:-[A-Za-z0-9]{2,8})+)*(?:-[xX](?:-[A-Za-z0-9]{1,8})+)?\Z"
    r"|[xX](?:-[A-Za-z0-9]{1,8})+\Z|[iI](?:-[A-Za-z0-9]{2,8})+\Z|en-GB-oed\Z|sgn-[A-Z]{2}-[A-Z]{2}\Z"
)
_CURRENCY = re.compile(r"[A-Z]{3}\Z")

_MIME_TEXT = ("must be a media type such as text/plain (BCP 13)", "必须是媒体类型，如 text/plain（BCP 13）")
_CURRENCY_TEXT = ("must be a currency code of three capitals such as CNY (ISO 4217)", "必须是三位大写货币代码，如 CNY")
_LANGUAGE_TEXT = ("must be a language tag such as zh-CN (BCP 47)", "必须是语言标签，如 zh-CN（BCP 47）")

_BCP_47 = "urn:ietf:bcp:47"
ALL_LANGUAGES = _VALUE_SET + "all-languages"

FORMS: dict[str, tuple[re.Pattern[str], tuple[str, str]]] = {
    _VALUE_SET + "mimetypes": (_MIME, _MIME_TEXT),
    _VALUE_SET + "currencies": (_CURRENCY, _CURRENCY_TEXT),
    ALL_LANGUAGES: (_LANGUAGE, _LANGUAGE_TEXT),
    "http://www.rfc-editor.org/bcp/bcp13.txt": (_MIME, _MIME_TEXT),
}
"""Value sets without a list: the form that their codes have."""


class CodeRule(NamedTuple):
    """`codes` are the permitted ones (None: not enumerable), else `form` says what they look like."""

    value_set: str
    codes: frozenset[str] | None
    form: tuple[re.Pattern[str], tuple[str, str]] | None

    def quick(self, value: str) -> Any:
        """Whether a text has the form."""
        return self.form and self.form[0].match(value)


@lru_cache(maxsize=512)
def code_rule(definitions: Definitions, value_set: str) -> CodeRule | None:
    """What the codes of a required value set must satisfy; None where nothing can be said."""
    codes = definitions.codes(value_set)
    form = FORMS.get(value_set.partition("|")[0])
    return CodeRule(value_set, codes, form) if codes is not None or form else None


def form_fault(rule: CodeRule, value: str) -> Fault:
    """Why a code has not the form of its value set."""
    assert rule.form
    return None if rule.form[0].match(value) else rule.form[1]


def report_code(rule: CodeRule, value: str, path: Path, report: Report) -> None:
    """A code that is none of a required value set."""
    assert rule.codes is not None
    listed = ", ".join(sorted(rule.codes)) if len(rule.codes) <= 20 else ""
    known, known_zh = (f"; permitted: {listed}", f"；允许：{listed}") if listed else ("", "")
    report.add(
        "code-invalid",
        path,
        f"{shown(value)} is not a code of the required value set {rule.value_set}{known}",
        f"{shown(value)} 不在必需值集 {rule.value_set} 中{known_zh}",
        rule="binding",
    )


def bound_concept(check: ObjectCheck, codings: frozenset[tuple[str, str]], value_set: str) -> ObjectCheck:
    """The check of a CodeableConcept with a required binding: one of its codings must be in the value set.

    A concept that carries an extension instead of codings says why there is none (data-absent-reason) and passes.
    """

    def bound(value: Any, path: Path, report: Report) -> None:
        check(value, path, report)
        if type(value) is not dict:
            return
        given = value.get("coding")
        if type(given) is list:
            for coding in given:
                if type(coding) is dict and _pair(coding) in codings:
                    return
            if any("extension" in coding and "code" not in coding for coding in given if isinstance(coding, dict)):
                return
        elif not value or ("extension" in value and "text" not in value):
            return
        _report_concept(given, codings, value_set, path, report)

    return bound


def language_concept(check: ObjectCheck) -> ObjectCheck:
    """The check of a CodeableConcept of languages: what says that it is a language tag has the form of one; other systems are free."""

    def language(value: Any, path: Path, report: Report) -> None:
        check(value, path, report)
        given = value.get("coding") if type(value) is dict else None
        for index, coding in enumerate(given if type(given) is list else ()):
            system, code = _pair(coding) if type(coding) is dict else ("", "")
            if system == _BCP_47 and code and not _LANGUAGE.match(code):
                place = ((path, "coding", index), "code", -1)
                report.add(
                    "code-invalid", place, f"{shown(code)} {_LANGUAGE_TEXT[0]}", f"{shown(code)} {_LANGUAGE_TEXT[1]}", rule="binding"
                )

    return language


def _pair(coding: dict[str, Any]) -> tuple[str, str]:
    """System and code of a Coding; what is no string (and reported where it stands) counts as absent."""
    system, code = coding.get("system"), coding.get("code")
    return (system if type(system) is str else "", code if type(code) is str else "")


def _report_concept(given: Any, codings: frozenset[tuple[str, str]], value_set: str, path: Path, report: Report) -> None:
    pairs = [_pair(coding) for coding in given if isinstance(coding, dict)] if isinstance(given, list) else []
    have = ", ".join(shown(f"{system}|{code}") for system, code in pairs[:5]) or "none"
    listed = ", ".join(sorted(f"{system}|{code}" for system, code in codings)) if len(codings) <= 12 else ""
    known, known_zh = (f"; permitted: {listed}", f"；允许：{listed}") if listed else ("", "")
    report.add(
        "code-invalid",
        path,
        f"none of the codings ({have}) is in the required value set {value_set}{known}",
        f"没有任何编码（{have}）属于必需值集 {value_set}{known_zh}",
        rule="binding",
    )
