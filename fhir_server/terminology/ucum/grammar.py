"""The grammar of unit terms: a code read into a factor and powers of bases, in one pass and without recursion.

Bases are the seven base units, arbitrary units (§24) and special units (§21): what takes part in a product without being
reducible stays a name of its own. Specification: https://ucum.org/ucum (§3-§11)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple, NoReturn

from fhir_server.terminology.ucum.errors import UcumError
from fhir_server.terminology.ucum.table import Atom, table

MAX_LENGTH = 1000
"""Longest code that is read, in characters."""
MAX_EXPONENT = 999
"""Largest exponent that is read, either sign."""
MAX_BITS = 8192
"""Largest numerator or denominator of a factor, in bits: about 10^±2466. Keeps the work on any code small."""

# A symbol: characters 33-126 without " ( ) + - . / = [ ] { }, or anything printable between square brackets (§3, §5).
_SYMBOL = re.compile(r"(?:[!#-'*,0-9:;<>?@A-Z\\^_`a-z|~]|\[[!-Z\\^-~]*\])+")
_SIGNED = re.compile(r"[+-][0-9]+")
_ANNOTATION = re.compile(r"\{[!-z|~]*\}")
_FOREIGN = re.compile(r"[^!-~]")


class Term(NamedTuple):
    """factor x product of `bases` (name to exponent, never 0)."""

    factor: Fraction
    bases: Mapping[str, int]


ONE = Term(Fraction(1), {})


class _Wrong(Exception):
    """`rule` is broken at `position`."""

    def __init__(self, rule: str, position: int) -> None:
        super().__init__(rule, position)
        self.rule = rule
        self.position = position


def read(code: str) -> Term:
    """The term that a code means. Raises UcumError (without a suggestion) where it is no valid code."""
    try:
        return _main_term(code)
    except _Wrong as wrong:
        raise UcumError(code, wrong.rule, wrong.position) from None


def check_symbol(symbol: str) -> bool:
    """Whether `symbol` is a simple unit, with or without exponent."""
    found = _SYMBOL.match(symbol)
    if not found or _end_of_exponent(symbol, found.end()) != len(symbol):
        return False
    try:
        _component(symbol, 0)
    except _Wrong:
        return False
    return True


@lru_cache(maxsize=1024)
def atom_term(code: str) -> Term:
    """What an atom of the table means, without prefix."""
    atom = table().atoms[code]
    if atom.kind == "base" or atom.special or (atom.arbitrary and atom.definition == "1"):
        return Term(Fraction(1), {code: 1})
    return definition_term(atom)


def definition_term(atom: Atom) -> Term:
    """value x definition of an atom; of a special unit, its corresponding proper unit."""
    factor, bases = read(atom.definition)
    return Term(Fraction(atom.value) * factor, bases)


def _main_term(code: str) -> Term:
    """<main-term>: terms are read from left to right, what surrounds an open parenthesis waits in `open_terms`."""
    _check_text(code)
    open_terms: list[tuple[Term, bool, int]] = []
    term = ONE
    inverse = code[0] == "/"
    at = int(inverse)
    while True:
        if code.startswith("(", at):
            open_terms.append((term, inverse, at))
            term, inverse, at = ONE, False, at + 1
            continue
        component, after = _component(code, at)
        term, at = _times(term, component, inverse, at), after
        while code.startswith(")", at):
            if not open_terms:
                raise _Wrong("')' closes nothing (§10)", at)
            outer, inverse, _ = open_terms.pop()
            term, at = _times(outer, term, inverse, at), _skip_annotation(code, at + 1)
        if at == len(code):
            break
        if code[at] not in "./":
            _no_operator(code, at)
        inverse = code[at] == "/"
        at += 1
    if open_terms:
        raise _Wrong("'(' is not closed (§10)", open_terms[-1][2])
    return term


def _check_text(code: str) -> None:
    if not code:
        raise _Wrong("it is empty; the unity is written '1'", 0)
    if len(code) > MAX_LENGTH:
        raise _Wrong(f"it has {len(code)} characters; at most {MAX_LENGTH} are read", MAX_LENGTH)
    if foreign := _FOREIGN.search(code):
        what = "white space is" if foreign[0].isspace() else f"{foreign[0]!r} is"
        raise _Wrong(f"{what} not allowed, only the printable characters of ASCII are (§3)", foreign.start())


def _no_operator(code: str, at: int) -> NoReturn:
    """What may be wrong between two components."""
    if code[at] == "{":
        rule = "'{' is not closed (§6)" if "}" not in code[at:] else "only one annotation may follow a unit, and none may hold '{' (§6)"
    elif code[at] == "[":
        rule = "'[' is not closed (§5)"
    elif code[at] in "+-":
        rule = "a sign is only allowed before the exponent of a unit (§9)"
    elif code[at - 1] == "}" or code[at] == "(" or code[at - 1] == ")":
        rule = "'.' or '/' is missing between two units (§7)"
    else:
        rule = f"'{code[at]}' is not allowed here (§7)"
    raise _Wrong(rule, at)


def _component(code: str, at: int) -> tuple[Term, int]:
    """<component> other than a term in parentheses, and where it ends."""
    if code.startswith("{", at):
        after = _skip_annotation(code, at)
        if after == at:
            _no_operator(code, at)
        return ONE, after
    found = _SYMBOL.match(code, at)
    if not found:
        if at < len(code) and code[at] not in "./)":
            _no_operator(code, at)
        before = f"after '{code[at - 1]}'" if at else "at the beginning"
        raise _Wrong(f"a unit is missing {before} (§7)", min(at, len(code) - 1))
    symbol, end = found[0], _end_of_exponent(code, found.end())
    stem = symbol.rstrip("0123456789")
    if not stem:
        if end != found.end():
            raise _Wrong(f"the integer {symbol} takes no exponent; powers of ten are written 10*3 (§8)", found.end())
        return _integer(symbol, at), _skip_annotation(code, end)
    if end == found.end():
        exponent = symbol[len(stem) :] or "1"
    else:
        stem, exponent = symbol, code[found.end() : end]
    if len(exponent) > 5 or abs(int(exponent)) > MAX_EXPONENT:
        raise _Wrong(f"exponents are read up to {MAX_EXPONENT}", at + len(stem))
    return _power(_simple(stem, at), int(exponent), at), _skip_annotation(code, end)


def _end_of_exponent(code: str, at: int) -> int:
    signed = _SIGNED.match(code, at)
    return signed.end() if signed else at


def _skip_annotation(code: str, at: int) -> int:
    found = _ANNOTATION.match(code, at)
    return found.end() if found else at


def _integer(digits: str, at: int) -> Term:
    number = int(digits)
    if not number:
        raise _Wrong("0 is no unit, factors are positive integers (§8)", at)
    return _bounded(Fraction(number), {}, at)


def _simple(symbol: str, at: int) -> Term:
    """<simple-unit>: an atom, or prefix and metric atom."""
    found = table().split(symbol)
    if not found:
        raise _Wrong(_unknown(symbol), at)
    prefix, atom = found
    term = atom_term(atom.code)
    return Term(table().prefixes[prefix] * term.factor, term.bases) if prefix else term


def _unknown(symbol: str) -> str:
    known = table()
    if len(symbol) > 40:
        return f"'{symbol[:39]}…' is no unit of UCUM"
    if symbol.isdigit():
        return f"{symbol} is no unit (§8)"
    for prefix in known.prefixes:
        if symbol.startswith(prefix) and symbol[len(prefix) :] in known.atoms:
            return f"'{symbol[len(prefix) :]}' is not metric and takes no prefix '{prefix}' (§11)"
    if symbol[0].isdigit():
        return f"'{symbol}' is no unit; a number and a unit are joined by '.' (§8)"
    return f"'{symbol}' is no unit of UCUM {'(codes are case sensitive)' if symbol.isalpha() else ''}".rstrip()


def _power(term: Term, exponent: int, at: int) -> Term:
    if exponent == 1:
        return term
    return _bounded(term.factor**exponent, {name: power * exponent for name, power in term.bases.items() if exponent}, at)


def _times(left: Term, right: Term, inverse: bool, at: int) -> Term:
    """left x right, or left / right."""
    sign = -1 if inverse else 1
    bases = dict(left.bases)
    for name, power in right.bases.items():
        bases[name] = bases.get(name, 0) + sign * power
        if not bases[name]:
            del bases[name]
    return _bounded(left.factor / right.factor if inverse else left.factor * right.factor, bases, at)


def _bounded(factor: Fraction, bases: dict[str, int], at: int) -> Term:
    if max(factor.numerator.bit_length(), factor.denominator.bit_length()) > MAX_BITS:
        raise _Wrong("its factor is beyond 10^±2466, the largest that is read", at)
    return Term(factor, bases)
