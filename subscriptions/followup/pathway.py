"""Pathway and rule files: read from YAML, checked, and held as plain values that the engine works with.

Specification: followup.md section 6.5. A wrong file is refused with the file's name, the place in it and the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from subscriptions.followup.calendar import Offset
from subscriptions.followup.wording import placeholders

FOLDER = Path(__file__).resolve().parents[2] / "profiles" / "pathways"
DOING = {"task", "message", "flag", "notify"}
PRIORITIES = {"routine", "urgent", "asap", "stat"}
AT_ONCE, THREE_DAYS = Offset(0, "d"), Offset(3, "d")
ANCHORS = {"enrolment", "discharge", "procedure", "delivery", "lmp", "birth", "report"}


class PathwayError(ValueError):
    """A pathway file that cannot be used; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Action:
    """One node. `do`: task | message | flag | notify; `at`: distance from the anchor; `within`: hours until it must be finished."""

    id: str
    do: str
    title: str
    at: Offset = AT_ONCE
    before: Offset = AT_ONCE
    after: Offset = THREE_DAYS
    code: str = ""
    category: str = "followup"
    priority: str = "routine"
    text: str = ""
    within: int | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """Critical limits of one analyte, inclusive; `units`: spelling -> divisor to the unit in which the limits are given."""

    name: str
    codes: frozenset[str]
    units: dict[str, Decimal]
    low: Decimal | None
    high: Decimal | None
    source: str


@dataclass(frozen=True, slots=True)
class Pathway:
    """A pathway (`kind` pathway) or a rule that reacts to single resources (`kind` rule)."""

    id: str
    title: str
    version: str
    status: str
    kind: str
    anchor: str
    actions: tuple[Action, ...]
    evidence: tuple[dict[str, str], ...]
    classes: frozenset[str] = frozenset()
    icd10: tuple[str, ...] = ()
    departments: tuple[str, ...] = ()
    exclusive_group: str = ""
    priority: int = 0
    flags: frozenset[str] = frozenset()
    limits: tuple[Limit, ...] = ()

    def action(self, id: str) -> Action | None:
        return next((action for action in self.actions if action.id == id), None)

    @property
    def span(self) -> Action:
        """The node that comes last."""
        return max(self.actions, key=lambda action: action.at.value * {"d": 1, "wk": 7, "mo": 31, "a": 366}[action.at.unit])


class _Reader:
    """Takes values out of a file's mapping and says where one is wrong."""

    def __init__(self, where: str, content: Any, known: set[str]) -> None:
        if not isinstance(content, dict):
            raise PathwayError(f"{where}: a mapping is expected, not {type(content).__name__}")
        self.where, self.content = where, content
        if unknown := sorted(set(map(str, content)) - known):
            raise PathwayError(f"{where}: unknown name '{unknown[0]}' (known: {', '.join(sorted(known))})")

    def text(self, name: str, default: str | None = None, among: set[str] | None = None) -> str:
        value = self.content.get(name, default)
        if value is None or isinstance(value, dict | list) or str(value) == "" != default:
            raise PathwayError(f"{self.where}: '{name}' is missing or no text")
        if among is not None and str(value) not in among:
            raise PathwayError(f"{self.where}: '{name}' is '{value}', must be one of {', '.join(sorted(among))}")
        return str(value)

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.content.get(name, [])
        if not isinstance(value, list) or any(isinstance(item, dict | list) for item in value):
            raise PathwayError(f"{self.where}: '{name}' must be a list of texts")
        return tuple(str(item) for item in value)

    def offset(self, name: str, default: str) -> Offset:
        try:
            return Offset.parse(self.text(name, default))
        except ValueError as fault:
            raise PathwayError(f"{self.where}: '{name}': {fault}") from None

    def decimal(self, name: str) -> Decimal | None:
        value = self.content.get(name)
        if value is None:
            return None
        try:
            return Decimal(str(value))
        except InvalidOperation:
            raise PathwayError(f"{self.where}: '{name}' is '{value}', not a number") from None


_ACTION = {"id", "at", "do", "title", "window", "code", "category", "priority", "text", "within"}
_TOP = {"id", "title", "version", "status", "kind", "on", "evidence", "match", "anchor", "exclusiveGroup", "priority", "flags"}
_TOP |= {"values", "actions"}


def _action(where: str, content: Any) -> Action:
    item = _Reader(where, content, _ACTION)
    item.where = f"{where} ({item.text('id')})"
    window = _Reader(f"{item.where}.window", item.content.get("window", {}), {"before", "after"})
    do = item.text("do", among=DOING)
    within = item.text("within", "0h")
    if not within.endswith("h") or not within[:-1].isdigit():
        raise PathwayError(f"{item.where}: 'within' is '{within}', must be hours such as 24h")
    if do in ("message", "notify"):
        item.text("text")
    if do in ("task", "flag"):
        item.text("code")
    return Action(
        id=item.text("id"),
        do=do,
        title=item.text("title"),
        at=item.offset("at", "+0d"),
        before=window.offset("before", "0d"),
        after=window.offset("after", "3d"),
        code=item.text("code", ""),
        category=item.text("category", "followup"),
        priority=item.text("priority", "routine", PRIORITIES),
        text=item.text("text", ""),
        within=int(within[:-1]) or None,
    )


def _whole(top: _Reader) -> int:
    text = top.text("priority", "0")
    if not text.isdigit():
        raise PathwayError(f"{top.where}: 'priority' is '{text}', not a whole number")
    return int(text)


def _limit(where: str, content: Any) -> Limit:
    item = _Reader(where, content, {"name", "codes", "units", "low", "high", "source"})
    units = item.content.get("units")
    if not isinstance(units, dict) or not units:
        raise PathwayError(f"{where}: 'units' must name at least one unit with its divisor")
    try:
        divisors = {unit: Decimal(divisor) for unit, divisor in units.items()}
    except (InvalidOperation, TypeError):
        raise PathwayError(f"{where}: a unit's divisor is not a number") from None
    if any(divisor <= 0 for divisor in divisors.values()):
        raise PathwayError(f"{where}: a unit's divisor must be above 0")
    low, high = item.decimal("low"), item.decimal("high")
    if low is None and high is None:
        raise PathwayError(f"{where}: neither 'low' nor 'high' is given")
    if low is not None and high is not None and low >= high:
        raise PathwayError(f"{where}: 'low' ({low}) is not below 'high' ({high})")
    return Limit(item.text("name"), frozenset(item.texts("codes")), divisors, low, high, item.text("source"))


def parse(text: str, name: str) -> Pathway:
    """A file's content as values. Raises PathwayError with the file's name, place and reason."""
    try:
        # Scalars stay the texts that were written: `on` is no boolean, 1.0 no binary float.
        content = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as fault:
        raise PathwayError(f"{name}: {fault}") from None
    top = _Reader(name, content, _TOP)
    match = _Reader(f"{name}: match", top.content.get("match", {}), {"class", "icd10", "department"})
    actions = tuple(_action(f"{name}: actions[{n}]", item) for n, item in enumerate(top.content.get("actions") or []))
    ids = [action.id for action in actions]
    if not actions or len(set(ids)) != len(ids):
        raise PathwayError(f"{name}: 'actions' must have at least one entry, each with an id of its own")
    kind = top.text("kind", "pathway", {"pathway", "rule"})
    pathway = Pathway(
        id=top.text("id"),
        title=top.text("title"),
        version=top.text("version"),
        status=top.text("status", "draft", {"draft", "active", "retired"}),
        kind=kind,
        anchor=top.text("anchor", "enrolment" if kind == "pathway" else "report", ANCHORS),
        actions=actions,
        evidence=tuple(top.content.get("evidence") or ()),
        classes=frozenset(match.texts("class")),
        icd10=match.texts("icd10"),
        departments=match.texts("department"),
        exclusive_group=top.text("exclusiveGroup", ""),
        priority=_whole(top),
        flags=frozenset(top.texts("flags")),
        limits=tuple(_limit(f"{name}: values[{n}]", item) for n, item in enumerate(top.content.get("values") or [])),
    )
    _check_texts(pathway, name)
    return pathway


_VARIABLES = {"greeting", "name", "patient", "discharge", "result"}


def _check_texts(pathway: Pathway, name: str) -> None:
    windows = {f"{action.id}.{edge}" for action in pathway.actions for edge in ("start", "end")}
    for action in pathway.actions:
        if unknown := sorted(placeholders(action.text) - _VARIABLES - windows):
            raise PathwayError(f"{name}: action {action.id}: the text names the unknown variable '{unknown[0]}'")
        if "尊敬的患者" in action.text:
            raise PathwayError(f"{name}: action {action.id}: the generic address '尊敬的患者' may not occur in a message")


def load(folder: Path = FOLDER) -> list[Pathway]:
    """All pathway files of a folder, by file name. Raises PathwayError for a wrong one."""
    return [parse(file.read_text(encoding="utf-8"), file.name) for file in sorted(folder.glob("*.yaml"))]
