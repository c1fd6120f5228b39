"""Every refusal is said in English and in Chinese: no call in the sources leaves the Chinese text out.

An OperationOutcome carries the Chinese text as `details.text`: https://hl7.org/fhir/R4/operationoutcome.html
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("fhir_server", "subscriptions", "integrations")
CHINESE = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
"""A Chinese character, or a sign of Chinese punctuation: a text that is put together may have no more of its own."""
LETTER = re.compile("[A-Za-z]")
EXCEPTIONS = {
    # The facts of `_explain`, a JSON object for the operator: no sentence in any language.
    ("fhir_server/interactions/search.py", "Issue('informational', facts.decode(), severity='information')"),
}
CONSTRUCTED = {"Issue": 4, "FhirError.of": None}
"""What makes a refusal, with the position at which its Chinese text may stand; None: only by name."""

Place = tuple[str, int, str]
Signature = tuple[ast.arguments, int]
"""The parameters of a helper, and how many of them a call does not fill (1 for `self`)."""


def sources() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


@cache
def trees() -> dict[str, ast.Module]:
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in sources()}


def helpers(tree: ast.Module) -> dict[str, Signature]:
    """The functions of a module that are given a text in Chinese (`zh`), by the name by which the module calls them."""
    found: dict[str, Signature] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node.args, 0
        elif isinstance(node, ast.ClassDef):
            for one in node.body:
                if isinstance(one, ast.FunctionDef):
                    found[f"self.{one.name}"] = one.args, 1
    return {name: given for name, given in found.items() if any(one.arg == "zh" for one in _parameters(given[0]))}


def _parameters(given: ast.arguments) -> list[ast.arg]:
    return [*given.posonlyargs, *given.args, *given.kwonlyargs]


def imported(tree: ast.Module, known: dict[str, dict[str, Signature]]) -> dict[str, Signature]:
    """The helpers that a module takes from others."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            theirs = known.get(node.module.replace(".", "/") + ".py", {})
            found.update({one.asname or one.name: theirs[one.name] for one in node.names if one.name in theirs})
    return found


def chinese_of(call: ast.Call, position: int | None) -> ast.expr | None:
    """The Chinese text of a call."""
    named = next((one.value for one in call.keywords if one.arg == "zh"), None)
    if named is None and position is not None and len(call.args) > position:
        return call.args[position]
    return named


def is_chinese(text: ast.expr | None) -> bool:
    """Whether a text is given, and what of it is written out here is Chinese; the rest comes from elsewhere."""
    if text is None or (isinstance(text, ast.Constant) and not text.value):
        return False
    if isinstance(text, ast.IfExp):
        return is_chinese(text.body) and is_chinese(text.orelse)
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    written = "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
    return bool(CHINESE.search(written)) or not LETTER.search(written)


def missing(file: str, tree: ast.Module, known: dict[str, Signature]) -> Iterator[Place]:
    """The calls of a module that refuse something without saying why in Chinese."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        if not isinstance(call.func, ast.Name | ast.Attribute):
            continue
        name = ast.unparse(call.func)
        if name in CONSTRUCTED:
            position = CONSTRUCTED[name]
        elif name in known:
            given, own = known[name]
            position = next((at - own for at, one in enumerate([*given.posonlyargs, *given.args]) if one.arg == "zh"), None)
        else:
            continue
        if not is_chinese(chinese_of(call, position)) and (file, ast.unparse(call)) not in EXCEPTIONS:
            yield file, call.lineno, ast.unparse(call)[:160]


def all_missing() -> list[Place]:
    parsed = trees()
    known = {file: helpers(tree) for file, tree in parsed.items()}
    # An operation's parameter refuses its own value, wherever it has got to.
    shared = {"refused": known["fhir_server/operations/inputs.py"]["self.refused"]}
    found: list[Place] = []
    for file, tree in parsed.items():
        methods = {ast.unparse(one.func): shared[one.func.attr] for one in ast.walk(tree) if _is_method(one, shared)}
        found += missing(file, tree, {**methods, **imported(tree, known), **known[file]})
    return found


def _is_method(node: ast.AST, names: dict[str, Signature]) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names


def test_every_refusal_is_said_in_chinese_too() -> None:
    assert not all_missing()


def test_every_exception_is_still_there() -> None:
    files = {file for file, _ in EXCEPTIONS}
    calls = {(file, ast.unparse(one)) for file in files for one in ast.walk(trees()[file]) if isinstance(one, ast.Call)}
    assert calls >= EXCEPTIONS


def test_a_helper_demands_the_chinese_text() -> None:
    """A default would let a caller leave it out unseen."""
    free = []
    for file, tree in trees().items():
        for name, (given, _) in helpers(tree).items():
            positional = [*given.posonlyargs, *given.args]
            defaults = dict(zip([one.arg for one in positional][len(positional) - len(given.defaults) :], given.defaults, strict=True))
            defaults |= {one.arg: value for one, value in zip(given.kwonlyargs, given.kw_defaults, strict=True) if value is not None}
            free += [(file, name)] if "zh" in defaults and not name.endswith(".of") else []
    assert not free


@pytest.mark.parametrize(
    "call",
    [
        "FhirError.of(400, 'value', 'x is wrong')",
        "FhirError.of(400, 'value', 'x is wrong', zh='x is wrong')",
        "Issue('value', 'x is wrong', ('x',))",
        "Issue('value', 'x is wrong', ('x',), 'error', 'x is wrong')",
        "helper('x is wrong', f'{x} is wrong')",
        "helper('x is wrong')",
        "helper('x is wrong', '')",
        "helper('x is wrong', 'x 有误' if x else 'no x')",
    ],
)
def test_a_call_without_chinese_is_found(call: str) -> None:
    known = helpers(ast.parse("def helper(what, zh): ..."))
    assert list(missing("one.py", ast.parse(call), known))


@pytest.mark.parametrize(
    "call",
    [
        "FhirError.of(400, 'value', 'x is wrong', zh='x 有误')",
        "Issue('value', 'x is wrong', ('x',), 'error', f'{x} 有误')",
        "FhirError.of(400, 'value', 'x is wrong', zh=fault.zh)",
        "helper('x is wrong', zh=f'{x}：{zh}')",
    ],
)
def test_a_call_with_chinese_is_not(call: str) -> None:
    known = helpers(ast.parse("def helper(what, zh): ..."))
    assert not list(missing("one.py", ast.parse(call), known))
