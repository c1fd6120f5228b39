"""Lexer and parser: precedence, literals, errors with positions, limits, and any text gives a tree or a clear refusal.

http://hl7.org/fhirpath/N1/grammar.html
"""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server import fhirpath
from fhir_server.fhirpath.errors import FhirPathError, FhirPathSemanticError, FhirPathSyntaxError
from fhir_server.fhirpath.lexer import tokens
from fhir_server.fhirpath.parser import MAX_NESTING, MAX_STEPS, Binary, Chain, Literal, Sign, TypeTest, parse


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("name.given(", 11, "the end of the expression"),
        ("name..given", 5, "'.'"),
        ("'open", 0, "does not end"),
        ("name.where(use = )", 17, "')'"),
        ("a b", 2, "an operator or the end"),
        ("2 + #", 4, "'#'"),
        ("{", 1, "'}' is expected"),
        ("%", 1, "a variable's name"),
        ("'\\q'", 1, "no escape"),
        ("a is 3", 5, "a name is expected"),
        ("@2015-02-30", 0, "does not exist"),
        ("@T25:00", 0, "does not exist"),
        ("99999999999", 0, "too large"),
        ("2147483648", 0, "too large"),
        ("+2147483648", 1, "too large"),
        ("1 - 2147483648", 4, "too large"),
        ("-2147483649", 1, "too large"),
        ("9223372036854775808L", 0, "too large"),
        ("9" * 5000, 0, "too large"),
        ("-" + "9" * 5000, 1, "too large"),
        ("9" * 5000 + "L", 0, "too large"),
        (f"name[{'9' * 5000}]", 5, "too large"),
        (f"1.{'9' * 5000} 'mg'", 0, "too large"),
        ("1.5L", 3, "an operator or the end"),
        ("@2020-01-01T10:00:00+99:00", 0, "does not exist"),
        ("@2020-01-01T10:00:00+14:01", 0, "does not exist"),
        ("@2020-01-01T10:00:00-13:60", 0, "does not exist"),
        ("a[", 2, "an expression is expected"),
        ("", 0, "an expression is expected"),
    ],
)
def test_what_is_no_fhirpath_is_refused_with_its_position(text: str, position: int, says: str) -> None:
    with pytest.raises(FhirPathSyntaxError) as refused:
        fhirpath.compile(text)
    assert says in str(refused.value)
    assert refused.value.position == position
    assert f"character {position + 1}" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name.foo()", "no function foo()"),
        ("name.first(1)", "takes 0 arguments"),
        ("name.where()", "takes 1 arguments"),
        ("name is Foo", "'Foo' is no type"),
        ("name.ofType('x' + 'y')", "needs the name of a type"),
        ("defineVariable('resource')", "defined already"),
        ("defineVariable('a').defineVariable('a')", "defined already"),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_compiled(text: str, says: str) -> None:
    with pytest.raises(FhirPathSemanticError, match=says.replace("(", r"\(").replace(")", r"\)")):
        fhirpath.compile(text)


def test_precedence_is_that_of_the_specification() -> None:
    tree = parse("a or b and c = d | e is f + g * -h")
    assert isinstance(tree, Chain) and tree.operator == "or"
    conjunction = tree.operands[1]
    assert isinstance(conjunction, Chain) and conjunction.operator == "and"
    equality = conjunction.operands[1]
    assert isinstance(equality, Binary) and equality.operator == "="
    assert isinstance(equality.right, Chain) and equality.right.operator == "|"
    # `is` binds looser than `+`: the type's name ends where the operator would begin.
    assert isinstance(parse("1 + 2 is Integer"), TypeTest)
    assert isinstance(parse("-1.abs()"), Sign)


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ("1 + 2 * 3", "7"), ("(1 + 2) * 3", "9"), ("7 - 2 - 1", "4"), ("8 div 2 div 2", "2"), ("true or false and false", "true"),
        ("false implies true implies false", "false"), ("1 | 2 in (1 | 2 | 3) | 4", None), ("'a' & 'b' = 'ab'", "true"),
        ("5 mod 3 + 1", "3"), ("true xor true or true", "true"), ("-(1).abs()", "-1"),
    ],
)  # fmt: skip
def test_expressions_group_as_the_precedence_says(text: str, gives: str | None) -> None:
    if gives is None:
        with pytest.raises(FhirPathError):
            fhirpath.compile(text).evaluate(None)
        return
    (item,) = fhirpath.compile(text).evaluate(None)
    assert str(item.value).lower() == gives


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2", "integer"), ("2.0", "decimal"), ("2L", "long"), ("@2020", "date"), ("@2020T", "datetime"), ("@T12:00", "time"),
        ("4 days", "quantity"), ("4 'mg'", "quantity"), ("{}", "empty"), ("true", "boolean"), ("'x'", "string"),
    ],
)  # fmt: skip
def test_literals_have_the_kind_that_their_form_says(text: str, kind: str) -> None:
    tree = parse(text)
    assert isinstance(tree, Literal) and tree.kind == kind


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2147483647", 2**31 - 1),
        ("-2147483648", -(2**31)),
        ("9223372036854775807L", 2**63 - 1),
        ("-9223372036854775808L", -(2**63)),
        ("007", 7),
    ],
)
def test_whole_numbers_reach_to_the_ends_of_their_types(text: str, value: int) -> None:
    """http://hl7.org/fhirpath/N1/#integer"""
    (item,) = fhirpath.compile(text).evaluate(None)
    assert item.value == value
    assert fhirpath.compile("--2147483648").evaluate(None) == []  # http://hl7.org/fhirpath/N1/#math: overflow is empty


@pytest.mark.parametrize("zone", ["+14:00", "-14:00", "+13:59", "Z"])
def test_zones_reach_to_fourteen_hours(zone: str) -> None:
    """The pattern of https://hl7.org/fhir/R4/datatypes.html#dateTime"""
    assert len(fhirpath.compile(f"@2020-01-01T10:00:00{zone}").evaluate(None)) == 1
    assert len(fhirpath.compile(f"'2020-01-01T10:00:00{zone}'.toDateTime()").evaluate(None)) == 1
    assert fhirpath.compile("'2020-01-01T10:00:00+99:00'.toDateTime()").evaluate(None) == []


def test_numbers_of_many_digits_can_be_equivalent() -> None:
    resource = {"resourceType": "Observation", "valueQuantity": {"value": Decimal("9" * 300 + ".5")}}
    (item,) = fhirpath.compile("value.value ~ value.value").evaluate(resource)
    assert item.value is True


def test_escapes_are_resolved() -> None:
    (item,) = fhirpath.compile(r"'\'\"\`\\\/\f\n\r\t\u0041'").evaluate(None)
    assert item.value == "'\"`\\/\f\n\r\tA"


def test_names_may_stand_in_backticks_and_variables_in_either() -> None:
    resource = {"resourceType": "Patient", "text": {"div": "<div/>"}}
    assert len(fhirpath.compile("text.`div`").evaluate(resource)) == 1
    for text in ("%ext-patient-birthTime", "%`ext-patient-birthTime`", "%'ext-patient-birthTime'"):
        (item,) = fhirpath.compile(text).evaluate(resource)
        assert item.value == "http://hl7.org/fhir/StructureDefinition/patient-birthTime"
    (value_set,) = fhirpath.compile("%vs-administrative-gender").evaluate(resource)
    assert value_set.value == "http://hl7.org/fhir/ValueSet/administrative-gender"


def test_nesting_is_limited_with_a_clear_error() -> None:
    fhirpath.Expression("(" * MAX_NESTING + "1" + ")" * MAX_NESTING)
    for text in ("(" * 5000 + "1" + ")" * 5000, "-" * 5000 + "1", "a.where(" * 500 + "b" + ")" * 500, "a[" * 500 + "0" + "]" * 500):
        with pytest.raises(FhirPathSyntaxError, match="nested deeper"):
            fhirpath.Expression(text)


def test_chains_are_limited_or_flat() -> None:
    with pytest.raises(FhirPathSyntaxError, match="more than"):
        fhirpath.Expression(".".join("a" * (MAX_STEPS + 2)))
    with pytest.raises(FhirPathSyntaxError, match="more than"):
        fhirpath.Expression(" + ".join("1" * (MAX_STEPS + 2)))
    many = fhirpath.Expression(" or ".join(f"'x' = 'y{number}'" for number in range(3000)))
    assert many.evaluate(None)[0].value is False
    assert len(fhirpath.Expression(" | ".join(map(str, range(3000)))).evaluate(None)) == 3000


def test_an_expression_at_all_limits_is_evaluated_without_running_out_of_stack() -> None:
    nested = "1" + " + 1" * MAX_STEPS
    for _ in range(MAX_NESTING - 8):
        nested = f"iif(true, {nested})"
    assert fhirpath.Expression(nested).evaluate(None)[0].value == MAX_STEPS + 1
    steps = ".".join(["first()"] * (MAX_STEPS - 1))
    assert len(fhirpath.Expression(f"name.{steps}").evaluate({"resourceType": "Patient", "name": [{"text": "x"}]})) == 1


@given(st.text(max_size=60))
def test_any_text_gives_a_tree_or_a_refusal_with_a_position(text: str) -> None:
    try:
        parse(text)
    except FhirPathSyntaxError as fault:
        assert 0 <= fault.position <= len(text)


_PIECES = st.sampled_from([
    *"()[]{}.,+-*/|&=<>~%", "!=", "!~", "<=", ">=", "and", "or", "xor", "implies", "in", "contains", "is", "as", "div", "mod", "name",
    "given", "where", "$this", "$index", "true", "1", "2.5", "'x'", "@2020-01", "@T10", "day", "4 days", "Patient", "exists()", "// c\n",
    "/* c */",
])  # fmt: skip


@settings(max_examples=300)
@given(st.lists(_PIECES, max_size=25))
def test_any_mix_of_tokens_evaluates_or_is_refused(pieces: list[str]) -> None:
    try:
        fhirpath.Expression(" ".join(pieces)).evaluate({"resourceType": "Patient", "name": [{"given": ["A", "B"]}], "active": True})
    except FhirPathError as fault:
        assert str(fault)


_ATOMS = st.sampled_from(
    ["name", "given.first()", "1", "2.5", "'x'", "true", "{}", "%resource", "@2020-01-02", "3 'mg'", "$this", "a.where(b = 1)"]
)
_OPERATORS = st.sampled_from(["+", "-", "*", "/", "&", "|", "=", "!=", "<", "and", "or", "xor", "implies", "in"])
_TREES = st.recursive(_ATOMS, lambda inner: st.tuples(inner, _OPERATORS, inner).map(lambda three: f"({' '.join(three)})"), max_leaves=12)


def without_positions(node: object) -> object:
    if isinstance(node, tuple):
        return tuple(without_positions(one) for one in node)
    if not hasattr(node, "__dataclass_fields__"):
        return node
    return type(node).__name__, *(without_positions(getattr(node, name)) for name in node.__dataclass_fields__ if name != "position")


@given(_TREES, st.sampled_from([" ", "\n", "\t ", " /* note */ ", " // note\n"]))
def test_blanks_and_comments_change_nothing(text: str, blank: str) -> None:
    spaced = blank.join(token.text if token.kind not in ("string",) else f"'{token.text}'" for token in tokens(text)[:-1])
    spaced = spaced.replace(f"%{blank}", "%").replace(f"${blank}", "$")
    assert without_positions(parse(spaced)) == without_positions(parse(text))
