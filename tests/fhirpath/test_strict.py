"""Names, types and order are checked before an expression is evaluated. http://hl7.org/fhirpath/N1/#type-safety-and-strict-evaluation"""

from __future__ import annotations

import pytest

from fhir_server import fhirpath
from fhir_server.fhirpath.errors import FhirPathSemanticError


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("name.trace('f', family).given", {"string"}),
        ("name.trace('f', $this.family).family", {"string"}),
        ("name.defineVariable('f', family).select(%f)", None),
        ("name.defineVariable('f', given.first()).where(use = 'usual').family", {"string"}),
        ("name.where(children().exists()).first().family", {"string"}),
        ("name.trace('all', children()).first().family", {"string"}),
        ("name.select(children().count()).first()", {"System.Integer"}),
        ("name.sort(family).first().given", {"string"}),
        ("name.iif(family.exists(), given, family)", {"string"}),
        ("name.all(family.exists())", {"System.Boolean"}),
        ("name.exists(family = 'x')", {"System.Boolean"}),
        ("contact.repeat(name).family", {"string"}),
        ("name.aggregate($total + 1, 0)", None),
    ],
)
def test_an_argument_is_checked_where_it_is_evaluated(text: str, types: set[str] | None) -> None:
    assert fhirpath.compile_expression(text, strict=True).check("Patient", check_order=True) == types


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name.trace('f', birthDate)", "HumanName has no element 'birthDate'"),
        ("name.trace(family)", "Patient has no element 'family'"),
        ("name.defineVariable('f', birthDate)", "HumanName has no element 'birthDate'"),
        ("name.where(birthDate.exists())", "HumanName has no element 'birthDate'"),
        ("children().first()", "depends on order"),
        ("name.select(children()).first()", "depends on order"),
    ],
)
def test_what_is_not_there_is_refused(text: str, says: str) -> None:
    with pytest.raises(FhirPathSemanticError, match=says):
        fhirpath.compile_expression(text, strict=True).check("Patient", check_order=True)
