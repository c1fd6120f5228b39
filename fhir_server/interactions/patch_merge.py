"""JSON Merge Patch: a document whose members replace, and whose nulls remove.

Specification: https://www.rfc-editor.org/rfc/rfc7386 (now RFC 7396, the same rules)
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.patch_json import copy_json


def apply_merge_patch(target: Any, patch: Any) -> Any:
    """The patched document; neither argument is changed. Any JSON value is a merge patch (RFC 7386 section 2)."""
    if not isinstance(patch, dict):
        return copy_json(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = apply_merge_patch(merged.get(name), value)
    return merged
