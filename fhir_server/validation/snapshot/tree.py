"""ElementDefinitions as a tree: an element has groups of children; a group is one name with its slices.

Specification: https://hl7.org/fhir/R4/elementdefinition.html (order and paths of elements), https://hl7.org/fhir/R4/profiling.html#slicing
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

Definition = dict[str, Any]
"""An ElementDefinition as in JSON."""


@dataclass(slots=True)
class Node:
    """One ElementDefinition with what stands below it. `name`: the last part of its path."""

    name: str
    definition: Definition
    groups: list[Group] = field(default_factory=list)

    @property
    def slice(self) -> str | None:
        name: str | None = self.definition.get("sliceName")
        return name

    def group(self, name: str) -> Group | None:
        """The children of a name."""
        return next((group for group in self.groups if group.name == name), None)

    def copy(self) -> Node:
        return Node(self.name, deepcopy(self.definition), [group.copy() for group in self.groups])

    def walk(self) -> Iterator[Node]:
        """The node and all below it, in the order of a snapshot."""
        yield self
        for group in self.groups:
            for node in group.nodes():
                yield from node.walk()


@dataclass(slots=True)
class Group:
    """The elements of one name: `whole` speaks of all of them (a differential may leave it out), `slices` of some."""

    name: str
    whole: Node | None = None
    slices: list[Node] = field(default_factory=list)

    def find(self, slice: str) -> Node | None:
        return next((node for node in self.slices if node.slice == slice), None)

    def nodes(self) -> Iterator[Node]:
        if self.whole is not None:
            yield self.whole
        yield from self.slices

    def copy(self) -> Group:
        return Group(self.name, self.whole.copy() if self.whole else None, [node.copy() for node in self.slices])


class Disorder(Exception):
    """The elements make no tree; the message names the one at fault."""


def tree_of(elements: Sequence[Mapping[str, Any]], root: str, *, strict: bool = False) -> Node:
    """The tree of the elements of a snapshot or differential of type `root`. Parents that a differential skips are made.

    `strict`: a slice must have its sliceName; without it the id names it (some snapshots of R4 itself need that).

    Raises Disorder for a path outside of the type, and for a slice without a name where that is not allowed.
    """
    top = Node(root, {"path": root})
    stack: list[tuple[str, Node]] = [(root, top)]
    for given in elements:
        element = dict(given)
        path: str = element.get("path", "")
        if path == root or path.partition(".")[2] == "":
            top.definition = element
            stack = [(root, top)]
            continue
        parts = path.split(".")
        if parts[0] != root:
            raise Disorder(f"the path '{path}' does not begin with {root}")
        id = str(element.get("id", ""))
        slice = id.rpartition(".")[2].partition(":")[2] if id.count(".") == path.count(".") else ""
        if slice and "sliceName" not in element:
            if strict:
                raise Disorder(f"the element {element['id']} has no sliceName")
            element["sliceName"] = slice
        while len(stack) > 1 and not path.startswith(stack[-1][0] + "."):
            stack.pop()
        at = stack[-1]
        for name in parts[at[0].count(".") + 1 : -1]:
            at = (f"{at[0]}.{name}", _place(at[1], Node(name, {})))
            stack.append(at)
        node = _place(at[1], Node(parts[-1], element))
        stack.append((path, node))
    return top


def _place(parent: Node, node: Node) -> Node:
    """Put a node below its parent; the one that is there already is the parent of what follows."""
    group = parent.group(node.name)
    if group is None:
        group = Group(node.name)
        parent.groups.append(group)
    slice = node.slice
    if slice is not None:
        there = group.find(slice)
        if there is None:
            group.slices.append(node)
            return node
    elif group.whole is None:
        group.whole = node
        return node
    else:
        there = group.whole
    there.definition.update(node.definition)
    return there


def elements_of(top: Node) -> list[Definition]:
    """The tree as the list of a snapshot, with paths and ids made anew."""
    found: list[Definition] = []
    _list(top, top.name, top.name, found)
    return found


def _list(node: Node, path: str, id: str, found: list[Definition]) -> None:
    found.append({"id": id, "path": path, **{key: value for key, value in node.definition.items() if key not in ("id", "path")}})
    for group in node.groups:
        for child in group.nodes():
            suffix = f":{child.slice}" if child.slice else ""
            _list(child, f"{path}.{group.name}", f"{id}.{group.name}{suffix}", found)
