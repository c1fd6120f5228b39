"""Critical laboratory values: which result is critical, and what is made of it.

A result is critical by the laboratory's own mark (interpretation HH, LL, AA) or by the table of the rule file. Values are compared as
decimals, in the digits that were recorded; a unit that the table does not know is never guessed.
Specification: followup.md sections 9.2 and 13; https://hl7.org/fhir/R4/observation.html
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from subscriptions.followup.compile import activity_url
from subscriptions.followup.derivation import derivation_key, derived
from subscriptions.followup.enrol import Case, message_of
from subscriptions.followup.pathway import Action, Limit, Pathway
from subscriptions.followup.wording import full_name, greeting, render

Resource = dict[str, Any]

FINAL = {"final", "amended", "corrected"}
_LOINC = "http://loinc.org"
_MARKS = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_WORDS = {"HH": "危急高值", "LL": "危急低值", "AA": "危急异常"}


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a result is critical: the laboratory's mark, or a limit of the table; `result` is the line that people read."""

    mark: str
    limit: str
    result: str


def _number(value: Any) -> Decimal | None:
    return value if isinstance(value, Decimal) else Decimal(repr(value)) if isinstance(value, int | float) else None


def _marks(observation: Resource, wanted: frozenset[str]) -> list[str]:
    found = [
        coding["code"]
        for concept in observation.get("interpretation", ())
        for coding in concept.get("coding", ())
        if coding.get("code") in wanted and coding.get("system", _MARKS) == _MARKS
    ]
    return sorted(set(found))


def beyond(quantity: Resource, limit: Limit) -> str:
    """'high' or 'low' where the quantity surely lies on or beyond the limit, else ''. A comparator counts: '>30' is high, '<30' is not."""
    value = _number(quantity.get("value"))
    divisor = limit.units.get(str(quantity.get("code", ""))) or limit.units.get(str(quantity.get("unit", "")).strip())
    if value is None or divisor is None:
        return ""
    value, comparator = value / divisor, quantity.get("comparator", "")
    if limit.high is not None and value >= limit.high and comparator not in ("<", "<="):
        return "high"
    if limit.low is not None and value <= limit.low and comparator not in (">", ">="):
        return "low"
    return ""


def _line(observation: Resource, mark: str, side: str) -> str:
    code = observation.get("code", {})
    name = code.get("text") or next((c.get("display") or c.get("code", "") for c in code.get("coding", ())), "")
    quantity = observation.get("valueQuantity", {})
    value = "".join(str(part) for part in (quantity.get("comparator", ""), quantity.get("value", "")))
    unit = quantity.get("unit") or quantity.get("code") or ""
    text = observation.get("valueString") or " ".join(filter(None, (value, str(unit))))
    concept = observation.get("valueCodeableConcept", {})
    text = text or concept.get("text") or next((c.get("display", "") for c in concept.get("coding", ())), "")
    word = f"{_WORDS[mark]} {mark}" if mark else {"high": "达到危急高限", "low": "达到危急低限"}.get(side, "")
    return " ".join(filter(None, (name, text, f"（{word}）" if word else "")))


def judge(observation: Resource, rule: Pathway) -> Finding | None:
    """Whether a result is critical. Results that are not final are not judged; a value without its unit is not compared."""
    if observation.get("status") not in FINAL:
        return None
    marks = _marks(observation, rule.flags)
    own = {coding.get("code", "") for coding in observation.get("code", {}).get("coding", ()) if coding.get("system") == _LOINC}
    limit = next((limit for limit in rule.limits if limit.codes & own), None)
    side = beyond(observation.get("valueQuantity", {}), limit) if limit else ""
    if not marks and not side:
        return None
    mark = marks[0] if marks else ""
    return Finding(mark, limit.name if limit and side else "", _line(observation, mark, side))


def _judged(observation: Resource) -> Any:
    return observation.get("valueQuantity"), observation.get("valueString"), observation.get("valueCodeableConcept")


def fires(observation: Resource, previous: Resource | None, rule: Pathway) -> Finding | None:
    """The finding of this version, unless the version before had the same one with the same value (an edge rule, section 3)."""
    finding = judge(observation, rule)
    if finding is None or previous is None:
        return finding
    before = judge(previous, rule)
    same = before is not None and (before.mark, before.limit) == (finding.mark, finding.limit) and _judged(previous) == _judged(observation)
    return None if same else finding


@dataclass(slots=True)
class Alert:
    """What a critical value makes: the Flag leads, `doctor` is the Communication for the attending doctor, if there is one."""

    flag: Resource
    others: list[Resource]
    doctor: Resource | None = None


def alert(rule: Pathway, finding: Finding, observation: Resource, version: int, case: Case, owner: Resource | None) -> Alert:
    """All resources of one critical result; each carries its own derivation key for this version of the Observation."""
    trigger = f"Observation/{observation['id']}/_history/{version}"

    def key(action: Action) -> str:
        return derivation_key(f"{rule.id}/{action.id}", rule.version, f"Patient/{case.patient['id']}", trigger)

    words = {
        "greeting": greeting(case.patient, case.now.date()),
        "name": full_name(case.patient),
        "patient": full_name(case.patient) or f"Patient/{case.patient['id']}",
        "result": finding.result,
    }
    focus = {"reference": f"Observation/{observation['id']}", "display": finding.result}
    result = Alert({}, [])
    for action in rule.actions:
        if action.do == "flag":
            result.flag = derived(case.canonical, key(action), _flag(action, case, focus, finding))
        elif action.do == "task":
            result.others.append(derived(case.canonical, key(action), _task(rule, action, case, focus, owner, finding)))
        elif action.do == "message":
            request = message_of(action, case, render(action.text, words), key(action))
            result.others.append({**request, "reasonReference": [{"reference": focus["reference"]}]})
        elif owner is not None:
            note = _communication(action, case, render(action.text, words), owner, focus)
            result.doctor = derived(case.canonical, key(action), note)
    return result


def _flag(action: Action, case: Case, focus: Resource, finding: Finding) -> Resource:
    category = {"system": "http://terminology.hl7.org/CodeSystem/flag-category", "code": "lab", "display": "Laboratory"}
    return {
        "resourceType": "Flag",
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/flag-detail", "valueReference": {"reference": focus["reference"]}}],
        "status": "active",
        "category": [{"coding": [category]}],
        "code": {**case.canonical.concept("flag", action.code, action.title), "text": f"{action.title}：{finding.result}"},
        "subject": case.subject,
        "period": {"start": case.now.isoformat(timespec="seconds")},
        **case.visit,
    }


def _task(rule: Pathway, action: Action, case: Case, focus: Resource, owner: Resource | None, finding: Finding) -> Resource:
    end = case.now + dt.timedelta(hours=action.within or 24)
    return {
        "resourceType": "Task",
        "instantiatesCanonical": f"{activity_url(case.canonical, rule, action)}|{rule.version}",
        "status": "requested",
        "intent": "order",
        "priority": action.priority,
        "code": case.canonical.concept("task", action.code, action.title),
        "description": f"{action.title}：{finding.result}",
        "focus": focus,
        "for": case.subject,
        **case.visit,
        "authoredOn": case.now.isoformat(timespec="seconds"),
        "lastModified": case.now.isoformat(timespec="seconds"),
        **({"owner": owner} if owner else {}),
        "reasonReference": {"reference": focus["reference"]},
        "restriction": {"period": {"start": case.now.isoformat(timespec="seconds"), "end": end.isoformat(timespec="seconds")}},
    }


def _communication(action: Action, case: Case, text: str, owner: Resource, focus: Resource) -> Resource:
    return {
        "resourceType": "Communication",
        "status": "completed",
        "category": [case.canonical.concept("message-category", action.category)],
        "priority": "stat",
        "medium": [case.canonical.concept("channel", "inbox", "站内信")],
        "subject": case.subject,
        "about": [{"reference": focus["reference"]}],
        **case.visit,
        "sent": case.now.isoformat(timespec="seconds"),
        "received": case.now.isoformat(timespec="seconds"),
        "recipient": [owner],
        "payload": [{"contentString": text}],
    }


def prefilter(rule: Pathway) -> re.Pattern[bytes]:
    """Finds in the bytes of a stored Observation a mark or a code of the table; most have none and are not even parsed."""
    words = sorted({*rule.flags, *(code for limit in rule.limits for code in limit.codes)})
    return re.compile(b'"(?:' + b"|".join(re.escape(word.encode()) for word in words) + b')"')
