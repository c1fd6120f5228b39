"""What a terminology operation is asked: parameters of the address or of a Parameters resource, among them whole resources and codings.

Specification: https://hl7.org/fhir/R4/operations.html#executing, https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.content import parsed
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request
from fhir_server.interactions.validating import Validating
from fhir_server.model import json_codec
from fhir_server.operations.inputs import of_address
from fhir_server.terminology.code_systems import CodeSystem
from fhir_server.terminology.displays import wanted
from fhir_server.terminology.room import Terminology
from fhir_server.validation import structure

Coding = tuple[str, str, str, str | None]
"""system, version, code, display"""


class Asked:
    """The parameters of one request, by name."""

    def __init__(self, operation: str, request: Request, names: Iterable[str], repeats: Iterable[str] = ()) -> None:
        """Raises FhirError 400 for a parameter that the operation does not have, that lacks a value, or comes twice and must not."""
        self._operation = operation
        self._values: dict[str, list[Any]] = {}
        self._language = request.headers.get("accept-language", "")
        allowed, many = set(names), set(repeats)
        for name, value, at in _given(request):
            if name not in allowed:
                listed = ", ".join(sorted(allowed))
                said = f"Parameter '{name[:80]}' is not known; ${operation} has {listed}"
                raise FhirError.of(400, "not-supported", said, at, zh=f"${operation} 不支持参数“{name[:80]}”")
            if name in self._values and name not in many:
                raise FhirError.of(400, "value", f"{name}: ${operation} takes this parameter once", at, zh=f"参数 {name} 只能出现一次")
            self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str | None:
        """A primitive parameter as text. Raises FhirError 400 for a complex one."""
        values = self._values.get(name)
        if not values:
            return None
        return self._plain(name, values[0])

    def texts(self, name: str) -> list[str]:
        return [self._plain(name, value) for value in self._values.get(name, ())]

    def words(self, name: str) -> list[str]:
        """The words of all values of a name, which may be several in one with commas between them; each once."""
        return list(dict.fromkeys(word.strip() for text in self.texts(name) for word in text.split(",") if word.strip()))

    def _plain(self, name: str, value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, dict | list):
            raise FhirError.of(400, "value", f"{name} must be a primitive value", name, zh=f"参数 {name} 必须是简单值")
        return str(value)

    def resource(self, name: str, type: str) -> dict[str, Any] | None:
        """A resource of a type. Raises FhirError 400 for another one."""
        found = self.object(name)
        if found is not None and found.get("resourceType") != type:
            what = f"{name} must be a {type}, not a {found.get('resourceType')}"
            raise FhirError.of(400, "invalid", what, name, zh=f"参数 {name} 必须是 {type}")
        return found

    def flag(self, name: str) -> bool:
        """A boolean. Raises FhirError 400 for anything else."""
        said = self.text(name)
        if said not in (None, "true", "false"):
            raise FhirError.of(400, "value", f"{name}={str(said)[:80]} must be true or false", name, zh=f"参数 {name} 必须是 true 或 false")
        return said == "true"

    def number(self, name: str) -> int | None:
        """A whole number from 0 on. Raises FhirError 400 for anything else."""
        said = self.text(name)
        if said is None:
            return None
        if not said.isascii() or not said.isdigit() or len(said) > 9:
            raise FhirError.of(400, "value", f"{name}={said[:80]} must be a whole number from 0 on", name, zh=f"参数 {name} 必须是非负整数")
        return int(said)

    def object(self, name: str) -> dict[str, Any] | None:
        """A complex value or resource. Raises FhirError 400 for a primitive."""
        values = self._values.get(name)
        if not values:
            return None
        if not isinstance(values[0], dict):
            raise FhirError.of(
                400, "value", f"{name} must be sent in a Parameters resource", name, zh=f"参数 {name} 必须放在 Parameters 中发送"
            )
        found: dict[str, Any] = values[0]
        return found

    def parts(self, name: str) -> list[list[dict[str, Any]]]:
        """The parts of each parameter of a name. Raises FhirError 400 for one without parts."""
        values = self._values.get(name, [])
        if not all(isinstance(value, list) and all(isinstance(part, dict) for part in value) for value in values):
            raise FhirError.of(400, "value", f"{name} must be sent with parts", name, zh=f"参数 {name} 必须以 part 发送")
        return values

    def languages(self) -> list[str]:
        """What `displayLanguage`, else the request's header, asks for; liked best first."""
        return wanted(self.text("displayLanguage") or self._language)

    def says(self, english: str, chinese: str) -> str:
        """A text for people, in Chinese where that is liked best."""
        return chinese if next(iter(self.languages()), "").lower().startswith("zh") else english

    def codings(self, system: str = "system") -> list[Coding]:
        """What is asked about: `code` with its system, `coding`, or those of `codeableConcept`. Raises FhirError 400 for none."""
        code = self.text("code")
        if code is not None:
            version = self.text("systemVersion") or (self.text("version") if system != "system" else "") or ""
            return [(self.text(system) or "", version, code, self.text("display"))]
        coding, concept = self.object("coding"), self.object("codeableConcept")
        rows = [coding] if coding is not None else (concept or {}).get("coding") or []
        found = [_coding(row) for row in rows if isinstance(row, dict)]
        if not found:
            what = f"${self._operation} needs a code with its system, a coding, or a codeableConcept"
            raise FhirError.of(400, "required", what, zh=f"${self._operation} 需要 code 与 system、coding 或 codeableConcept")
        return found


def _coding(row: dict[str, Any]) -> Coding:
    display = row.get("display")
    return str(row.get("system", "")), str(row.get("version", "")), str(row.get("code", "")), str(display) if display is not None else None


def _given(request: Request) -> Iterable[tuple[str, Any, str]]:
    """(name, value, where it stands) of all parameters."""
    for one in of_address(request):
        yield one.name, one.value, one.at
    if request.method != "POST" or not (request.body or request.resource is not None):
        return
    content = parsed(request)
    if not isinstance(content, dict) or content.get("resourceType") != "Parameters":
        raise FhirError.of(
            400, "invalid", "An operation is sent a Parameters resource", "Parameters.resourceType", zh="操作需要 Parameters 资源"
        )
    structure.check(content)
    for number, row in enumerate(content.get("parameter") or ()):
        at = f"Parameters.parameter[{number}]"
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise FhirError.of(400, "required", f"{at} has no name", at, zh=f"{at} 缺少 name")
        value = row.get("resource", row.get("part"))
        value = next((inner for key, inner in row.items() if key.startswith("value")), value)
        if value is None:
            raise FhirError.of(
                400, "required", f"The parameter '{row['name'][:80]}' needs a value", at, zh=f"参数 {row['name'][:80]} 缺少值"
            )
        yield row["name"], value, at


async def terminology(context: Context) -> Terminology:
    """The code systems, value sets and maps that are here now."""
    validating: Validating = context.parts["validating"]
    await validating.fresh()
    return validating.room.terminology


async def of_instance(context: Context, request: Request, type: str, id: str) -> dict[str, Any]:
    """The resource that the address names. Raises FhirError 404, 410."""
    stored = await context.gate.read(request.principal, type, id)
    if stored is None:
        raise FhirError.of(404, "not-found", f"{type}/{id} is not known", zh=f"没有 {type}/{id}")
    if stored.deleted:
        raise FhirError.of(410, "deleted", f"{type}/{id} was deleted", zh=f"{type}/{id} 已删除")
    resource: dict[str, Any] = json_codec.loads(stored.body)
    return resource


async def system_asked(context: Context, request: Request, room: Terminology, id: str | None, url: str, version: str) -> CodeSystem | None:
    """The code system of the address, else the one that is named; None where that is not here. Raises FhirError 404, 410."""
    if id is not None:
        return room.of_resource(await of_instance(context, request, "CodeSystem", id))
    return room.code_system(url, version)


def of_another(what: str, said: str, held: CodeSystem) -> FhirError:
    """400 for codes of another system than that of the address."""
    english = f"{what} of {said}, but the address names {held.url}"
    return FhirError.of(400, "invalid", english, "system", zh=f"编码属于 {said}，但地址中是 {held.url}")


def missing(kind: str, canonical: str) -> FhirError:
    """404 for a system, set or map that is not here."""
    names = {"CodeSystem": "代码系统", "ValueSet": "值集", "ConceptMap": "概念映射"}
    return FhirError.of(404, "not-found", f"The {kind} {canonical} is not here", zh=f"没有{names[kind]} {canonical}")


def parameters(*rows: dict[str, Any] | None) -> dict[str, Any]:
    """A Parameters resource of the rows that are there."""
    return {"resourceType": "Parameters", "parameter": [row for row in rows if row is not None]}
