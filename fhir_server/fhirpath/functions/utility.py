"""iif, trace, the clock, and variables defined on the way.

Specification: http://hl7.org/fhirpath/N1/#utility-functions
"""

from __future__ import annotations

import datetime as dt

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluation import Collection, Env, Evaluator, boolean, single, string
from fhir_server.fhirpath.functions.declare import Function, Iteration, env_focus
from fhir_server.fhirpath.items import of_system
from fhir_server.fhirpath.temporal import parse_temporal


def _iif(criterion: Evaluator, then: Evaluator, otherwise: Evaluator | None = None) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        if len(focus) > 1:
            raise FhirPathError(f"iif() needs a single item as its input, not {len(focus)}")
        with Iteration(env) as each:
            here = each.at(focus[0], 0) if focus else focus
            found = criterion(env, here)
            if len(found) == 1 and not isinstance(found[0].value, bool):
                raise FhirPathError("iif() needs a boolean as its criterion")
            if boolean(found, "iif()"):
                return then(env, here)
            return otherwise(env, here) if otherwise else []

    return evaluate


def _trace(name: Evaluator, projection: Evaluator | None = None) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        label = string(name(env, env_focus(env, focus)), "trace()") or ""
        shown: Collection = focus
        if projection:
            with Iteration(env) as each:
                shown = [found for k, item in enumerate(focus) for found in projection(env, each.at(item, k))]
        env.traces.append((label, shown))
        return focus

    return evaluate


def _define(name: Evaluator, value: Evaluator | None = None) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        label = string(name(env, env_focus(env, focus)), "defineVariable()")
        if (
            not label
            or label in env.defined
            or label in env.variables
            or label in ("context", "resource", "rootResource", "sct", "loinc", "ucum")
        ):
            raise FhirPathError(f"defineVariable() cannot define %{label}: it is defined already, or no name")
        if value is None:
            found = focus
        else:
            before, env.this = env.this, focus
            found = value(env, focus)
            env.this = before
        env.defined = {**env.defined, label: found}
        return focus

    return evaluate


def _now(env: Env, focus: Collection) -> Collection:
    text = env.now.isoformat(timespec="milliseconds")
    return [of_system(parse_temporal(text, "DateTime"))]


def _today(env: Env, focus: Collection) -> Collection:
    return [of_system(parse_temporal(env.now.date().isoformat(), "Date"))]


def _time_of_day(env: Env, focus: Collection) -> Collection:
    return [of_system(parse_temporal(env.now.time().isoformat(timespec="milliseconds"), "Time"))]


def clock() -> dt.datetime:
    """The system's local time with its zone."""
    return dt.datetime.now().astimezone()


def _comparable(other: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        from fhir_server.fhirpath.items import system_value
        from fhir_server.fhirpath.quantity import Quantity, compare

        a, b = single(focus, "comparable()"), single(other(env, env_focus(env, focus)), "comparable()")
        if a is None or b is None:
            return []
        x, y = system_value(a), system_value(b)
        return [of_system(isinstance(x, Quantity) and isinstance(y, Quantity) and compare(x, y) is not None)]

    return evaluate


FUNCTIONS = {
    "iif": Function(_iif, 2, 3),
    "trace": Function(_trace, 1, 2),
    "defineVariable": Function(_define, 1, 2),
    "now": Function(lambda: _now),
    "today": Function(lambda: _today),
    "timeOfDay": Function(lambda: _time_of_day),
    "comparable": Function(_comparable, 1, 1),
}
