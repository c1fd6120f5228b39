"""Observation/$stats: statistics of measurements of one subject, by code.

Valid measurements are Quantities with a UCUM code and no comparator, of Observations that are neither entered in error nor changed in
meaning by a modifier extension; other units of the same kind are converted into that of the newest value. A panel's code stands for the
components and members of the panel, each a group of its own.
Specification: https://hl7.org/fhir/R4/observation-operation-stats.html
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.criteria import parser_of
from fhir_server.interactions.headers import instant
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation
from fhir_server.model import dates, json_codec
from fhir_server.model.references import parse_reference
from fhir_server.operations import statistics
from fhir_server.operations.inputs import Input, inputs, known
from fhir_server.operations.observation_groups import NEVER, all_of, code_keys, effective
from fhir_server.search.parser import MAX_COUNT
from fhir_server.search.query import And, Criterion, Query, RangeMatch
from fhir_server.terminology.ucum import UcumError, convert

_NAMES = ("subject", "code", "system", "coding", "duration", "period", "statistic", "include", "limit")
_REPEATS = ("code", "coding", "statistic")
_SYSTEM = "http://terminology.hl7.org/CodeSystem/observation-statistics"
_ABSENT = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "not-a-number"}]}
_UCUM = "http://unitsofmeasure.org"
_SHORT = {"max": "maximum", "min": "minimum"}
"""R4's text of the parameter lists these forms; the code system has the long ones."""
_HOUR = 3_600_000


@dataclass(slots=True)
class _Asked:
    """The question; `low` and `high` in milliseconds since 1970, None = open."""

    subject: str
    codings: list[tuple[str | None, str]] = field(default_factory=list)
    statistics: list[str] = field(default_factory=list)
    low: int | None = None
    high: int | None = None
    include: bool = False
    limit: int | None = None


@dataclass(slots=True)
class _Group:
    """The measurements of one code: `values` as (start in milliseconds, value in `unit`), `total` with the invalid ones."""

    code: dict[str, Any]
    own: bool
    unit: dict[str, Any] | None = None
    values: list[tuple[int, Fraction]] = field(default_factory=list)
    total: int = 0
    counted: set[Hashable] = field(default_factory=set)

    def add(self, place: Hashable, time: int, holder: dict[str, Any]) -> None:
        """Count the value of an Observation or component, once."""
        if place in self.counted or not any(name.startswith(("value", "dataAbsent")) for name in holder):
            return
        self.counted.add(place)
        self.total += 1
        quantity = holder.get("valueQuantity")
        if not isinstance(quantity, dict) or quantity.get("system") != _UCUM or "code" not in quantity:
            return
        if "value" not in quantity or "comparator" in quantity:
            return
        if self.unit is None:
            self.unit = {name: quantity[name] for name in ("unit", "system", "code") if name in quantity}
        value = Decimal(str(quantity["value"]))
        if quantity["code"] != self.unit["code"]:
            try:
                value = convert(value, quantity["code"], self.unit["code"])
            except UcumError:
                return
        self.values.append((time, Fraction(value)))


def _whole(given: Input) -> int:
    text = given.text
    if not (text.isascii() and text.isdigit() and int(text[:12]) > 0):
        raise given.refused("must be a whole number from 1 on", "应为从 1 开始的整数")
    return int(text[:12])


def _coding(given: Input) -> tuple[str | None, str]:
    """A Coding, or `system|code` in an address."""
    if isinstance(given.value, dict):
        if not given.value.get("code"):
            raise given.refused("a Coding needs a code", "Coding 需要 code")
        return given.value.get("system"), given.value["code"]
    system, bar, code = given.text.rpartition("|")
    if not bar or not code:
        raise given.refused("has the form system|code", "格式应为 system|code")
    return system, code


def _span(context: Context, given: dict[str, Input]) -> tuple[int | None, int | None]:
    """The time of interest. Raises FhirError 400."""
    duration, period = given.get("duration"), given.get("period")
    if duration is not None and period is not None:
        raise period.refused("either duration or period is given, not both", "duration 和 period 只能给出其中之一")
    if duration is not None:
        try:
            hours = Decimal(duration.text)
        except ArithmeticError:
            raise duration.refused("must be a decimal number of hours", "应为十进制的小时数") from None
        if not hours.is_finite() or not 0 < hours < 10_000_000:
            raise duration.refused("must be a number of hours above 0", "应为大于 0 的小时数")
        now = context.clock()
        return now - int(hours * _HOUR), now
    if period is None:
        return None, None
    if period.kind != "Period":
        raise period.refused("must be a valuePeriod of a Parameters resource", "应为 Parameters 资源中的 valuePeriod")
    low, high = dates.period_interval(period.value, context.zone)
    if low > high:
        raise period.refused("begins after it ends", "起始晚于结束")
    return (None if low == dates.MIN_INSTANT else low), (None if high == dates.MAX_INSTANT else high)


def _asked(context: Context, request: Request) -> _Asked:
    """The question. Raises FhirError 400."""
    found = inputs(request)
    known("stats", found, _NAMES, _REPEATS)
    given = {one.name: one for one in found}
    for name in ("subject", "statistic"):
        if name not in given:
            raise FhirError.of(400, "required", f"$stats needs the parameter '{name}'", zh=f"$stats 需要参数“{name}”")
    asked = _Asked(given["subject"].text)
    reference = parse_reference(asked.subject)
    if reference.form not in ("relative", "absolute") or reference.type not in context.types:
        raise given["subject"].refused("must be a reference such as Patient/123", "应为引用，例如 Patient/123")
    system = given["system"].text if "system" in given else None
    for one in found:
        if one.name == "code":
            asked.codings.append((system, one.text))
        elif one.name == "coding":
            asked.codings.append(_coding(one))
        elif one.name == "statistic":
            for code in one.text.split(","):
                name = _SHORT.get(code, code)
                if name not in statistics.CODES:
                    raise one.refused(f"must be one of {', '.join(statistics.CODES)}", f"应为 {'、'.join(statistics.CODES)} 之一")
                asked.statistics.append(name)
    if not asked.codings:
        raise FhirError.of(
            400,
            "required",
            "$stats needs the parameter 'code' (with 'system') or 'coding'",
            zh="$stats 需要参数“code”（连同“system”）或“coding”",
        )
    asked.statistics = list(dict.fromkeys(asked.statistics))
    asked.low, asked.high = _span(context, given)
    if "include" in given:
        if given["include"].text not in ("true", "false"):
            raise given["include"].refused("must be true or false", "应为 true 或 false")
        asked.include = given["include"].text == "true"
    if asked.include and "limit" in given:  # without include it "SHALL be ignored by the server"
        asked.limit = _whole(given["limit"])
    return asked


def _escaped(text: str) -> str:
    for mark in "\\,|$":
        text = text.replace(mark, "\\" + mark)
    return text


def _query(context: Context, request: Request, asked: _Asked) -> Query:
    codes = ",".join(f"{_escaped(system)}|{_escaped(code)}" if system else _escaped(code) for system, code in asked.codings)
    query = parser_of(context, request).search(("Observation",), [("subject", _escaped(asked.subject)), ("combo-code", codes)]).query
    where: list[Criterion] = [query.where]
    if asked.low is not None or asked.high is not None:
        where.append(RangeMatch(context.search.clinical["Observation"], low_max=asked.high, high_min=asked.low))
    return Query(("Observation",), And(tuple(where)), limit=MAX_COUNT)


def _is(concept: dict[str, Any], asked: tuple[str | None, str]) -> bool:
    system, code = asked
    return any(one.get("code") == code and system in (None, one.get("system")) for one in concept.get("coding") or ())


class _Gathering:
    """Sorts the measurements of Observations into groups, newest first."""

    def __init__(self, context: Context, asked: _Asked) -> None:
        self._zone, self._asked = context.zone, asked
        self._groups: dict[Hashable, _Group] = {}
        for system, code in asked.codings:
            coding = {"system": system, "code": code} if system else {"code": code}
            self._groups[(system, code)] = _Group({"coding": [coding]}, own=True)
        self.panels: list[dict[str, Any]] = []

    def _group(self, code: dict[str, Any]) -> _Group:
        """The group of a measurement within a panel: one that is asked for, or one of its own."""
        for coding in self._asked.codings:
            if _is(code, coding):
                return self._groups[coding]
        return self._groups.setdefault(code_keys(code), _Group(code, own=False))

    def valid(self, observation: dict[str, Any]) -> bool:
        """Whether its values count at all, and lie in the time of interest."""
        if observation.get("status") == "entered-in-error" or observation.get("modifierExtension"):
            return False
        span = effective(observation, self._zone)
        low, high = self._asked.low, self._asked.high
        if low is None and high is None:
            return True
        return span != NEVER and (high is None or span[0] <= high) and (low is None or span[1] >= low)

    def add(self, observation: dict[str, Any]) -> bool:
        """Take the values that are asked for; whether there were any."""
        if not self.valid(observation):
            return False
        time, id = effective(observation, self._zone)[0], observation["id"]
        code = observation.get("code") or {}
        panel = False
        for coding in self._asked.codings:
            if _is(code, coding):
                self._groups[coding].add(id, time, observation)
                panel = True
        for number, component in enumerate(observation.get("component") or ()):
            if panel or any(_is(component.get("code") or {}, coding) for coding in self._asked.codings):
                self._group(component.get("code") or {}).add((id, number), time, component)
        if panel and observation.get("hasMember"):
            self.panels.append(observation)
        return True

    def add_member(self, observation: dict[str, Any]) -> bool:
        """Take the values of a panel's member."""
        if not self.valid(observation):
            return False
        time, id = effective(observation, self._zone)[0], observation["id"]
        self._group(observation.get("code") or {}).add(id, time, observation)
        for number, component in enumerate(observation.get("component") or ()):
            self._group(component.get("code") or {}).add((id, number), time, component)
        return True

    def groups(self) -> list[_Group]:
        """Those to be answered: of a panel without values of its own only its measurements."""
        others = any(not group.own for group in self._groups.values())
        return [group for group in self._groups.values() if group.total or (group.own and not others)]


def _result(code: str, group: _Group) -> list[dict[str, Any]]:
    """The components of one statistic; regression has two, gradient and intercept."""
    values = [value for _, value in group.values]
    unit = group.unit or {}
    head: dict[str, Any] = {"coding": [{"system": _SYSTEM, "code": code}]}
    if code == "regression":
        return _regression(head, group, unit)
    found: statistics.Number | None
    if code in ("count", "total-count"):
        found = Fraction(len(values) if code == "count" else group.total)
    else:
        found = statistics.OF_VALUES[code](values) if values else None
    if found is None:
        return [{"code": head, "dataAbsentReason": _ABSENT}]
    if code in statistics.UNITLESS:
        unit = {"unit": "1", "system": _UCUM, "code": "1"}
    elif code == "variance":
        square = f"({unit['code']})2"
        unit = {"unit": square, "system": _UCUM, "code": square}
    return [{"code": head, "valueQuantity": {"value": statistics.rounded(found), **unit}}]


def _regression(head: dict[str, Any], group: _Group, unit: dict[str, Any]) -> list[dict[str, Any]]:
    timed = [(time, value) for time, value in group.values if time not in (dates.MIN_INSTANT, dates.MAX_INSTANT)]
    start = min((time for time, _ in timed), default=0)
    found = statistics.regression([Fraction(time - start, _HOUR) for time, _ in timed], [value for _, value in timed])
    texts = ("gradient per hour", f"intercept at {instant(start)}" if timed else "intercept")
    if found is None:
        return [{"code": {**head, "text": text}, "dataAbsentReason": _ABSENT} for text in texts]
    slope = f"({unit['code']})/h"
    units = ({"unit": slope, "system": _UCUM, "code": slope}, unit)
    return [
        {"code": {**head, "text": text}, "valueQuantity": {"value": statistics.rounded(value), **of}}
        for text, value, of in zip(texts, found, units, strict=True)
    ]


def _observation(asked: _Asked, group: _Group) -> dict[str, Any]:
    times = [time for time, _ in group.values if time not in (dates.MIN_INSTANT, dates.MAX_INSTANT)]
    low, high = asked.low, asked.high
    if low is None and high is None and times:
        low, high = min(times), max(times)
    period = {name: instant(limit) for name, limit in (("start", low), ("end", high)) if limit is not None}
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": group.code,
        "subject": {"reference": asked.subject},
        **({"effectivePeriod": period} if period else {}),
        "component": [component for code in asked.statistics for component in _result(code, group)],
    }


async def _sources(context: Context, request: Request, asked: _Asked, gathering: _Gathering) -> list[dict[str, Any]]:
    """Gather all measurements, newest first, then those of the panels' members; the Observations that they came from."""
    found = []
    async for page in all_of(context, request, _query(context, request, asked)):
        found += [json_codec.loads(stored.body) for stored in page]
    found.sort(key=lambda observation: effective(observation, context.zone), reverse=True)
    sources = {observation["id"]: observation for observation in found if gathering.add(observation)}
    members: dict[tuple[str, str], None] = {}
    for panel in gathering.panels:
        for member in panel["hasMember"]:
            reference = parse_reference(str(member.get("reference", "")))
            own = reference.within((request.base, *context.own_bases))
            if own and reference.type == "Observation" and reference.id not in sources:
                members[("Observation", reference.id)] = None
    loaded = [json_codec.loads(stored.body) for stored in await context.gate.read_many(request.principal, list(members))]
    for observation in sorted(loaded, key=lambda one: effective(one, context.zone), reverse=True):
        if gathering.add_member(observation):
            sources[observation["id"]] = observation
    return list(sources.values())


async def stats(context: Context, request: Request, type: str, id: str | None) -> Response:
    """Parameters with an Observation `statistics` for each code, and the `source` Observations where they are asked for.

    Raises FhirError 400, 415, 503 (took too long).
    """
    asked = _asked(context, request)
    gathering = _Gathering(context, asked)
    sources = await _sources(context, request, asked, gathering)
    answer = [{"name": "statistics", "resource": _observation(asked, group)} for group in gathering.groups()]
    if asked.include:
        answer += [{"name": "source", "resource": observation} for observation in sources[: asked.limit]]
    return Response(200, json_codec.dumps({"resourceType": "Parameters", "parameter": answer}))


OPERATION = Operation(
    name="stats",
    handler=stats,
    policy="stats",
    levels=frozenset({"type"}),
    types=("Observation",),
    definition="http://hl7.org/fhir/OperationDefinition/Observation-stats",
    title="Statistics of measurements",
)
