"""JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7386): the RFCs' own examples, and what they say about errors."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fhir_server.errors import FhirError
from fhir_server.interactions.patch_json import apply_json_patch, check_json_patch
from fhir_server.interactions.patch_merge import apply_merge_patch


def patched(document: Any, *operations: dict[str, Any]) -> Any:
    return apply_json_patch(document, check_json_patch(list(operations)))


def test_the_official_json_patch_cases(corpus: Path) -> None:
    with tarfile.open(corpus / "tests" / "patch-r4.tar.gz") as archive:
        member = next(m for m in archive if m.name.endswith("json-patch-tests.json"))
        content = archive.extractfile(member)
        assert content
        cases = json.load(content)
    assert len(cases) == 10
    for case in cases:
        if "error" in case:
            with pytest.raises(FhirError):
                patched(case["doc"], *case["patch"])
        else:
            assert patched(case["doc"], *case["patch"]) == case["expected"], case["comment"]


@pytest.mark.parametrize(
    ("document", "operation", "expected"),
    [
        ({"baz": "qux", "foo": "bar"}, {"op": "remove", "path": "/baz"}, {"foo": "bar"}),  # A.3
        (  # A.6
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            {"op": "move", "from": "/foo/waldo", "path": "/qux/thud"},
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
        ),
        (  # A.8
            {"baz": "qux", "foo": ["a", 2, "c"]},
            {"op": "test", "path": "/foo/1", "value": 2},
            {"baz": "qux", "foo": ["a", 2, "c"]},
        ),
        ({"foo": "bar"}, {"op": "add", "path": "/child", "value": {"grandchild": {}}}, {"foo": "bar", "child": {"grandchild": {}}}),  # A.10
        ({"foo": "bar"}, {"op": "add", "path": "/baz", "value": "qux", "xyz": 123}, {"foo": "bar", "baz": "qux"}),  # A.11
        ({"/": 9, "~1": 10}, {"op": "test", "path": "/~01", "value": 10}, {"/": 9, "~1": 10}),  # A.14
        ({"a": {"b": [1, 2]}}, {"op": "copy", "from": "/a/b/0", "path": "/a/b/-"}, {"a": {"b": [1, 2, 1]}}),
        ({"a": 1}, {"op": "replace", "path": "", "value": {"b": 2}}, {"b": 2}),
        ({"": 1}, {"op": "replace", "path": "/", "value": 2}, {"": 2}),
        ({"a": {"c": 1, "b": [1.0]}}, {"op": "test", "path": "/a", "value": {"b": [1], "c": 1.00}}, {"a": {"c": 1, "b": [1.0]}}),
    ],
)
def test_an_operation_changes_what_its_pointer_names(document: Any, operation: dict[str, Any], expected: Any) -> None:
    before = json.dumps(document)
    assert patched(document, operation) == expected
    assert json.dumps(document) == before, "the document given in is not changed"


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/none"},
        {"op": "replace", "path": "/none", "value": 1},
        {"op": "add", "path": "/list/4", "value": 1},
        {"op": "add", "path": "/list/01", "value": 1},
        {"op": "add", "path": "/list/-1", "value": 1},
        {"op": "remove", "path": "/list/-"},
        {"op": "add", "path": "/text/deeper", "value": 1},
        {"op": "move", "from": "/object", "path": "/object/inside"},
        {"op": "copy", "from": "/none", "path": "/x"},
        {"op": "test", "path": "/flag", "value": 1},
        {"op": "test", "path": "/none", "value": None},
    ],
)
def test_an_operation_that_cannot_apply_is_422_naming_it(operation: dict[str, Any]) -> None:
    with pytest.raises(FhirError) as refused:
        patched({"list": [1, 2, 3], "text": "x", "object": {}, "flag": True}, operation)
    assert refused.value.status == 422
    assert f"operation 0 ({operation['op']} '{operation['path']}')" in str(refused.value)


@pytest.mark.parametrize(
    "patch",
    [
        {"op": "add"},
        [1],
        [{"op": "spam", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": "/a"}],
        [{"op": "move", "path": "/a"}],
        [{"op": "test", "path": "/a~2", "value": 1}],
        [{"path": "/a", "value": 1}],
    ],
)
def test_what_is_no_json_patch_is_400(patch: Any) -> None:
    with pytest.raises(FhirError) as refused:
        check_json_patch(patch)
    assert refused.value.status == 400


def test_a_patch_that_doubles_the_document_again_and_again_is_refused() -> None:
    doubling = [{"op": "copy", "from": "/a", "path": "/a/-"} for _ in range(64)]
    with pytest.raises(FhirError, match="too large"):
        patched({"a": [0] * 100}, *doubling)


RFC_7386_APPENDIX_A = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("document", "patch", "expected"), RFC_7386_APPENDIX_A)
def test_merge_patch_examples_of_the_rfc(document: Any, patch: Any, expected: Any) -> None:
    before = json.dumps(document)
    assert apply_merge_patch(document, patch) == expected
    assert json.dumps(document) == before
