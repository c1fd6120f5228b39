"""What an operation is given: the parameters of its address (GET) and of a Parameters resource (POST).

Specification: https://hl7.org/fhir/R4/operations.html#executing
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from fhir_server.errors import FhirError
from fhir_server.interactions.content import parsed
from fhir_server.interactions.http import Request
from fhir_server.interactions.query_string import FORMATTING, pairs
from fhir_server.validation import structure


class Input(NamedTuple):
    """One parameter: `value` is text from the address, or the JSON of a value[x] (`kind` its type code, '' from the address)."""

    name: str
    value: Any
    kind: str
    at: str

    @property
    def text(self) -> str:
        """The value as it would stand in an address. Raises FhirError 400 for a complex one."""
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        if isinstance(self.value, dict | list):
            raise self.refused("must be a primitive value", "应为基本类型的值")
        return str(self.value)

    def refused(self, rule: str, zh: str) -> FhirError:
        """400 that names the parameter, its value and the rule; `zh` is the rule in Chinese."""
        shown = str(self.value)[:80]
        return FhirError.of(400, "value", f"{self.name}={shown}: {rule}", self.at, zh=f"参数 {self.name} 的值无效：{shown}（{zh}）")


def _parameter(parameter: dict[str, Any], number: int) -> Input:
    at = f"Parameters.parameter[{number}]"
    name = parameter["name"]
    for key, value in parameter.items():
        if key.startswith("value"):
            return Input(name, value, key[5:], at)
    raise FhirError.of(400, "required", f"The parameter '{str(name)[:80]}' needs a value", at, zh=f"参数 {str(name)[:80]} 缺少值")


def of_address(request: Request) -> list[Input]:
    """The parameters of the address but for those of the format. Raises FhirError 400."""
    found = [Input(name, value, "", name) for name, value in pairs(request.query) if name not in FORMATTING] if request.query else []
    for one in found:
        if not one.value:
            raise one.refused("a parameter needs a value", "参数需要一个值")
    return found


def inputs(request: Request) -> list[Input]:
    """All parameters, those of the address first. Raises FhirError 400, 415."""
    found = of_address(request)
    if request.method == "POST" and (request.body or request.resource is not None):
        content = parsed(request)
        if not isinstance(content, dict) or content.get("resourceType") != "Parameters":
            raise FhirError.of(
                400,
                "invalid",
                "An operation is sent a Parameters resource",
                "Parameters.resourceType",
                zh="操作的请求体应为 Parameters 资源",
            )
        structure.check(content)
        found += [_parameter(parameter, number) for number, parameter in enumerate(content.get("parameter") or ())]
    return found


def known(operation: str, given: Iterable[Input], names: Iterable[str], repeats: Iterable[str] = ()) -> None:
    """Raise FhirError 400 for a parameter that the operation does not have, or that comes twice and must not."""
    names, repeats, seen = tuple(names), tuple(repeats), set()
    for one in given:
        if one.name not in names:
            has = f"it has {', '.join(names)}" if names else "it has none"
            has_zh = f"可用：{'、'.join(names)}" if names else "它没有参数"
            said = f"Parameter '{one.name[:80]}' is not known; ${operation}: {has}"
            raise FhirError.of(400, "not-supported", said, one.at, zh=f"${operation} 不支持参数“{one.name[:80]}”；{has_zh}")
        if one.name in seen and one.name not in repeats:
            raise one.refused(f"${operation} takes this parameter once", f"${operation} 只接受一个此参数")
        seen.add(one.name)
