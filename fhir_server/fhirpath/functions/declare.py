"""How a function is declared, and the makers that most functions share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fhir_server.fhirpath.code import EMPTY, Code, of_truth, of_value
from fhir_server.fhirpath.errors import FhirPathSemanticError
from fhir_server.fhirpath.evaluation import Env, Many, single_value, string
from fhir_server.fhirpath.items import Collection
from fhir_server.fhirpath.parser import Call, Join, Literal, Name, Node, Special, walked

if TYPE_CHECKING:
    from fhir_server.fhirpath.compiler import Compiler


@dataclass(frozen=True, slots=True)
class Function:
    """`build` makes the code of a call; `least` and `most` are its numbers of arguments."""

    build: Callable[[Site], Code]
    least: int = 0
    most: int = 0


class Site:
    """One call in an expression, as its builder sees it."""

    __slots__ = ("_source", "compiler", "node")

    def __init__(self, compiler: Compiler, node: Call, source: Many | None) -> None:
        self.compiler, self.node, self._source = compiler, node, source

    @property
    def name(self) -> str:
        """The function with brackets, for messages."""
        return f"{self.node.name}()"

    @property
    def given(self) -> int:
        """How many arguments there are."""
        return len(self.node.arguments)

    @property
    def input(self) -> Many:
        """What the function is called on: what stands before the dot, else the focus."""
        return self._source if self._source is not None else _focus

    @property
    def joined(self) -> bool:
        """Whether something stands before the dot."""
        return self._source is not None

    def argument(self, place: int) -> Many:
        """An argument that sees $this of the surrounding."""
        return self.compiler.apart(self.node.arguments[place]).many

    def each(self, place: int) -> Code:
        """An argument that is evaluated with other items as $this."""
        return self.compiler.apart(self.node.arguments[place])

    def walk(self, *places: int) -> Callable[[Collection, Env], Iterable[Collection]]:
        """Gives the focus of each item for lambdas at these places; sets $index only where one of them asks for it."""
        if any(_mentions(self.node.arguments[place], "$index") for place in places):
            return _numbered
        return _plainly

    def type_name(self, place: int = 0) -> str:
        """The name of a type as an argument of is(), as() and ofType()."""
        node = self.node.arguments[place]
        if isinstance(node, Name):
            return node.name
        if isinstance(node, Join) and isinstance(node.left, Name) and isinstance(node.right, Name):
            return f"{node.left.name}.{node.right.name}"
        if isinstance(node, Literal) and node.kind == "string":
            return node.text
        raise FhirPathSemanticError(f"{self.name} needs the name of a type", node.position, f"{self.name} 需要类型名称")


def _focus(focus: Collection, env: Env) -> Collection:
    return focus


def _plainly(items: Collection, env: Env) -> Iterable[Collection]:
    env.spend(len(items))
    return [[item] for item in items]


def _numbered(items: Collection, env: Env) -> Iterator[Collection]:
    env.spend(len(items))
    before = env.index
    for place, item in enumerate(items):
        env.index = place
        yield [item]
    env.index = before


def _mentions(node: Node, special: str) -> bool:
    return any(isinstance(one, Special) and one.name == special for one in walked(node))


def on_collection(work: Callable[[Collection], Collection]) -> Function:
    """A function of the whole input without arguments, that gives a collection."""

    def build(site: Site) -> Code:
        source = site.input
        return Code(lambda focus, env: work(source(focus, env)))

    return Function(build)


def on_condition(work: Callable[[Collection], bool | None]) -> Function:
    """A function of the whole input without arguments, that gives true, false or empty."""

    def build(site: Site) -> Code:
        source = site.input
        return of_truth(lambda focus, env: work(source(focus, env)))

    return Function(build)


def against(work: Callable[[Collection, Collection], Collection]) -> Function:
    """A function of the input and another collection."""

    def build(site: Site) -> Code:
        source, other = site.input, site.argument(0)

        def evaluate(focus: Collection, env: Env) -> Collection:
            mine, theirs = source(focus, env), other(focus, env)
            env.spend(len(mine) + len(theirs))
            return work(mine, theirs)

        return Code(evaluate)

    return Function(build, 1, 1)


def on_value(work: Callable[..., Any], arguments: int = 0, optional: int = 0) -> Function:
    """A function of the single input value and of argument values; empty if the input or a given argument is empty."""

    def build(site: Site) -> Code:
        source, name = site.input, site.name
        others = [site.argument(place) for place in range(site.given)]

        def evaluate(focus: Collection, env: Env) -> Any:
            value = single_value(source(focus, env), name)
            if value is None:
                return None
            given = [single_value(other(focus, env), name) for other in others]
            return None if None in given else work(value, *given)

        return of_value(evaluate)

    return Function(build, arguments, arguments + optional)


def on_text(work: Callable[..., Any], arguments: int = 0, *, condition: bool = False) -> Function:
    """A function of a string and of string arguments; empty when one of them is. `condition`: it gives true or false."""

    def build(site: Site) -> Code:
        source, name = site.input, site.name
        others = [site.argument(place) for place in range(site.given)]

        def evaluate(focus: Collection, env: Env) -> Any:
            value = string(source(focus, env), name)
            given = [string(other(focus, env), name) for other in others]
            return None if value is None or None in given else work(value, *given)

        return of_truth(evaluate) if condition else of_value(evaluate)

    return Function(build, arguments, arguments)


__all__ = ["EMPTY", "Function", "Site", "against", "on_collection", "on_condition", "on_text", "on_value"]
