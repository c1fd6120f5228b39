"""One answer against its question: type, options, limits.

Specification: https://hl7.org/fhir/R4/questionnaire.html#item, extensions: https://hl7.org/fhir/R4/questionnaire-profiles.html
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.functions.regex import pattern
from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.kinds import kind_of
from fhir_server.model.references import CORE, parse_reference
from fhir_server.validation.profiles.context import Context
from fhir_server.validation.report import shown
from fhir_server.validation.values import compare, listed

SDC = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-"
TYPES: dict[str, tuple[str, ...]] = {
    "boolean": ("boolean",), "decimal": ("decimal", "integer"), "integer": ("integer",), "date": ("date",),
    "dateTime": ("dateTime", "date"), "time": ("time",), "string": ("string",), "text": ("string",), "url": ("uri",), "choice": ("Coding",),
    "open-choice": ("Coding", "string"), "attachment": ("Attachment",), "reference": ("Reference",), "quantity": ("Quantity",),
}  # fmt: skip
"""Types of answers by type of question; options may be of others."""
PLAIN = ("string", "integer", "date", "time", "Coding", "Reference")

Fault = tuple[str, str, str, str]
"""(issue code, English, Chinese, rule)"""


def value_of(answer: Mapping[str, Any]) -> tuple[str, Any] | None:
    """(type, value) of an answer or option."""
    for key, value in answer.items():
        if key.startswith("value"):
            name = key[5:]
            return (name if name in ("Attachment", "Coding", "Quantity", "Reference") else name[:1].lower() + name[1:]), value
    return None


def extension(element: Mapping[str, Any], name: str) -> Any:
    """The value of an extension, named by its url or its name in the core definitions; None where it is not there."""
    for one in listed(element, "extension"):
        if one.get("url") in (name, CORE + name):
            found = value_of(one)
            return found[1] if found else None
    return None


def faults(question: Mapping[str, Any], type: str, value: Any, context: Context, questionnaire: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with the value of an answer."""
    kind = str(question.get("type"))
    due = _due(question, kind)
    if due and type not in due:
        listed_types = " or ".join(due)
        yield (
            "structure", f"the answer must be of the type {listed_types}, not {type}",
            f"答案类型必须是 {listed_types}，而不是 {type}", "answer-type",
        )  # fmt: skip
        return
    yield from _limits(question, type, value)
    if isinstance(value, str) and type == "string":
        yield from _text(question, value)
    if type == "decimal" and (fault := _places(question, value)):
        yield fault
    if type == "Attachment" and isinstance(value, dict):
        yield from _attachment(question, value)
    if type == "Reference" and isinstance(value, dict):
        yield from _reference(question, value, context)
    if type == "uri" and isinstance(value, str) and value.startswith("urn:uuid:") and not _UUID.match(value):
        yield "value", f"{shown(value)} is no UUID in lower case", f"{shown(value)} 不是小写的 UUID", "answer-uuid"
    if kind in ("choice", "open-choice", "string", "integer", "date", "time", "text"):
        yield from _options(question, kind, type, value, context, questionnaire)


_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def _due(question: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    """The types that an answer may have: of a choice with options, those of its options."""
    if kind in ("choice", "open-choice"):
        options = {found[0] for option in listed(question, "answerOption") if (found := value_of(option))}
        if options:
            return (*sorted(options), *(("string",) if kind == "open-choice" and "string" not in options else ()))
    return TYPES.get(kind, ())


def _limits(question: Mapping[str, Any], type: str, value: Any) -> Iterator[Fault]:
    for name, wrong, english, chinese in (
        ("minValue", -1, "less than the lowest", "小于最小值"),
        ("maxValue", 1, "more than the highest", "大于最大值"),
    ):
        limit = extension(question, name)
        if limit is None and type == "Quantity":
            limit = extension(question, SDC + name.replace("Value", "Quantity"))
        if limit is None:
            continue
        relation = compare(value, limit, type)
        if relation == wrong:
            yield (
                "value",
                f"{_plain(value)} is {english} value allowed, {_plain(limit)}",
                f"{_plain(value)} {chinese} {_plain(limit)}",
                f"answer-{name}",
            )
        elif relation is None and type == "Quantity":
            yield (
                "value", f"{_plain(value)} cannot be compared with the limit {_plain(limit)}: both need units of one kind",
                f"{_plain(value)} 无法与界限 {_plain(limit)} 比较：单位不同类", f"answer-{name}",
            )  # fmt: skip


def _text(question: Mapping[str, Any], value: str) -> Iterator[Fault]:
    longest, shortest, form = question.get("maxLength"), extension(question, "minLength"), extension(question, "regex")
    if isinstance(longest, int) and len(value) > longest:
        yield (
            "value",
            f"the answer has {len(value)} characters, at most {longest} are allowed",
            f"答案有 {len(value)} 个字符，最多 {longest} 个",
            "answer-length",
        )
    if isinstance(shortest, int) and len(value) < shortest:
        yield (
            "value",
            f"the answer has {len(value)} characters, at least {shortest} are due",
            f"答案有 {len(value)} 个字符，至少 {shortest} 个",
            "answer-length",
        )
    if isinstance(form, str):
        try:
            fits = pattern(form).fullmatch(value)
        except FhirPathError:
            return  # no regular expression, or one that could run for ever
        if not fits:
            format = extension(question, "entryFormat")
            hint = f" such as {format}" if isinstance(format, str) else ""
            yield (
                "value",
                f"{shown(value)} has not the form that is due{hint} ({form})",
                f"{shown(value)} 格式不符（{form}）",
                "answer-regex",
            )


def _places(question: Mapping[str, Any], value: Any) -> Fault | None:
    most = extension(question, "maxDecimalPlaces")
    if not isinstance(most, int):
        return None
    exponent = Decimal(str(value)).as_tuple().exponent
    places = -exponent if isinstance(exponent, int) and exponent < 0 else 0
    if places <= most:
        return None
    return (
        "value",
        f"{value} has {places} decimal places, at most {most} are allowed",
        f"{value} 有 {places} 位小数，最多 {most} 位",
        "answer-places",
    )


def _attachment(question: Mapping[str, Any], value: Mapping[str, Any]) -> Iterator[Fault]:
    data, stated = value.get("data"), value.get("size")
    size = None
    if isinstance(data, str):
        try:
            size = len(base64.b64decode(data, validate=False))
        except (binascii.Error, ValueError):
            size = None
    if size is not None and isinstance(stated, int) and stated != size:
        yield (
            "value",
            f"the size is stated as {stated} bytes, but there are {size}",
            f"声明大小为 {stated} 字节，实际 {size} 字节",
            "attachment-size",
        )
    most = extension(question, "maxSize")
    have = size if size is not None else stated
    if isinstance(most, int | float | Decimal) and isinstance(have, int) and have > most * 1024 * 1024:
        yield (
            "value",
            f"the attachment has {have} bytes, at most {most} MB are allowed",
            f"附件有 {have} 字节，最多 {most} MB",
            "attachment-max",
        )
    kinds = [found[1] for one in listed(question, "extension") if one.get("url") == CORE + "mimeType" and (found := value_of(one))]
    kind = value.get("contentType")
    if kinds and kind not in kinds:
        allowed = ", ".join(map(str, kinds))
        yield (
            "value",
            f"the content is {shown(kind)}, only {allowed} is allowed",
            f"内容类型 {shown(kind)} 不允许，只允许 {allowed}",
            "attachment-type",
        )


def _reference(question: Mapping[str, Any], value: Mapping[str, Any], context: Context) -> Iterator[Fault]:
    text = value.get("reference")
    if not isinstance(text, str) or text.startswith("#"):
        return
    kind = parse_reference(text).type
    known = context.room.known.resource_types
    if not kind:
        last = re.search(r"/([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}\Z", text)
        if last and last[1] not in known:
            yield (
                "value",
                f"{shown(text)} is no reference: {last[1]} is no resource type",
                f"{shown(text)} 不是有效引用：{last[1]} 不是资源类型",
                "answer-reference",
            )
        return
    if kind not in known:
        yield (
            "value",
            f"{shown(text)} is no reference: {kind} is no resource type",
            f"{shown(text)} 不是有效引用：{kind} 不是资源类型",
            "answer-reference",
        )
        return
    allowed = [
        found[1]
        for one in listed(question, "extension")
        if one.get("url") == CORE + "questionnaire-referenceResource" and (found := value_of(one))
    ]
    if allowed and kind not in allowed:
        names = ", ".join(map(str, allowed))
        yield "value", f"{shown(text)} is a {kind}, only {names} is allowed", f"{shown(text)} 是 {kind}，只允许 {names}", "answer-reference"


def _options(
    question: Mapping[str, Any], kind: str, type: str, value: Any, context: Context, questionnaire: Mapping[str, Any]
) -> Iterator[Fault]:
    options = [found for option in listed(question, "answerOption") if (found := value_of(option))]
    if options:
        if not any(_is_option(value, option[1]) for option in options if option[0] == type) and not (
            kind == "open-choice" and type == "string"
        ):
            names = ", ".join(_plain(option[1]) for option in options[:20])
            yield (
                "code-invalid",
                f"{_plain(value)} is none of the options ({names})",
                f"{_plain(value)} 不在可选项（{names}）中",
                "answer-option",
            )
        return
    value_set = question.get("answerValueSet")
    if not isinstance(value_set, str) or (kind == "open-choice" and type == "string"):
        return
    inside = context.room.in_value_set(value_set, Item(value, kind_of(type)), questionnaire)
    if inside is False:
        yield (
            "code-invalid",
            f"{_plain(value)} is not in the value set of options {value_set}",
            f"{_plain(value)} 不在选项值集 {value_set} 中",
            "answer-option",
        )


def _is_option(value: Any, option: Any) -> bool:
    if isinstance(option, dict) and isinstance(value, dict):
        key = "reference" if "reference" in option else "code"
        return value.get(key) == option.get(key) and value.get("system") == option.get("system")
    return bool(value == option)


def exclusive(question: Mapping[str, Any], value: Any) -> bool:
    """Whether an option allows no other beside it."""
    for option in listed(question, "answerOption"):
        found = value_of(option)
        if found and _is_option(value, found[1]) and extension(option, "questionnaire-optionExclusive") is True:
            return True
    return False


def _plain(value: Any) -> str:
    """A value for people: a coding by its code, a quantity by number and unit."""
    if isinstance(value, dict):
        if "value" in value:
            return f"{value['value']} {value.get('unit') or value.get('code') or ''}".strip()
        if "code" in value:
            return shown(f"{value.get('system', '')}|{value['code']}")
        return shown(value.get("reference", value))
    return shown(value)
