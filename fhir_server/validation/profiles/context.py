"""One validation under way: where the resource stands, what is reported, and the ports to the outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fhir_server.fhirpath import Expression, FhirPathError
from fhir_server.fhirpath.evaluation import Purse
from fhir_server.fhirpath.items import Item
from fhir_server.validation.profiles.spots import Spot, of_resource
from fhir_server.validation.report import Path, Report

if TYPE_CHECKING:
    from fhir_server.validation.profiles.room import ProfileRoom

ONE_RULE, ALL_RULES, EACH_ENTRY = 300_000, 1_500_000, 3_000
"""Items that a rule may touch on one element, and all rules together in one validation: so many, and more for each entry of a Bundle."""
Resolve = Callable[[str], "dict[str, Any] | None"]


class Broken(Exception):
    """A quiet validation found an error."""


class Probe(Report):
    """A report that ends with the first error."""

    def add(self, code: str, path: Path, english: str, chinese: str, **rest: Any) -> None:  # type: ignore[override]
        if rest.get("severity", "error") == "error":
            raise Broken


@dataclass(slots=True)
class Context:
    """`resource` is the innermost resource around what is checked, `root` the outermost below a Bundle, `bundle` the Bundle around it."""

    room: ProfileRoom
    report: Report
    resource: Item
    root: Item
    bundle: Item | None = None
    resolve: Resolve | None = None
    must_resolve: bool = False
    """A reference to a profiled target that cannot be found is an error."""
    missed: list[str] = field(default_factory=list)
    """References that an expression asked for and that were not at hand."""
    purse: Purse = field(default_factory=lambda: Purse(ALL_RULES))
    """What the rules of this validation may still touch."""
    ids: set[str] = field(default_factory=set)
    """Ids of the elements of the resource, as they are met."""
    active: set[tuple[int, str]] = field(default_factory=set)
    """(element, profile) that are being checked: what refers to itself ends there."""

    def inside(self, resource: Item, *, contained: bool) -> Context:
        """The context of a contained resource, or of one in a Bundle or Parameters."""
        root = self.root if contained else resource
        bundle = self.resource if self.resource.kind.name == "Bundle" else self.bundle
        return replace(self, resource=resource, root=root, bundle=bundle, ids=set())

    def test(self, expression: Expression, spot: Spot) -> bool | None:
        """An expression as a condition on an element. Raises FhirPathError."""
        self.missed.clear()
        given = max(0, min(ONE_RULE, self.purse.left))
        purse = Purse(given)
        try:
            return expression.test(
                self.resource,
                context=spot.item,
                root=self.bundle or self.root,
                resolve=self.find,
                terminology=self.room.terms.member,
                conforms=self.conforms,
                purse=purse,
            )
        finally:
            self.purse.left -= given - purse.left

    def items(self, expression: Expression, item: Item) -> list[Item]:
        """What an expression gives on an element; nothing where it cannot be evaluated."""
        try:
            return expression.evaluate(self.resource, context=item, root=self.bundle or self.root, resolve=self.find)
        except FhirPathError:
            return []

    def find(self, reference: str) -> dict[str, Any] | None:
        """What a reference leads to outside of the resource and its Bundle."""
        found = self.resolve(reference) if self.resolve else None
        if found is None:
            self.missed.append(reference)
        return found

    def undecided(self) -> bool:
        """Whether the last test asked for something elsewhere although nothing elsewhere is looked at: its answer says nothing then."""
        return self.resolve is None and bool(self.missed)

    def conforms(self, value: Any, profile: str) -> bool | None:
        """Whether a resource meets a profile; None where that is not known here."""
        if self.room.profile(profile) is None:
            return None
        return self.room.meets(of_resource(value), profile, self)
