"""What one query may cost: nesting, fields, resources, text, time; so that no query hangs the server or fills its memory.

Specification: https://spec.graphql.org/October2021/#sec-Validation, https://hl7.org/fhir/R4/graphql.html
"""

from __future__ import annotations

import asyncio
from time import monotonic

from graphql.language import ast

from fhir_server.errors import FhirError

MOST_TOKENS = 10_000
MOST_DEFINITIONS = 500
"""Most operations and fragments of one document."""
MOST_DEPTH = 30
"""Deepest nesting of fields and fragments, spreads opened."""
MOST_STEPS = 200_000
"""Most fields and values that one query may visit; it bounds aliases, fragments and lists alike."""
MOST_RESOURCES = 2000
MOST_TEXT = 50_000_000
"""Most characters of the strings in one answer."""
MOST_DESCRIBED = 3_000_000
"""Most names and values in the answer to an introspection; that of the whole schema has about a million."""
MOST_SECONDS = 20.0
_PAUSE = 1000


def refuse(message: str, zh: str, code: str = "invalid") -> FhirError:
    """400 with one issue."""
    return FhirError.of(400, code, message, zh=zh)


def too_costly(message: str, zh: str) -> FhirError:
    """422: the query is right, but asks for too much."""
    return FhirError.of(422, "too-costly", message, zh=zh)


class Budget:
    """What is left of the limits for one query. Each method raises FhirError 422 where nothing is."""

    def __init__(self) -> None:
        self._steps = self._found = self._text = self._next_pause = 0
        self._ends = monotonic() + MOST_SECONDS

    def step(self, count: int = 1) -> None:
        """Count fields or values."""
        self._steps += count
        if self._steps > MOST_STEPS:
            raise too_costly(f"The query visits more than {MOST_STEPS} fields and values", f"查询涉及的字段和值超过 {MOST_STEPS} 个")

    def resources(self, count: int) -> None:
        """Count resources that are read or found."""
        self._found += count
        if self._found > MOST_RESOURCES:
            raise too_costly(
                f"The query asks for more than {MOST_RESOURCES} resources; a Connection gives them page by page",
                f"查询涉及的资源超过 {MOST_RESOURCES} 个；可用 Connection 分页获取",
            )

    @property
    def resources_left(self) -> int:
        """How many more resources may be asked for."""
        return MOST_RESOURCES - self._found

    def text(self, value: object) -> None:
        """Count the characters of a value that goes into the answer."""
        if isinstance(value, str):
            self._text += len(value)
            if self._text > MOST_TEXT:
                raise too_costly(f"The answer holds more than {MOST_TEXT} characters", f"应答超过 {MOST_TEXT} 个字符")

    def check_time(self) -> None:
        """Raise FhirError 422 once the query has taken too long."""
        if monotonic() > self._ends:
            raise too_costly(
                f"The query takes longer than {MOST_SECONDS:g} seconds; ask for less at once",
                f"查询时间超过 {MOST_SECONDS:g} 秒；请减少一次查询的内容",
            )

    async def pause(self) -> None:
        """Let others have their turn now and then, and look at the clock."""
        if self._steps >= self._next_pause:
            self._next_pause = self._steps + _PAUSE
            self.check_time()
            await asyncio.sleep(0)


Fragments = dict[str, ast.FragmentDefinitionNode]


def check_document(document: ast.DocumentNode) -> None:
    """Raise FhirError 400 (a fragment that leads to itself) or 422 (too many definitions, too deep), before anything else looks at it."""
    if len(document.definitions) > MOST_DEFINITIONS:
        raise too_costly(
            f"The document has more than {MOST_DEFINITIONS} operations and fragments", f"文档中的操作和片段超过 {MOST_DEFINITIONS} 个"
        )
    levels: dict[str, int] = {}
    waiting = {one.name.value: one for one in document.definitions if isinstance(one, ast.FragmentDefinitionNode)}
    uses = {name: _spreads(one) & set(waiting) for name, one in waiting.items()}
    while waiting:
        ready = [name for name in waiting if not uses[name] - set(levels)]
        if not ready:
            raise refuse(
                f"The fragment {min(waiting)[:80]} leads back to itself, or to one that does",
                f"片段 {min(waiting)[:80]} 引用了自身，或引用了会回到自身的片段",
            )
        for name in ready:
            levels[name] = _levels(waiting.pop(name), levels)
    for one in document.definitions:
        if isinstance(one, ast.OperationDefinitionNode):
            _levels(one, levels)


def _spreads(top: ast.Node) -> set[str]:
    found: set[str] = set()
    waiting: list[ast.Node] = [top]
    while waiting:
        one = waiting.pop()
        if isinstance(one, ast.FragmentSpreadNode):
            found.add(one.name.value)
        elif (inner := getattr(one, "selection_set", None)) is not None:
            waiting += inner.selections
    return found


def _levels(top: ast.Node, known: dict[str, int]) -> int:
    """How deep the selections below `top` go; `known`: those of fragments."""
    deepest = 0
    waiting: list[tuple[ast.Node, int]] = [(top, 0)]
    while waiting:
        one, level = waiting.pop()
        here = level + known.get(one.name.value, 0) if isinstance(one, ast.FragmentSpreadNode) else level
        deepest = max(deepest, here)
        if deepest > MOST_DEPTH:
            raise too_costly(f"The query is nested deeper than {MOST_DEPTH} levels", f"查询嵌套超过 {MOST_DEPTH} 层")
        if (inner := getattr(one, "selection_set", None)) is not None:
            if not inner.selections and not isinstance(one, ast.FieldNode):  # of fields, the validation knows whether they need any
                raise refuse("A selection names at least one field", "选择集至少要有一个字段")
            waiting += [(selection, level + 1) for selection in inner.selections]
    return deepest
