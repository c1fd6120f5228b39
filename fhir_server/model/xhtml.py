"""What XHTML a narrative may hold: well-formed, no scripts, no outside content.

Specification: https://hl7.org/fhir/R4/narrative.html#xhtml (txt-1, txt-2)
"""

from __future__ import annotations

import re
from xml.parsers import expat

_NAMESPACE = "http://www.w3.org/1999/xhtml"
ELEMENTS = frozenset(
    [
        "a",
        "abbr",
        "acronym",
        "b",
        "big",
        "blockquote",
        "br",
        "caption",
        "cite",
        "code",
        "col",
        "colgroup",
        "dd",
        "dfn",
        "div",
        "dl",
        "dt",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "img",
        "li",
        "ol",
        "p",
        "pre",
        "q",
        "samp",
        "small",
        "span",
        "strong",
        "sub",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "tt",
        "ul",
        "var",
    ]
)
ATTRIBUTES = frozenset(
    [
        "abbr",
        "accesskey",
        "align",
        "alt",
        "axis",
        "bgcolor",
        "border",
        "cellhalign",
        "cellpadding",
        "cellspacing",
        "cellvalign",
        "char",
        "charoff",
        "charset",
        "cite",
        "class",
        "colspan",
        "compact",
        "coords",
        "dir",
        "frame",
        "headers",
        "height",
        "href",
        "hreflang",
        "hspace",
        "id",
        "lang",
        "longdesc",
        "name",
        "nowrap",
        "rel",
        "rev",
        "rowspan",
        "rules",
        "scope",
        "shape",
        "span",
        "src",
        "start",
        "style",
        "summary",
        "tabindex",
        "title",
        "type",
        "valign",
        "value",
        "vspace",
        "width",
        "xml:lang",
        "xml:space",
        "xmlns",
        "xml:id",
    ]
)
# Named entities of XHTML may stand in a narrative although no DTD declares them there.
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
_XML_ENTITIES = {"amp", "lt", "gt", "quot", "apos"}
_ACTIVE = re.compile(r"\s*(?:javascript|vbscript|data(?!:image/))", re.I)


def narrative_fault(div: str) -> str | None:
    """Why a narrative's `div` is not allowed (txt-1), or None. Emptiness (txt-2) is let pass: official examples have it."""
    if "<!DOCTYPE" in div or "<!ENTITY" in div:
        return "must not have a document type"
    faults: list[str] = []
    depth = [0]

    def start(name: str, attributes: dict[str, str]) -> None:
        if depth[0] == 0:
            if name != "div":
                faults.append(f"must be a <div>, not <{name}>")
            if attributes.get("xmlns") != _NAMESPACE:
                faults.append(f'must have xmlns="{_NAMESPACE}"')
        depth[0] += 1
        if name not in ELEMENTS:
            faults.append(f"must not hold <{name}>")
        for attribute, value in attributes.items():
            if attribute not in ATTRIBUTES and not attribute.startswith("xmlns:"):
                faults.append(f"must not hold the attribute {attribute} on <{name}>")
            elif attribute in ("href", "src") and _ACTIVE.match(value):
                faults.append(f"must not hold active content in {attribute}")

    def end(name: str) -> None:
        depth[0] -= 1

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    text = _ENTITY.sub(lambda found: found[0] if found[1] in _XML_ENTITIES else " x ", div)
    try:
        parser.Parse(text.encode("utf-8", "surrogatepass"), True)
    except expat.ExpatError as fault:
        return f"is not well-formed XHTML: {expat.ErrorString(fault.code)} at line {fault.lineno}, column {fault.offset + 1}"
    if faults:
        return faults[0]
    return None
