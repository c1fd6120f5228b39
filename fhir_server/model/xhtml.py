"""What XHTML a narrative may hold: well-formed, basic formatting only, no scripts, no outside content.

Specification: https://hl7.org/fhir/R4/narrative.html#xhtml (txt-1, txt-2); elements and attributes are those of fhir-xhtml.xsd,
and the presentational ones of HTML 4.0 chapters 7-11 and 15 that the specification's text permits.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from xml.parsers import expat

_NAMESPACE = "http://www.w3.org/1999/xhtml"

ELEMENTS = frozenset(
    {
        "a", "abbr", "acronym", "address", "area", "b", "bdo", "big", "blockquote", "br", "caption", "cite", "code", "col", "colgroup",
        "dd", "del", "dfn", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "map",
        "ol", "p", "pre", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th",
        "thead", "tr", "tt", "u", "ul", "var",
    }
)  # fmt: skip
ATTRIBUTES = frozenset(
    {
        "abbr", "accesskey", "align", "alt", "axis", "bgcolor", "border", "cellpadding", "cellspacing", "char", "charoff", "charset",
        "cite", "class", "clear", "color", "colspan", "compact", "coords", "datetime", "dir", "frame", "headers", "height", "href",
        "hreflang", "hspace", "id", "ismap", "lang", "longdesc", "name", "nohref", "noshade", "nowrap", "rel", "rev", "rowspan",
        "rules", "scope", "shape", "size", "span", "src", "start", "style", "summary", "tabindex", "title", "type", "usemap", "valign",
        "value", "vspace", "width", "xml:id", "xml:lang", "xml:space", "xmlns",
    }
)  # fmt: skip

_XML_BLANKS = " \t\r\n"
"""txt-2 is given in XPath too (`normalize-space(.) != ''`, `h:img[@src]`): these blanks count, a no-break space is content."""

_LINKING = frozenset({"cite", "href", "longdesc", "src", "usemap"})

# Most short narratives are plain text in one div; they need no parser.
_TEXT = r"[^<&\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]*"
_PLAIN = re.compile(rf'<div xmlns="http://www\.w3\.org/1999/xhtml">(?={_TEXT}[^<&\s]){_TEXT}</div>\Z')
_ROOT = f'<div xmlns="{_NAMESPACE}"'
_TAGS = re.compile(r"<([^\s/>]+)").findall
_NAMES = re.compile(r"""\s([^\s=<>"'/]+)\s*=\s*["']""").findall
_LINKS = re.compile(r"""\s(?:cite|href|longdesc|src|usemap)\s*=\s*["'](?!https?:|mailto:|tel:|#|[\w./-]*["'#?])""").search
_CONTENT = re.compile(r">[ \t\r\n]*[^<& \t\r\n]|<img\s+(?:[a-z]+=\"[^\"]*\"\s+)*src=").search
_GREATER_IN_VALUE = re.compile(r"""=\s*(?:"[^"<]*>|'[^'<]*>)""").search
_PRINTED_EMPTY = re.compile(r"<div[^<>]*>[ \t\r]*\n[ \t\r\n]*</div>\s*\Z").match
_NAMED_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)[A-Za-z][A-Za-z0-9]*;")
_ACTIVE = re.compile(r"(?:javascript|vbscript|data):", re.I)
_BLANKS_IN_URL = re.compile(r"[\x00-\x20]+")  # browsers drop some of them, so that "java&#9;script:" would run
_IMAGE = re.compile(r"data:image/", re.I)


class NarrativeProblem(NamedTuple):
    """What is wrong with a `div`: `malformed` when it is no XHTML at all, else it breaks `rule` (txt-1 or txt-2).

    `lenient`: a warning only, for an empty div printed over two lines; the official example eventdefinition-example has one.
    """

    malformed: bool
    rule: str
    english: str
    chinese: str
    lenient: bool = False


class _Reader:
    """What the parser meets: the first problem, and whether there is any content."""

    def __init__(self) -> None:
        self.depth = 0
        self.content = False
        self.problem: NarrativeProblem | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self.depth == 0:
            self._root(name, attributes)
        self.depth += 1
        if name not in ELEMENTS:
            self._refuse(f"must not hold the element <{name[:40]}>", f"不得含有 <{name[:40]}> 元素")
        elif name == "img" and "src" in attributes:
            self.content = True
        for attribute, value in attributes.items():
            if attribute not in ATTRIBUTES and not attribute.startswith("xmlns:"):
                self._refuse(f"must not hold the attribute {attribute[:40]} on <{name}>", f"<{name}> 不得有 {attribute[:40]} 属性")
            elif attribute == "xmlns" and value != _NAMESPACE and self.depth > 1:
                self._refuse(f"must not leave the XHTML namespace at <{name}>", f"<{name}> 不得离开 XHTML 命名空间")
            elif attribute in _LINKING and _is_active(attribute, value):
                self._refuse(f"must not hold active content in {attribute} of <{name}>", f"<{name}> 的 {attribute} 不得含活动内容")

    def _root(self, name: str, attributes: dict[str, str]) -> None:
        if name != "div":
            self._refuse(f"must be a <div>, not <{name[:40]}>", f"根元素必须是 <div>，而不是 <{name[:40]}>")
        if attributes.get("xmlns") != _NAMESPACE:
            self._refuse(f'must have xmlns="{_NAMESPACE}" on its <div>', f'<div> 必须有 xmlns="{_NAMESPACE}"')

    def _refuse(self, english: str, chinese: str) -> None:
        if self.problem is None:
            self.problem = NarrativeProblem(False, "txt-1", english, chinese)

    def end(self, name: str) -> None:
        self.depth -= 1

    def characters(self, data: str) -> None:
        if not self.content:
            self.content = bool(data.strip(_XML_BLANKS))


def _is_active(attribute: str, value: str) -> bool:
    """Whether a link would run something: scripts, and data other than an image that is shown."""
    target = _BLANKS_IN_URL.sub("", value)
    return _ACTIVE.match(target) is not None and not (attribute == "src" and _IMAGE.match(target))


def _surely_allowed(div: str) -> bool:
    """Whether all names in a well-formed `div` are allowed, by a look at the text: true only if so, in a third of the time."""
    return (
        div.startswith(_ROOT)
        and div.count("xmlns") == 1
        and "<!" not in div
        and "<?" not in div
        and ELEMENTS.issuperset(_TAGS(div.replace("</", "")))
        and ATTRIBUTES.issuperset(_NAMES(div))
        and not _LINKS(div)
        and _CONTENT(div) is not None
        and not _GREATER_IN_VALUE(div)
    )


def narrative_problem(div: str) -> NarrativeProblem | None:
    """Why a narrative's `div` is refused, or None."""
    if _PLAIN.match(div) and "]]>" not in div:
        return None
    if _surely_allowed(div):
        try:
            expat.ParserCreate().Parse(div.encode("utf-8", "surrogatepass"), True)
            return None
        except expat.ExpatError:
            pass  # read below once more, to say where
    if "<!DOCTYPE" in div or "<!ENTITY" in div:
        return NarrativeProblem(True, "txt-1", "must not have a document type", "不得含有 DOCTYPE")
    if found := _NAMED_ENTITY.search(div):
        why = f"must not use the HTML entity {found[0]}; write the character itself or its number"
        return NarrativeProblem(True, "txt-1", why, f"不得使用 HTML 实体 {found[0]}，请直接写字符或其数字形式")
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    try:
        parser.Parse(div.encode("utf-8", "surrogatepass"), True)
    except expat.ExpatError as fault:
        why = f"is not well-formed XHTML: {expat.ErrorString(fault.code)} at line {fault.lineno}, column {fault.offset + 1}"
        return NarrativeProblem(True, "txt-1", why, f"不是格式良好的 XHTML：第 {fault.lineno} 行第 {fault.offset + 1} 列")
    if reader.problem:
        return reader.problem
    if reader.content:
        return None
    return NarrativeProblem(False, "txt-2", "must have some text or an image", "必须有文字或图片", _PRINTED_EMPTY(div) is not None)


class Section(NamedTuple):
    """A part of a narrative that stands right below its root: an element, or text."""

    language: str
    """Of a `div` with xml:lang (or lang), else ''."""
    classes: frozenset[str]
    text: str
    """Its first words."""


class _Sections:
    def __init__(self) -> None:
        self.depth = 0
        self.found: list[tuple[str, frozenset[str], list[str]]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self.depth == 1:
            language = attributes.get("xml:lang") or attributes.get("lang") or "" if name == "div" else ""
            self.found.append((language, frozenset(attributes.get("class", "").split()), []))
        self.depth += 1

    def end(self, name: str) -> None:
        self.depth -= 1

    def characters(self, data: str) -> None:
        if self.depth == 1:
            if data.strip():
                self.found.append(("", frozenset(), [data]))
        elif self.depth > 1:
            self.found[-1][2].append(data)


def sections_of(div: str) -> list[Section]:
    """The parts right below the root of a narrative, in order; none where it is not well-formed."""
    reader = _Sections()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.characters
    try:
        parser.Parse(div.encode("utf-8", "surrogatepass"), True)
    except expat.ExpatError:
        return []
    return [Section(language, classes, " ".join("".join(texts).split())[:60]) for language, classes, texts in reader.found]


def narrative_fault(div: str) -> str | None:
    """Why a narrative's `div` is not allowed, or None (FHIRPath `htmlChecks()`)."""
    problem = narrative_problem(div)
    return problem.english if problem else None
