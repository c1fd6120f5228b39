"""How a function is declared, and the makers that most functions share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fhir_server.fhirpath.evaluation import Collection, Env, Evaluator, single_value
from fhir_server.fhirpath.items import Item, of_system


@dataclass(frozen=True, slots=True)
class Function:
    """`make` takes the arguments' closures (or type names, with `takes_type`) and gives the closure of the call."""

    make: Callable[..., Evaluator]
    least: int = 0
    most: int = 0
    takes_type: bool = False


def answer(value: Any) -> Collection:
    """A Python value as a collection; None is empty."""
    return [] if value is None else [of_system(value)]


def on_collection(work: Callable[[Collection], Collection]) -> Function:
    """A function of the whole input without arguments."""
    return Function(lambda: lambda env, focus: work(focus))


def on_value(name: str, work: Callable[..., Any], arguments: int = 0, optional: int = 0) -> Function:
    """A function of the single input value and of argument values; empty if the input or a needed argument is empty."""

    def make(*evaluators: Evaluator) -> Evaluator:
        def evaluate(env: Env, focus: Collection) -> Collection:
            value = single_value(focus, f"{name}()")
            if value is None:
                return []
            given = [single_value(argument(env, env_focus(env, focus)), f"{name}()") for argument in evaluators]
            if any(one is None for one in given):
                return []
            return answer(work(value, *given))

        return evaluate

    return Function(make, arguments, arguments + optional)


def env_focus(env: Env, focus: Collection) -> Collection:
    """Arguments that are no lambdas see $this of the surrounding, not the input of the call."""
    return env.this or env.context


class Iteration:
    """Sets $this and $index for each item of a lambda and puts the old ones back."""

    __slots__ = ("_env", "_index", "_this")

    def __init__(self, env: Env) -> None:
        self._env = env

    def __enter__(self) -> Iteration:
        self._this, self._index = self._env.this, self._env.index
        return self

    def at(self, item: Item, index: int) -> Collection:
        """The focus of one item."""
        self._env.this, self._env.index = [item], index
        return self._env.this

    def __exit__(self, *_: object) -> None:
        self._env.this, self._env.index = self._this, self._index
