"""The functions that FHIR adds: extension, resolve, hasValue, memberOf, conformsTo ...

Specification: https://hl7.org/fhir/R4/fhirpath.html#functions
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fhir_server.fhirpath.code import Code, of_truth
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluation import Env, described, described_zh, single, string
from fhir_server.fhirpath.functions.declare import Function, Site, on_collection, on_condition
from fhir_server.fhirpath.items import Collection, Item, add_member, of_object, unwrapped, wrapped
from fhir_server.fhirpath.references import resolved
from fhir_server.model.definitions import definitions
from fhir_server.model.xhtml import narrative_fault

_BASE = "http://hl7.org/fhir/StructureDefinition/"


def _extensions(items: Collection, url: str | None) -> Collection:
    found: Collection = []
    for item in items:
        add_member(item, "extension", found)
    return [one for one in found if one.value.__class__ is dict and one.value.get("url") == url]


def _extension(site: Site) -> Code:
    source, url, name = site.input, site.argument(0), site.name

    def evaluate(focus: Collection, env: Env) -> Collection:
        items = source(focus, env)
        return _extensions(items, string(url(focus, env), name)) if items else items

    return Code(evaluate)


def _has_extension(site: Site) -> Code:
    found = _extension(site).many
    return of_truth(lambda focus, env: bool(found(focus, env)))


def _has_value(items: Collection) -> bool:
    if len(items) != 1:
        return False
    item = items[0]
    return item.__class__ is not Item or (item.kind.primitive and item.value is not None)


def _get_value(items: Collection) -> Collection:
    """The System value of a primitive."""
    if not _has_value(items):
        return []
    item = items[0]
    return [unwrapped(item) if item.__class__ is not Item else _plain(item)]


def _plain(item: Item) -> Any:
    converted = item.kind.convert(item.value) if item.kind.convert else item.value
    return unwrapped(converted)


def _resolve(site: Site) -> Code:
    source = site.input

    def evaluate(focus: Collection, env: Env) -> Collection:
        items = source(focus, env)
        env.spend(len(items))
        return [found for item in items if (found := resolved(item, env)) is not None]

    return Code(evaluate)


def _terminology(site: Site) -> Code:
    """memberOf, subsumes, subsumedBy, through the terminology port."""
    source, other, name = site.input, site.argument(0), site.name
    function = site.node.name

    def truth(focus: Collection, env: Env) -> bool | None:
        item, given = single(source(focus, env), name), single(other(focus, env), name)
        if item is None or given is None:
            return None
        if env.terminology is None:
            raise FhirPathError(f"{name} needs a terminology service, and there is none here", f"{name} 需要术语服务，此处没有")
        return env.terminology(function, wrapped(item), wrapped(given).value)

    return of_truth(truth)


def _conforms(site: Site) -> Code:
    source, profile, name = site.input, site.argument(0), site.name

    def truth(focus: Collection, env: Env) -> bool | None:
        item, url = single(source(focus, env), name), string(profile(focus, env), name)
        if item is None or url is None:
            return None
        if item.__class__ is not Item:
            raise FhirPathError(f"{name} needs an element, not {described(item)}", f"{name} 需要元素，而不是{described_zh(item)}")
        type_name = url.removeprefix(_BASE)
        if url.startswith(_BASE) and type_name in definitions().types:
            return type_name in item.kind.bases
        found = env.conforms(item.value, url) if env.conforms else None
        if found is None:
            raise FhirPathError(f"conformsTo('{url}'): this profile is not known here", f"conformsTo('{url}')：本机没有此 profile")
        return found

    return of_truth(truth)


def _html_checks(rules: Callable[[str], bool]) -> Function:
    return on_condition(lambda items: all(item.__class__ is Item and isinstance(item.value, str) and rules(item.value) for item in items))


def _check_modifiers(site: Site) -> Code:
    """The input, when no other modifier extension than those named is on it; else an error."""
    source, name = site.input, site.name
    allowed = [site.argument(place) for place in range(site.given)]

    def evaluate(focus: Collection, env: Env) -> Collection:
        items = source(focus, env)
        urls = {string(one(focus, env), name) for one in allowed}
        for item in items:
            found: Collection = []
            add_member(item, "modifierExtension", found)
            for extension in found:
                if extension.value.get("url") not in urls:
                    given = extension.value.get("url")
                    what = f"checkModifiers(): the modifier extension {given} is not expected"
                    raise FhirPathError(what, f"checkModifiers()：不应有修饰扩展 {given}")
        return items

    return Code(evaluate)


def _element_definition(items: Collection) -> Collection:
    """The ElementDefinition that an element's type gives it; FHIR's own definitions, no profile."""
    found: Collection = []
    for item in items:
        if item.__class__ is Item and not item.is_system:
            path = item.type
            structure = definitions().resource(_BASE + path.split(".")[0])
            for element in (structure or {}).get("snapshot", {}).get("element", ()):
                if element.get("path") == path:
                    made = of_object(element)
                    found.append(made)
                    break
    return found


FUNCTIONS = {
    "extension": Function(_extension, 1, 1),
    "hasExtension": Function(_has_extension, 1, 1),
    "hasValue": on_condition(_has_value),
    "getValue": on_collection(_get_value),
    "resolve": Function(_resolve),
    "memberOf": Function(_terminology, 1, 1),
    "subsumes": Function(_terminology, 1, 1),
    "subsumedBy": Function(_terminology, 1, 1),
    "conformsTo": Function(_conforms, 1, 1),
    "htmlChecks": _html_checks(lambda div: narrative_fault(div) is None),
    "htmlChecks2": _html_checks(lambda div: narrative_fault(div) is None),
    "checkModifiers": Function(_check_modifiers, 0, 50),
    "elementDefinition": on_collection(_element_definition),
}
