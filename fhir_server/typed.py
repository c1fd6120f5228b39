"""A typed view of resources for authors of integrations: the R4B models of `fhir.resources`, with completion and type checks in an editor.

The server itself works on plain dicts; nothing on its way of a request imports this (docs/decisions/0001-fhir-resources.md, with the
differences between R4 and R4B). Needs the extra `models`.

>>> patient = typed({"resourceType": "Patient", "name": [{"family": "王"}]})
>>> patient.name[0].family
'王'
>>> patient.name[0].given = ["小明"]
>>> plain(patient)
{'resourceType': 'Patient', 'name': [{'family': '王', 'given': ['小明']}]}
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from fhir_server.errors import FhirError, Issue
from fhir_server.model.definitions import definitions
from fhir_server.model.json_codec import Number

try:
    from fhir.resources.R4B import get_fhir_model_class
    from pydantic import BaseModel, ValidationError
except ImportError as fault:  # pragma: no cover - the tests have the extra
    raise ImportError("the typed view needs the extra 'models': pip install 'fhir-server[models]'") from fault

ONLY_R4 = frozenset(
    {
        "EffectEvidenceSynthesis", "MedicinalProduct", "MedicinalProductAuthorization", "MedicinalProductContraindication",
        "MedicinalProductIndication", "MedicinalProductIngredient", "MedicinalProductInteraction", "MedicinalProductManufactured",
        "MedicinalProductPackaged", "MedicinalProductPharmaceutical", "MedicinalProductUndesirableEffect", "RiskEvidenceSynthesis",
        "SubstanceNucleicAcid", "SubstancePolymer", "SubstanceProtein", "SubstanceReferenceInformation", "SubstanceSourceMaterial",
        "SubstanceSpecification",
    }
)  # fmt: skip
"""Resource types of R4 that R4B does not have."""


_NO_ELEMENTS = frozenset({"resource_type", "fhir_comments"})


def typed(resource: Mapping[str, Any]) -> Any:
    """The model of a resource (`fhir.resources.R4B.patient.Patient` …), a copy.

    Raises FhirError 422 for a type that R4B does not have, and for content that its models refuse.
    """
    name = str(resource.get("resourceType"))
    if name in ONLY_R4:
        raise FhirError.of(
            422, "not-supported", f"{name} is a type of R4 that R4B does not have: use the plain form", zh=f"R4B 没有 {name} 类型"
        )
    try:
        model = get_fhir_model_class(name)
    except (KeyError, ValueError):
        raise FhirError.of(422, "structure", f"'{name}' is no resource type of R4B", zh=f"“{name}”不是 R4B 的资源类型") from None
    try:
        return model.model_validate(dict(resource))
    except (TypeError, AttributeError) as fault:  # what the library stumbles over
        raise FhirError.of(422, "structure", f"the models of R4B cannot read it: {fault}", zh=f"R4B 模型无法读取：{fault}") from None
    except ValidationError as fault:
        issues = [_issue(name, error) for error in fault.errors(include_url=False)]
        raise FhirError(422, issues) from None


def plain(model: Any) -> dict[str, Any]:
    """The plain form of a model, as the server takes it. Digits of decimals are kept; a time of day is written to the millisecond."""
    made: dict[str, Any] = _plain(model)
    return made


def _issue(name: str, error: Mapping[str, Any]) -> Issue:
    place = name
    for step in error["loc"]:
        place += f"[{step}]" if isinstance(step, int) else f".{step}"
    return Issue("structure", f"{place}: {error['msg']}", (place,), zh=f"{place}：不符合 R4B 的模型：{error['msg']}")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        # Not model_dump(), which makes floats of decimals.
        fields = type(value).model_fields
        named = ((field.alias or name, getattr(value, name)) for name, field in fields.items() if name not in _NO_ELEMENTS)
        inner = {name: _plain(one) for name, one in named if one is not None}
        kind = str(getattr(value, "__resource_type__", ""))
        return {"resourceType": kind, **inner} if kind in definitions().resource_types else inner
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Decimal):
        return Number(str(value))
    if isinstance(value, dt.datetime):
        text = value.isoformat(timespec="milliseconds" if value.microsecond else "seconds")
        return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
