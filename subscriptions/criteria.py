"""Criteria of a Subscription: a search, read once and matched in memory against the index values of each new version.

Specification: https://hl7.org/fhir/R4/subscription.html#criteria (a search string without the base: `Observation?code=...`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fhir_server.errors import FhirError
from fhir_server.search.match import matches
from fhir_server.search.parser import Parser
from fhir_server.search.query import And, Chain, Criterion, Everything, Has, Not, Open, Or
from fhir_server.search.values import IndexValues
from fhir_server.storage.port import Stored


@dataclass(frozen=True, slots=True)
class Criteria:
    """The resource type, and what its versions must meet."""

    type: str
    where: Criterion

    @property
    def everything(self) -> bool:
        """Whether each version of the type meets them, so that no index values are needed."""
        return isinstance(self.where, Everything)

    def meets(self, stored: Stored, values: IndexValues) -> bool:
        """Whether this version does."""
        return matches(self.where, stored.id, stored.updated, values)


def _leaves(criterion: Criterion) -> Iterator[Criterion]:
    if isinstance(criterion, And | Or):
        for part in criterion.parts:
            yield from _leaves(part)
    elif isinstance(criterion, Not):
        yield from _leaves(criterion.part)
    else:
        yield criterion


def _refused(text: str, why: str, zh: str | None) -> FhirError:
    shown = text if len(text) <= 120 else text[:120] + "…"
    what = f"Subscription.criteria '{shown}': {why}"
    return FhirError.of(422, "not-supported", what, "Subscription.criteria", zh=f"Subscription.criteria“{shown}”：{zh or '检索式无效'}")


def compile_criteria(text: str, parser: Parser, types: tuple[str, ...]) -> Criteria:
    """`Type` or `Type?` (all of it), or `Type?parameters`, as criteria. Raises FhirError 422 naming what this server cannot watch."""
    type, _, query = text.strip().partition("?")
    if type not in types:
        raise _refused(
            text, f"'{type}' is no resource type; a search such as Observation?code=... is expected", f"“{type[:40]}”不是资源类型"
        )
    if not query:
        return Criteria(type, Everything())
    try:
        where = parser.criteria(type, query).where
    except FhirError as fault:
        raise _refused(text, fault.issues[0].diagnostics, fault.issues[0].zh) from None
    if any(isinstance(leaf, Open) for leaf in _leaves(where)):
        why = "value sets and hierarchies look at other resources, which a Subscription does not watch"
        raise _refused(text, why, "值集与层级涉及其他资源，订阅不予监视")
    if any(isinstance(leaf, Chain | Has) for leaf in _leaves(where)):
        why = "chained parameters and _has look at other resources, which a Subscription does not watch"
        raise _refused(text, why, "链式参数与 _has 涉及其他资源，订阅不予监视")
    return Criteria(type, where)
