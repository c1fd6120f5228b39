"""`$validate-code` of CodeSystem and ValueSet: is this a code of the system, or of the set, and is its text right?

Specification: https://hl7.org/fhir/R4/codesystem-operation-validate-code.html, https://hl7.org/fhir/R4/valueset-operation-validate-code.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation
from fhir_server.model import json_codec
from fhir_server.operations.asked import Asked, Coding, missing, of_instance, parameters, terminology
from fhir_server.terminology.code_systems import CodeSystem
from fhir_server.terminology.displays import display, plain, texts
from fhir_server.terminology.room import Terminology
from fhir_server.terminology.value_sets import Content, NotEnumerable

OF_SYSTEM = ("url", "codeSystem", "code", "version", "display", "coding", "codeableConcept", "date", "abstract", "displayLanguage")
OF_SET = (
    "url", "context", "valueSet", "valueSetVersion", "code", "system", "systemVersion", "display", "coding", "codeableConcept", "date",
    "abstract", "displayLanguage",
)  # fmt: skip


async def validate_code(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """200 with `result`, and where it is false or doubtful `message`. Raises FhirError 400, 404, 422."""
    room = await terminology(context)
    work = _of_system if type == "CodeSystem" else _of_set
    return Response(200, json_codec.dumps(await work(context, request, room, id)))


def _answer(result: bool, shown: str, message: str = "") -> dict[str, Any]:
    return parameters(
        {"name": "result", "valueBoolean": result},
        {"name": "message", "valueString": message} if message else None,
        {"name": "display", "valueString": shown} if shown else None,
    )


# --- code systems


async def _of_system(context: Context, request: Request, room: Terminology, id: str | None) -> dict[str, Any]:
    asked = Asked("validate-code", request, OF_SYSTEM)
    given = asked.resource("codeSystem", "CodeSystem")
    if id is not None:
        given = await of_instance(context, request, "CodeSystem", id)
    codings = asked.codings("url")
    url = asked.text("url") or next((system for system, *_ in codings if system), "")
    if given is None and not url:
        raise FhirError.of(400, "required", "$validate-code needs the url of the code system", "url", zh="$validate-code 需要参数 url")
    version = asked.text("version") or ""
    whole = room.of_resource(given) if given is not None else room.code_system(url, version)
    if whole is None:
        raise missing("CodeSystem", f"{url}|{version}" if version else url)
    failures: list[str] = []
    for system, its_version, code, text in codings:
        held = room.code_system(whole.url, its_version) if its_version and given is None and not version else whole
        if held is None:
            why = f"the version {its_version} of {whole.url} is not here"
            failures.append(asked.says(why, f"本机没有 {whole.url} 的 {its_version} 版"))
            continue
        if system and system != held.url:
            failures.append(asked.says(f"the coding is of {system}, not of {held.url}", f"该编码属于 {system}，不属于 {held.url}"))
            continue
        result, shown, message = judged(held, code, text, asked)
        if result:
            return _answer(True, shown, message)
        failures.append(message)
    return _answer(False, "", asked.says("; ", "；").join(failures))


def judged(held: CodeSystem, code: str, text: str | None, asked: Asked) -> tuple[bool, str, str]:
    """(result, text of the concept, message) of a code of a system."""
    concept = held.find(code)
    if concept is None:
        if not held.whole:
            why = f"'{code}' is not among the codes of {held.url} that are here, which are not all of them"
            return False, "", asked.says(why, f"“{code}”不在本机已有的 {held.url} 编码中，而这些编码并不完整")
        return False, "", _unknown(asked, held.url, code)
    shown = display(concept, asked.languages(), held.language)
    if concept.abstract and asked.text("abstract") == "false":
        return False, shown, asked.says(f"'{code}' is only there to group others", f"“{code}”只用于分组")
    if text is not None and any(texts(concept)) and plain(text) not in map(plain, texts(concept)):
        listed = ", ".join(f"'{one}'" for one in list(texts(concept))[:5])
        why = asked.says(
            f"'{text}' is no text of '{code}'; {held.url} has {listed}", f"“{text}”不是“{code}”的名称；{held.url} 中为 {listed}"
        )
        return False, shown, why
    return True, shown, asked.says(f"'{code}' is not used any more", f"“{code}”已停用") if concept.inactive else ""


def _unknown(asked: Asked, system: str, code: str) -> str:
    return asked.says(f"'{code}' is no code of {system}", f"“{code}”不是 {system} 的编码")


# --- value sets


async def _of_set(context: Context, request: Request, room: Terminology, id: str | None) -> dict[str, Any]:
    asked = Asked("validate-code", request, OF_SET)
    name, content, _ = await content_asked(context, request, room, asked, id)
    failures: list[str] = []
    for coding in asked.codings():
        result, shown, message = _in_set(room, name, content, coding, asked)
        if result:
            return _answer(True, shown, message)
        failures.append(message)
    return _answer(False, "", asked.says("; ", "；").join(failures))


async def content_asked(
    context: Context, request: Request, room: Terminology, asked: Asked, id: str | None
) -> tuple[str, Content, dict[str, Any] | None]:
    """Name and content of the value set that is asked about; its resource where the address or a parameter gives that.

    Raises FhirError 400, 404, 422 (its content cannot be told).
    """
    given = await of_instance(context, request, "ValueSet", id) if id is not None else asked.resource("valueSet", "ValueSet")
    canonical = asked.text("url")
    if given is None and not canonical:
        raise FhirError.of(
            400, "required", "Which value set? url, valueSet, or the address names it", "url", zh="需要用 url、valueSet 或地址指明值集"
        )
    if canonical and (version := asked.text("valueSetVersion")):
        canonical = f"{canonical}|{version}"
    try:
        content = room.content(given) if given is not None else room.value_set(str(canonical))
    except NotEnumerable as fault:
        name = str(canonical or (given or {}).get("url") or "that is sent")
        raise FhirError.of(
            422, "not-supported", f"The value set {name} cannot be worked out: {fault}", zh=f"无法计算值集 {name}：{fault.zh}"
        ) from None
    if content is None:
        raise missing("ValueSet", str(canonical))
    return str((given or {}).get("url") or canonical or "that is sent"), content, given


def _in_set(room: Terminology, name: str, content: Content, coding: Coding, asked: Asked) -> tuple[bool, str, str]:
    system, version, code, text = coding
    if not system:
        systems = [its for its, one in content.codes if one == code]
        if not systems:
            return False, "", asked.says(f"'{code}' is not in {name}", f"“{code}”不在 {name} 中")
        if len(set(systems)) > 1 and asked.text("system") is None:
            listed = ", ".join(systems[:5])
            why = f"'{code}' is in {name} more than once ({listed}): name its system"
            return False, "", asked.says(why, f"“{code}”在 {name} 中不止一个（{listed}），请指明 system")
        system = systems[0]
    if not content.has(system, code):
        written = room.normal(system, code)
        if not content.has(system, written):
            return False, "", asked.says(f"'{code}' of {system} is not in {name}", f"{system} 的“{code}”不在 {name} 中")
        code = written
    named = content.codes.get((system, code))
    own = named.display if named else ""
    version = version or (named.version if named else content.versions.get(system, ""))
    held = room.code_system(system, version)
    if held is None and version and room.code_system(system) is not None:
        why = f"the version {version} of {system} is not here, so that the code cannot be looked up in it"
        return False, "", asked.says(why, f"本机没有 {system} 的 {version} 版，无法查找该编码")
    if held is None and system in content.systems and named is None:
        why = f"the code system {system} is not here, so that '{code}' cannot be looked up"
        return False, "", asked.says(why, f"本机没有代码系统 {system}，无法查找“{code}”")
    if held is not None and held.find(code) is None and named is None:
        return judged(held, code, None, asked)
    concept = held.find(code) if held is not None else None
    told = {plain(one) for one in (own, *(str(row.get("value", "")) for row in (named.designations if named else ()))) if one}
    if held is None or concept is None or not any(texts(concept)):
        if text is not None and told and plain(text) not in told:
            why = f"'{text}' is no text of '{code}'; {name} has '{own}'"
            return False, own, asked.says(why, f"“{text}”不是“{code}”的名称；{name} 中为“{own}”")
        return True, own, ""
    if text is not None and plain(text) in told:
        text = None
    result, shown, message = judged(held, code, text, asked)
    return result, own if own and not asked.languages() else shown or own, message


OPERATION = Operation(
    "validate-code",
    validate_code,
    "validate-code",
    frozenset({"type", "instance"}),
    types=("CodeSystem", "ValueSet"),
    definition="http://hl7.org/fhir/OperationDefinition/{type}-validate-code",
    title="Is this a code of the system, or of the set?",
)
