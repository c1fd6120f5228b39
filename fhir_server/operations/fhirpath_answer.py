"""Values of a FHIRPath evaluation as parts of a Parameters resource.

Specification: https://github.com/brianpos/fhirpath-lab/blob/develop/server-api.md (result part)
"""

from __future__ import annotations

from typing import Any

from fhir_server.fhirpath import Item
from fhir_server.model import json_codec
from fhir_server.model.definitions import definitions

JSON_VALUE = "http://fhir.forms-lab.com/StructureDefinition/json-value"
_NAMES = {
    "System.Boolean": "boolean",
    "System.String": "string",
    "System.Integer": "integer",
    "System.Long": "decimal",
    "System.Decimal": "decimal",
    "System.Date": "date",
    "System.DateTime": "dateTime",
    "System.Time": "time",
    "System.Quantity": "Quantity",
}


def result_part(context: str | None, items: list[Item], traces: list[tuple[str, list[Item]]]) -> dict[str, Any]:
    """One `result` parameter: each value in a part named by its type, then the traces."""
    result: dict[str, Any] = {"name": "result"}
    if context is not None:
        result["valueString"] = context
    parts = [value_part(item) for item in items]
    for label, shown in traces:
        trace: dict[str, Any] = {"name": "trace", **({"valueString": label} if label else {})}
        if shown:
            trace["part"] = [value_part(item) for item in shown]
        parts.append(trace)
    if parts:
        result["part"] = parts
    return result


def value_part(item: Item) -> dict[str, Any]:
    """One value: as `resource`, as value[x] where Parameters has that type, else as JSON in an extension."""
    name = _NAMES.get(item.type, item.type)
    value = item.value
    if isinstance(value, dict) and isinstance(value.get("resourceType"), str):
        return {"name": name, "resource": value}
    if value == "" and name == "string":
        return {"name": "empty-string"}
    json_name = "value" + name[:1].upper() + name[1:]
    if json_name in definitions().types["Parameters.parameter"].by_json:
        part: dict[str, Any] = {"name": name}
        if value is not None:
            part[json_name] = value
        if item.extra:
            part["_" + json_name] = item.extra
        return part
    text = json_codec.dumps(value).decode()
    return {"name": name, "extension": [{"url": JSON_VALUE, "valueString": text}]}
