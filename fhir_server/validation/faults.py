"""Faults while they are collected: paths grow only where something is wrong, so valid content costs none.

Specification: https://hl7.org/fhir/R4/operationoutcome.html
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fhir_server.errors import Issue


class Fault(NamedTuple):
    """`path` is relative to the element that was checked ('name[0].family'); `rule` says what must hold, `zh` the same in Chinese."""

    path: str
    code: str
    rule: str
    value: Any = None
    zh: str = ""
    syntax: bool = False
    severity: str = "error"


Faults = list[Fault]
MAX = 100
"""Most issues that one answer holds."""


def under(prefix: str, faults: Faults) -> Faults:
    """The faults of a child as those of its parent."""
    return [
        fault._replace(path=f"{prefix}.{fault.path}" if fault.path and fault.path[0] != "[" else prefix + fault.path) for fault in faults
    ]


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else f"'{value}'"
    return text if len(text) <= 80 else text[:77] + "…"


def issue(root: str, fault: Fault) -> Issue:
    """A fault as an issue with its full FHIRPath expression."""
    expression = f"{root}.{fault.path}" if fault.path and fault.path[0] != "[" else root + fault.path
    value = "" if fault.value is None or isinstance(fault.value, dict | list) else f" (value {_shown(fault.value)})"
    zh = f"{expression}：{fault.zh or '内容不符合规则'}{'' if not value else '，值为 ' + _shown(fault.value)}"
    return Issue(fault.code, f"{expression}: {fault.rule}{value}", (expression,), fault.severity, zh, fault.syntax)
