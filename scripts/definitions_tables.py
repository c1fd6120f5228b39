"""Compiles StructureDefinitions, SearchParameters and CompartmentDefinitions into the tables that the server loads."""

from __future__ import annotations

from typing import Any

Resource = dict[str, Any]
_CORE = "http://hl7.org/fhir/StructureDefinition/"
_FHIR_TYPE = _CORE + "structuredefinition-fhir-type"
_REGEX = _CORE + "regex"
_MAX_VALUE_SET = _CORE + "elementdefinition-maxValueSet"


def _type_code(type_: Resource) -> str:
    for extension in type_.get("extension", ()):
        if extension["url"] == _FHIR_TYPE:
            return extension.get("valueUrl") or extension.get("valueUri")
    code = type_["code"]
    return "string" if code.startswith("http://hl7.org/fhirpath/System.") else code


def _type(type_: Resource) -> list[Any]:
    targets = [t.removeprefix(_CORE).split("|")[0] for t in type_.get("targetProfile", ())]
    return [_type_code(type_), targets]


def _element(element: Resource, name: str, path: str) -> dict[str, Any]:
    out: dict[str, Any] = {
        "n": name.removesuffix("[x]"),
        "min": element["min"],
        "max": None if element["max"] == "*" else int(element["max"]),
    }
    if name.endswith("[x]"):
        out["x"] = 1
    if "contentReference" in element:
        out["ref"] = element["contentReference"].removeprefix("#")
    else:
        out["t"] = [_type(t) for t in element.get("type", ())]
    binding = element.get("binding")
    if binding and "valueSet" in binding:
        out["b"] = [binding["strength"], binding["valueSet"]]
        for extension in binding.get("extension", ()):
            if extension["url"] == _MAX_VALUE_SET:
                out["mb"] = extension.get("valueCanonical") or extension["valueUri"]
    if element.get("isSummary"):
        out["s"] = 1
    if element.get("isModifier"):
        out["m"] = 1
    constraints = [
        [c["key"], c["severity"], c["human"], c["expression"]]
        for c in element.get("constraint", ())
        if c.get("expression") and c["key"] not in ("ele-1", "ext-1")
    ]
    if constraints:
        out["c"] = constraints
    return out


def _structure(definition: Resource, types: dict[str, Any]) -> None:
    root = definition["type"]
    kind = {"primitive-type": "primitive", "complex-type": "complex", "resource": "resource"}[definition["kind"]]
    elements = definition["snapshot"]["element"]
    base = definition.get("baseDefinition", "").removeprefix(_CORE) or None
    types[root] = {"kind": kind, "base": base, "abstract": definition["abstract"], "e": []}
    if c := _element(elements[0], root, root).get("c"):
        types[root]["c"] = c
    if kind == "primitive":
        for element in elements:
            if element["path"] == f"{root}.value":
                for ext in element["type"][0].get("extension", ()):
                    if ext["url"] == _REGEX:
                        types[root]["regex"] = ext["valueString"]
    for element in elements[1:]:
        parent, _, name = element["path"].rpartition(".")
        if parent != root and parent not in types:
            types[parent] = {"kind": "backbone", "base": None, "abstract": False, "e": []}
        types[parent]["e"].append(_element(element, name, element["path"]))
    for element in elements[1:]:
        if element["path"] in types and element["path"] != root:
            types[element["path"]]["base"] = element["type"][0]["code"]


def _search(parameter: Resource) -> dict[str, Any]:
    keep = ("url", "code", "type", "base", "expression", "target", "comparator", "modifier", "chain")
    out = {name: parameter[name] for name in keep if name in parameter}
    if "component" in parameter:
        out["component"] = [[c["definition"], c["expression"]] for c in parameter["component"]]
    return out


def compile_tables(resources: list[Resource], expander: Any) -> dict[str, Any]:
    from definitions_expansion import NotEnumerable

    types: dict[str, Any] = {}
    for r in resources:
        if (
            r["resourceType"] == "StructureDefinition"
            and r.get("derivation") != "constraint"
            and r["kind"] in ("primitive-type", "complex-type", "resource")
        ):
            _structure(r, types)
    search = [_search(r) for r in resources if r["resourceType"] == "SearchParameter"]
    compartments = {
        r["code"]: {x["code"]: x["param"] for x in r["resource"] if x.get("param")}
        for r in resources
        if r["resourceType"] == "CompartmentDefinition"
        and r["url"].startswith("http://hl7.org/fhir/CompartmentDefinition/")
        and r["id"] != "example"
    }
    codes: dict[str, Any] = {}
    for table in types.values():
        for e in table["e"]:
            if "b" in e and e["b"][0] == "required":
                vs = e["b"][1]
                if vs in codes:
                    continue
                try:
                    grouped: dict[str, list[str]] = {}
                    for system, code in sorted(expander.expand(vs)):
                        grouped.setdefault(system, []).append(code)
                    codes[vs] = grouped
                except NotEnumerable:
                    codes[vs] = None
    return {"types": types, "search": search, "compartments": compartments, "codes": codes}
