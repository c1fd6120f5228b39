"""One line about a resource for people who watch the exchange: what it is, of whom, how urgent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Resource = dict[str, Any]

_URGENT_FLAGS = {"HH", "LL", "AA"}
_ABNORMAL_FLAGS = {"H", "L", "A"}


class Summary(NamedTuple):
    """`level` is routine, abnormal or critical; `patient` is a reference (Patient/id) or ''."""

    title: str
    detail: str
    level: str
    patient: str


def _text(concept: Any) -> str:
    if not isinstance(concept, dict):
        return ""
    if concept.get("text"):
        return str(concept["text"])
    for coding in concept.get("coding", ()):
        if coding.get("display") or coding.get("code"):
            return str(coding.get("display") or coding["code"])
    return ""


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list) and values else {}


def _name(resource: Resource) -> str:
    name = _first(resource.get("name"))
    if not isinstance(name, dict):
        return str(resource.get("name", ""))
    return str(name.get("text") or " ".join([*name.get("given", ()), name.get("family", "")]).strip())


def _date(text: Any) -> str:
    return str(text or "")[:16].replace("T", " ")


def _value(resource: Resource) -> str:
    if quantity := resource.get("valueQuantity"):
        return f"{quantity.get('comparator', '')}{quantity.get('value', '')} {quantity.get('unit', '')}".strip()
    if "valueCodeableConcept" in resource:
        return _text(resource["valueCodeableConcept"])
    for name in ("valueString", "valueInteger", "valueBoolean", "valueDateTime"):
        if name in resource:
            return str(resource[name])
    return " / ".join(_value(component) for component in resource.get("component", ()))


def _observation(resource: Resource) -> tuple[str, str, str]:
    flags = {coding.get("code") for concept in resource.get("interpretation", ()) for coding in concept.get("coding", ())}
    level = "critical" if flags & _URGENT_FLAGS else "abnormal" if flags & _ABNORMAL_FLAGS else "routine"
    shown = sorted(flag for flag in flags if flag and flag in _URGENT_FLAGS | _ABNORMAL_FLAGS)
    return f"{_text(resource.get('code'))} {_value(resource)}", " ".join([*shown, _date(resource.get("effectiveDateTime"))]), level


def _task(resource: Resource) -> tuple[str, str, str]:
    due = resource.get("restriction", {}).get("period", {}).get("end") or resource.get("executionPeriod", {}).get("end")
    level = (
        "critical" if resource.get("priority") in ("stat", "asap") else "abnormal" if resource.get("priority") == "urgent" else "routine"
    )
    title = resource.get("description") or _text(resource.get("code"))
    return str(title), f"{resource.get('status', '')} · {_date(due)}", level


def _care_plan(resource: Resource) -> tuple[str, str, str]:
    period = resource.get("period", {})
    return str(resource.get("title", "")), f"{resource.get('status', '')} · {_date(period.get('start'))} –", "routine"


def _message(resource: Resource) -> tuple[str, str, str]:
    payload = _first(resource.get("payload"))
    medium = " ".join(filter(None, (_text(concept) for concept in resource.get("medium", ()))))
    level = "critical" if resource.get("priority") in ("stat", "asap") else "routine"
    return str(payload.get("contentString", "")), f"{resource.get('status', '')} {medium}".strip(), level


def _flag(resource: Resource) -> tuple[str, str, str]:
    return _text(resource.get("code")), str(resource.get("status", "")), "critical"


def _encounter(resource: Resource) -> tuple[str, str, str]:
    period = resource.get("period", {})
    kind = resource.get("class", {})
    stay = f"{_date(period.get('start'))} – {_date(period.get('end'))}"
    return f"{kind.get('display') or kind.get('code', '')} {resource.get('status', '')}".strip(), stay, "routine"


def _patient(resource: Resource) -> tuple[str, str, str]:
    return _name(resource), f"{resource.get('gender', '')} {resource.get('birthDate', '')}".strip(), "routine"


def _other(resource: Resource) -> tuple[str, str, str]:
    title = _text(resource.get("code")) or resource.get("title") or _name(resource) or resource.get("id", "")
    return str(title), str(resource.get("status", "")), "routine"


_BY_TYPE: dict[str, Callable[[Resource], tuple[str, str, str]]] = {
    "Observation": _observation,
    "Task": _task,
    "CarePlan": _care_plan,
    "Communication": _message,
    "CommunicationRequest": _message,
    "Flag": _flag,
    "Encounter": _encounter,
    "Patient": _patient,
}


def summarise(resource: Resource) -> Summary:
    """The summary of any resource."""
    kind = resource["resourceType"]
    title, detail, level = _BY_TYPE.get(kind, _other)(resource)
    if kind == "Patient":
        patient = f"Patient/{resource['id']}"
    else:
        subject: dict[str, Any] = next(
            (resource[name] for name in ("subject", "patient", "for", "beneficiary") if isinstance(resource.get(name), dict)), {}
        )
        patient = subject.get("reference", "") if subject.get("reference", "").startswith("Patient/") else ""
    return Summary(title, detail, level, patient)
