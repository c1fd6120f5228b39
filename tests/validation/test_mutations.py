"""Valid examples with one random fault each: every fault is refused, and named where it is."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from fhir_server.model import json_codec
from tests.conftest import SOAK
from tests.validation.judge import errors_of
from tests.validation.mutations import MUTATIONS, mutants

SEED = 20261123
LARGEST = 40_000
"""Examples of more bytes are left out: copies of them take the time of many others."""


@pytest.mark.longer
def test_every_random_fault_is_refused_at_its_place(index, official):
    chance = random.Random(SEED)
    tried = Counter[str]()
    for name, content in sorted(official.items()):
        if index[name] != "yes" or len(content) > LARGEST:
            continue
        resource = json_codec.loads(content)
        for kind, expression, mutated in mutants(resource, 400 if SOAK else 35, chance):
            tried[kind] += 1
            named = {issue.expression[0] for issue in errors_of(mutated)}
            # an emptied object is named itself, or by what it lacks
            assert expression in named or (kind == "emptied" and any(place.startswith(expression + ".") for place in named)), (
                name,
                kind,
                expression,
                named,
            )
    assert set(tried) == {mutation.__name__ for mutation in MUTATIONS}
    assert sum(tried.values()) > 10_000
    assert min(tried.values()) > 250, tried


@pytest.mark.parametrize("value", [None, True, 7, 1.5, "x", "", [], {}, [[]], [None], [{}], {"x": {}}, [7], ["x"]], ids=repr)
def test_no_value_at_any_place_is_stumbled_over(official, value):
    """Whatever stands anywhere, the validation ends with issues, never with an exception."""
    chance = random.Random(SEED)
    small = sorted(name for name, content in official.items() if len(content) < LARGEST)
    for name in ["bundle-example.json", "message-request-link.json", "parameters-example.json", *chance.sample(small, 60)]:
        for _ in range(8):
            resource = json_codec.loads(official[name])
            replace_somewhere(resource, value, chance)
            errors_of(resource)


def replace_somewhere(holder, value, chance):
    while True:
        key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        if not holder[key] or not isinstance(holder[key], dict | list) or chance.random() < 0.2:
            holder[key] = value
            return
        holder = holder[key]
