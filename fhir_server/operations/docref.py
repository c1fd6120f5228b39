"""DocumentReference/$docref: the references to a patient's documents.

Documents are not generated here: the stored references that meet the parameters are answered, newest first; who wants generated ones
alone (on-demand=true) is answered an empty Bundle, as the definition says.
Specification: http://hl7.org/fhir/us/core/OperationDefinition/docref, http://hl7.org/fhir/uv/ipa/OperationDefinition/docref
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from fhir_server.errors import FhirError, Issue, operation_outcome
from fhir_server.interactions.bundles import Link, bundle, outcome_entry, search_entry
from fhir_server.interactions.context import Context
from fhir_server.interactions.criteria import parser_of
from fhir_server.interactions.errors import wants_chinese
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.query_string import encoded
from fhir_server.interactions.registration import Operation
from fhir_server.model import dates
from fhir_server.model.references import ID
from fhir_server.operations.inputs import Input, inputs, known
from fhir_server.operations.observation_groups import all_of
from fhir_server.search.query import And, Criterion, Not, Or, Present, RangeMatch
from fhir_server.search.query import OfType as Typed
from fhir_server.storage.port import Stored

_NAMES = ("patient", "start", "end", "type", "on-demand", "profile")


def _escaped(text: str) -> str:
    """Text as it stands within a search value. https://hl7.org/fhir/R4/search.html#escaping"""
    return re.sub(r"([\\,|$])", r"\\\1", text)


def _type(given: Input) -> str:
    """A document type as a search token: from the address as it is, from a Coding or a CodeableConcept its codes."""
    if not isinstance(given.value, dict):
        return given.text
    codings = given.value.get("coding") if given.kind == "CodeableConcept" else [given.value]
    tokens = []
    for coding in codings or ():
        if not coding.get("code"):
            raise given.refused("a document type needs a code", "文档类型需要 code")
        system = coding.get("system")
        tokens.append(f"{_escaped(system)}|{_escaped(coding['code'])}" if system else _escaped(coding["code"]))
    if not tokens:
        raise given.refused("a document type needs a code", "文档类型需要 code")
    return ",".join(tokens)


def _patient(found: list[Input]) -> str:
    given = next((one for one in found if one.name == "patient"), None)
    if given is None:
        raise FhirError.of(
            400,
            "required",
            "$docref needs the parameter 'patient': the id of a Patient",
            "patient",
            zh="$docref 需要参数“patient”：患者的 id",
        )
    id = given.text.removeprefix("Patient/")
    if not ID.match(id):
        raise given.refused("must be the id of a Patient", "应为患者的 id")
    return id


def _care_dates(context: Context, found: list[Input]) -> Criterion | None:
    """Of a care period within start and end, or of none at all; None where no date is asked. Raises FhirError 400."""
    low: int | None = None
    high: int | None = None
    for one in found:
        if one.name in ("start", "end"):
            try:
                begins, ends = dates.interval(one.text.replace(" ", "+"), context.zone)
            except dates.DateError as fault:
                raise one.refused(str(fault), fault.zh) from None
            low, high = (begins, high) if one.name == "start" else (low, ends)
    if low is None and high is None:
        return None
    if low is not None and high is not None and low > high:
        raise FhirError.of(
            400, "invalid", "start is after end: the range of care dates is empty", "start", zh="start 晚于 end：诊疗日期的范围为空"
        )
    parameter = context.search.get("DocumentReference", "period")
    if parameter is None:
        raise FhirError.of(
            501,
            "not-supported",
            "$docref cannot look for care dates: the search parameter 'period' is switched off",
            "start",
            zh="$docref 无法按诊疗日期查找：检索参数“period”已关闭",
        )
    choices: list[Criterion] = []
    for source in parameter.sources:
        choices.append(Or((Not(Present(source.number)), RangeMatch(source.number, low_max=high, high_min=low))))
    return And((Typed("DocumentReference"), *choices))


def _claims(stored: Stored, profiles: set[str]) -> bool:
    """Whether the reference, or a document's format, names one of the profiles."""
    content: dict[str, Any] = orjson.loads(stored.body)
    claimed = set((content.get("meta") or {}).get("profile") or ())
    for one in content.get("content") or ():
        code = (one.get("format") or {}).get("code")
        if code:
            claimed.add(code)
    return bool(profiles & (claimed | {one.partition("|")[0] for one in claimed}))


async def docref(context: Context, request: Request, type: str, id: str | None) -> Response:
    """A searchset of the DocumentReferences; without start and end those of status 'current'. An unknown patient has none.

    Raises FhirError 400, 415, 503 (took too long).
    """
    found = inputs(request)
    known("docref", found, _NAMES, ("type", "profile"))
    patient = _patient(found)
    extra = _care_dates(context, found)
    asked = [("patient", f"Patient/{patient}"), ("_sort", "-date"), ("_count", "1000")]
    types = [_type(one) for one in found if one.name == "type"]
    if types:
        asked.append(("type", ",".join(types)))
    if extra is None:
        asked.append(("status", "current"))
    on_demand = next((one for one in found if one.name == "on-demand"), None)
    if on_demand is not None and on_demand.text not in ("true", "false"):
        raise on_demand.refused("must be true or false", "应为 true 或 false")
    parsed = parser_of(context, request).search((type,), asked, extra=extra)
    profiles = {one.text for one in found if one.name == "profile"}
    generated = on_demand is not None and on_demand.text == "true"
    answered: list[Stored] = []
    if not generated:
        async for page in all_of(context, request, parsed.query):
            answered += [stored for stored in page if not profiles or _claims(stored, profiles)]
    told = [(one.name, _type(one) if one.name == "type" else one.text) for one in found]
    links = [Link("self", f"{request.base}/{type}/$docref?{encoded(told)}")]
    entries = [search_entry(request.base, stored, stored.body, "match") for stored in answered]
    if generated:
        remark = Issue(
            "informational",
            "on-demand=true asks for generated documents alone, and none are generated here; without it those that exist are answered",
            severity="information",
            zh="on-demand=true 只要求即时生成的文档，而本服务器不生成文档；去掉该参数即可得到已有的文档",
        )
        entries.append(outcome_entry(orjson.dumps(operation_outcome([remark], chinese=wants_chinese(request.headers)))))
    return Response(200, bundle("searchset", entries, links, len(answered), context.clock()))


OPERATION = Operation(
    name="docref",
    handler=docref,
    policy="docref",
    levels=frozenset({"type"}),
    types=("DocumentReference",),
    definition="http://hl7.org/fhir/uv/ipa/OperationDefinition/docref",
    title="A patient's documents",
)
