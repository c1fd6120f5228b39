"""The query algebra: what a search asks, independent of HTTP and of any database.

A store evaluates these criteria over index values (`search.values`); `auth` adds criteria of its own.
Parameters appear as numbers (`search.parameters`), resource types by name.
Specification: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class Criterion:
    """Base of all criteria."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Everything(Criterion):
    """Matches each resource."""


@dataclass(frozen=True, slots=True)
class Nothing(Criterion):
    """Matches no resource."""


@dataclass(frozen=True, slots=True)
class And(Criterion):
    parts: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class Or(Criterion):
    parts: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class Not(Criterion):
    """Resources (of the query's type) that do not match `part`."""

    part: Criterion


@dataclass(frozen=True, slots=True)
class Ids(Criterion):
    """Resources with one of these logical ids."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OfType(Criterion):
    """Resources of this type, in a search over several."""

    type: str


@dataclass(frozen=True, slots=True)
class KeyMatch(Criterion):
    """A `values.Key` of `parameter` equals: `space` None = any space, `value` None = any value (not both None).

    The two partial forms are `code` (any system) and `system|` (any code); for a reference `space` is the target type;
    for a canonical `space` is the url, value None = any version.
    """

    parameter: int
    space: str | None
    value: str | None


class Values(Protocol):
    """Values of which one can ask for each whether it is among them, and which need not be listed."""

    def __contains__(self, value: object, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class KeySet(Criterion):
    """A `values.Key` of `parameter` is one of `codes` (space, value), or of one of `systems` (space, values that do not count)."""

    parameter: int
    codes: frozenset[tuple[str, str]]
    systems: tuple[tuple[str, Values], ...] = ()


@dataclass(frozen=True, slots=True)
class KeyPrefix(Criterion):
    """A `values.Key` of `parameter` in `space` whose value is `stem`, or begins with `stem` and one of the characters `breaks`.

    Without `breaks`: begins with `stem`.
    """

    parameter: int
    space: str
    stem: str
    breaks: str = ""


class Open(Criterion):
    """Asks what only resources of the store can tell (value sets, hierarchies): other criteria take its place before a store sees it.

    See `search.opening`.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class InValueSet(Open):
    """A `values.Key` of `parameter` is in the value set: a canonical, or `ValueSet/id` (`:in`)."""

    parameter: int
    value_set: str


@dataclass(frozen=True, slots=True)
class Subsumed(Open):
    """A `values.Key` of `parameter` is the code or below it in its code system (`:below`); with `up` above it (`:above`)."""

    parameter: int
    system: str
    code: str
    up: bool


@dataclass(frozen=True, slots=True)
class Naming(Open):
    """The reference `parameter` holds the canonical of a resource of type `target` that meets `part`: a chain without ids."""

    parameter: int
    target: str
    part: Criterion


@dataclass(frozen=True, slots=True)
class NamedBy(Open):
    """Some resource of `type` that meets `part` holds in its reference `parameter` the canonical of this one, a `target` (`_has`)."""

    type: str
    parameter: int
    part: Criterion
    target: str


@dataclass(frozen=True, slots=True)
class InHierarchy(Open):
    """The reference `parameter` leads to `type`/`id` or to what is part of it, directly or not (`:below`); with `up` to what it is part of.

    `part_of`: number of the reference parameter of `type` that makes the hierarchy.
    """

    parameter: int
    type: str
    id: str
    up: bool
    part_of: int


@dataclass(frozen=True, slots=True)
class TextMatch(Criterion):
    """A `values.Text` of `parameter`: the modes prefix, contains, suffix and whole compare `folded`, exact compares `exact`."""

    parameter: int
    text: str
    mode: str = "prefix"


class Phrase(NamedTuple):
    """Words one after the other (`search.words`); with `open` the last one is the beginning of a word."""

    words: tuple[str, ...]
    open: bool = False


@dataclass(frozen=True, slots=True)
class Worded(Criterion):
    """All `phrases` are among the words of a resource: `place` is 'narrative', 'content' (all of it), or 'wording'.

    The last one: a text of the token `parameter` (of a CodeableConcept, a Coding's display) begins with the phrase.
    """

    place: str
    phrases: tuple[Phrase, ...]
    parameter: int = 0


@dataclass(frozen=True, slots=True)
class RangeMatch(Criterion):
    """A `values.Range` of `parameter` whose bounds lie inside the given closed limits (None = no limit).

    With the interval [L, H] of the search value and [low, high] of the stored one (R4 search, "prefixes"):
    eq: low >= L and high <= H; gt: high > H; lt: low < L; ge: high > H or eq; le: low < L or eq; sa: low > H; eb: high < L;
    ap: low <= H' and high >= L'; ne: Not(eq). The parser expresses each as one RangeMatch or an Or of two.
    `strict` names the limits that are exclusive (any of 'low_min', 'low_max', 'high_min', 'high_max').
    `space`/`value`: unit of a quantity; None = any, '' = none stated. `unit_text` (value without system): matches the code of any system.
    """

    parameter: int
    low_min: int | float | None = None
    low_max: int | float | None = None
    high_min: int | float | None = None
    high_max: int | float | None = None
    strict: frozenset[str] = frozenset()
    space: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Paired(Criterion):
    """Some element of the composite `parameter` has the token `space`|`value` (as in KeyMatch) and meets all `others`.

    Each of `others` is a KeyMatch, a RangeMatch or an Or of RangeMatches about the composite's other components, in their order.
    How such values are posted: `search.composites`.
    """

    parameter: int
    space: str | None
    value: str | None
    others: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class Near(Criterion):
    """The place whose latitude is posted as the range `parameter`, and longitude as `parameter` + 1, lies within a distance in metres.

    `latitude` and `longitude` in degrees (WGS84).
    """

    parameter: int
    latitude: float
    longitude: float
    metres: float


@dataclass(frozen=True, slots=True)
class Present(Criterion):
    """The resource has some value of `parameter` (`:missing=false`); `:missing=true` is Not(Present)."""

    parameter: int


@dataclass(frozen=True, slots=True)
class Updated(Criterion):
    """`meta.lastUpdated` within the closed interval [low, high], milliseconds since 1970 (None = open)."""

    low: int | None
    high: int | None


@dataclass(frozen=True, slots=True)
class Chain(Criterion):
    """The reference parameter points to a resource of one of `targets` (type name, criterion over that type)."""

    parameter: int
    targets: tuple[tuple[str, Criterion], ...]


@dataclass(frozen=True, slots=True)
class Has(Criterion):
    """Some resource of `type` that matches `part` points to this one by its reference parameter (`_has`)."""

    type: str
    parameter: int
    part: Criterion


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of `_sort`. `parameter` is a number, or '_lastUpdated' or '_id'; `kind` text | range | key | updated | id.

    `others` are further numbers under which its values are posted. Of references only those to `target` count (None = all).
    `spelling`: the number of the spellings of Chinese names, which stand in their place.
    Resources without a value come last in both directions; ties are broken by the sequence number of the version.
    A resource with several values sorts by the lowest (ascending) or highest (descending).
    """

    parameter: int | str
    kind: str
    descending: bool = False
    others: tuple[int, ...] = ()
    target: str | None = None
    spelling: int = 0


class Position(NamedTuple):
    """Where a page ended: the last row's sort values and rid, and the snapshot (highest rid) that all pages see.

    `total` is the total that the first page knew, so that later pages need not count again.
    """

    snapshot: int
    rid: int
    values: tuple[Any, ...] = ()
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A search over one type, or over `types` (system search). The order without `sort`: last updated first.

    The parser gives searches by the clinical date of a type that order, where they name none."""

    types: tuple[str, ...]
    where: Criterion = Everything()
    sort: tuple[SortKey, ...] = ()
    limit: int = 20
    total: str = "none"
    """none | estimate | accurate; a store gives an exact total with `none` too where it is free."""
    open: bool = False
    """Whether `where` holds an `Open` criterion."""
    words: bool = False
    """Whether `where` holds a `Worded` criterion."""
