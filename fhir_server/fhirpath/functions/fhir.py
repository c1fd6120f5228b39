"""The functions that FHIR adds: extension, resolve, hasValue, memberOf, conformsTo ...

Specification: https://hl7.org/fhir/R4/fhirpath.html#functions
"""

from __future__ import annotations

from typing import Any

from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluation import Collection, Env, Evaluator, single, string
from fhir_server.fhirpath.functions.declare import Function, answer, env_focus, on_collection
from fhir_server.fhirpath.items import Item, child, of_resource, of_system
from fhir_server.model.definitions import definitions
from fhir_server.model.xhtml import narrative_fault


def _extension(url: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        wanted = string(url(env, env_focus(env, focus)), "extension()")
        return [found for item in focus for found in child(item, "extension") if found.value.get("url") == wanted]

    return evaluate


def _has_extension(url: Evaluator) -> Evaluator:
    found = _extension(url)
    return lambda env, focus: [of_system(bool(found(env, focus)))]


def _is_primitive(item: Item) -> bool:
    return item.is_system or (item.type in definitions().types and definitions().types.kind(item.type) == "primitive")


def _has_value(focus: Collection) -> Collection:
    return [of_system(len(focus) == 1 and _is_primitive(focus[0]) and focus[0].value is not None)]


def _get_value(focus: Collection) -> Collection:
    return [Item(focus[0].value, focus[0].type)] if len(focus) == 1 and _is_primitive(focus[0]) and focus[0].value is not None else []


def _contained(root: Item | None, id: str) -> list[Item]:
    if root is None or not isinstance(root.value, dict):
        return []
    return [item for item in child(root, "contained") if item.value.get("id") == id]


def _within_bundle(root: Item | None, reference: str) -> dict[str, Any] | None:
    if root is None or root.type != "Bundle":
        return None
    for entry in root.value.get("entry", ()):
        resource = entry.get("resource")
        if isinstance(resource, dict):
            local = f"{resource.get('resourceType')}/{resource.get('id')}"
            if reference in (entry.get("fullUrl"), local):
                return resource
    return None


def _resolve(env: Env, focus: Collection) -> Collection:
    found: Collection = []
    for item in focus:
        reference = item.value.get("reference") if isinstance(item.value, dict) else item.value
        if not isinstance(reference, str):
            continue
        if reference.startswith("#"):
            inside = (
                [env.root]
                if reference == "#" and env.root
                else _contained(env.root, reference[1:]) or _contained(env.resource, reference[1:])
            )
            found += [item for item in inside if item]
            continue
        resource = _within_bundle(env.root, reference) or (env.resolve(reference) if env.resolve else None)
        if resource is not None:
            found.append(of_resource(resource))
    return found


def _terminology(name: str) -> Any:
    def make(argument: Evaluator) -> Evaluator:
        def evaluate(env: Env, focus: Collection) -> Collection:
            item = single(focus, f"{name}()")
            given = single(argument(env, env_focus(env, focus)), f"{name}()")
            if item is None or given is None:
                return []
            if env.terminology is None:
                raise FhirPathError(f"{name}() needs a terminology service, and there is none here")
            return answer(env.terminology(name, item, given.value))

        return evaluate

    return make


def _conforms(profile: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        item, url = single(focus, "conformsTo()"), string(profile(env, env_focus(env, focus)), "conformsTo()")
        if item is None or url is None:
            return []
        base = "http://hl7.org/fhir/StructureDefinition/"
        if url.startswith(base) and url[len(base) :] in definitions().types:
            return [of_system(definitions().is_subtype(item.type, url[len(base) :]))]
        if env.conforms is None:
            raise FhirPathError(f"conformsTo('{url}'): this profile is not known here")
        return [of_system(env.conforms(item.value, url))]

    return evaluate


def _html_checks(focus: Collection) -> Collection:
    return [of_system(all(isinstance(item.value, str) and narrative_fault(item.value) is None for item in focus))]


def _element_definition(focus: Collection) -> Collection:
    raise FhirPathError("elementDefinition() is not there yet")


def _check_modifiers(*allowed: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        urls = {string(one(env, env_focus(env, focus)), "checkModifiers()") for one in allowed}
        for item in focus:
            for extension in child(item, "modifierExtension"):
                if extension.value.get("url") not in urls:
                    raise FhirPathError(f"checkModifiers(): the modifier extension {extension.value.get('url')} is not expected")
        return focus

    return evaluate


FUNCTIONS = {
    "extension": Function(_extension, 1, 1),
    "hasExtension": Function(_has_extension, 1, 1),
    "hasValue": on_collection(_has_value),
    "getValue": on_collection(_get_value),
    "resolve": Function(lambda: _resolve),
    "memberOf": Function(_terminology("memberOf"), 1, 1),
    "subsumes": Function(_terminology("subsumes"), 1, 1),
    "subsumedBy": Function(_terminology("subsumedBy"), 1, 1),
    "conformsTo": Function(_conforms, 1, 1),
    "htmlChecks": on_collection(_html_checks),
    "checkModifiers": Function(_check_modifiers, 0, 50),
    "elementDefinition": on_collection(_element_definition),
}
