"""XML Patch (RFC 5261): add, replace and remove by XPath, in a resource's XML form.

Selectors are location paths down from the root, as the RFC's grammar has them; names without a prefix are in the patch's default
namespace, or FHIR's where it has none. Specification: https://www.rfc-editor.org/rfc/rfc5261, https://hl7.org/fhir/R4/http.html#patch
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple, NoReturn

from lxml import etree

from fhir_server.errors import FhirError
from fhir_server.model.xml_reading import from_xml, root_of
from fhir_server.model.xml_writing import FHIR, XHTML, to_xml

MAX_OPERATIONS = 1000
MAX_SELECTOR = 2000
"""Most characters of a selector."""

_KINDS = ("add", "replace", "remove")
_ATTRIBUTES = {"add": {"sel", "pos", "type"}, "replace": {"sel"}, "remove": {"sel", "ws"}}
_TOKENS = re.compile(r"""("[^"]*"|'[^']*')|(@?[A-Za-z_][\w.\-]*(?::[A-Za-z_][\w.\-]*)?)(\s*\()?|(//|::|\||\$|@\*)""")
_NODE_TESTS = frozenset({"text", "comment", "node", "processing-instruction", "id"})
_OPERATORS = frozenset({"and", "or", "div", "mod"})
_ATTRIBUTE_TYPE = re.compile(r"@([A-Za-z_][\w.\-]*)\Z")
_LAST_ATTRIBUTE = re.compile(r"(.*)/@([A-Za-z_][\w.\-]*)\Z", re.DOTALL)


class Operation(NamedTuple):
    """One operation: `element` of the diff, its selector as XPath, and the prefixes of that."""

    kind: str
    element: Any
    selector: str
    prefixes: dict[str, str]
    at: str


def check_xml_patch(raw: bytes) -> list[Operation]:
    """The operations of a patch document. Raises FhirError 400."""
    root_of(raw)  # refuses what is no XML, and document type declarations
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=False, huge_tree=False)
    try:
        diff = etree.fromstring(raw, parser)
    except etree.XMLSyntaxError as fault:
        _refuse(f"The patch is not XML: {fault}", "补丁不是合法的 XML")
    if etree.QName(diff).localname not in ("diff", "patch"):
        _refuse(f"An XML Patch is a <diff>, not a <{etree.QName(diff).localname[:40]}>", "XML Patch 的根元素应为 <diff>")
    found = [_operation(element, number) for number, element in enumerate(one for one in diff if isinstance(one.tag, str))]
    if not found:
        _refuse("The patch has no operation", "补丁中没有任何操作")
    if len(found) > MAX_OPERATIONS:
        _refuse(f"The patch has more than {MAX_OPERATIONS} operations", f"补丁操作超过 {MAX_OPERATIONS} 个")
    return found


def apply_xml_patch(resource: dict[str, Any], operations: list[Operation]) -> dict[str, Any]:
    """The resource after all operations. Raises FhirError 422 where a selector does not meet exactly one node."""
    document = patched_document(etree.fromstring(to_xml(resource)), operations)
    try:
        return from_xml(etree.tostring(document))
    except FhirError as error:
        raise FhirError(422, error.issues, error.headers) from error


def patched_document(document: Any, operations: list[Operation]) -> Any:
    """The root element after all operations."""
    holder = etree.Element("holder")
    holder.append(document)
    for operation in operations:
        _APPLY[operation.kind](holder, operation)
    return _root(holder, "diff")


def _root(holder: Any, at: str) -> Any:
    """The root element, which a patch must leave alone and an element: libxml2 does not survive XPath in a tree that has none."""
    if len(holder) != 1 or not _is_element(holder[0]):
        _fail(at, "the patch must leave exactly one root element", "补丁必须恰好保留一个根元素")
    return holder[0]


def _operation(element: Any, number: int) -> Operation:
    kind = etree.QName(element).localname
    at = f"diff.{kind[:40]}[{number}]"
    if kind not in _KINDS:
        _refuse(f"{at}: '{kind[:40]}' is no operation; there are add, replace and remove", f"{at}：未知操作“{kind[:40]}”", at)
    for name in element.attrib:
        if name not in _ATTRIBUTES[kind]:
            _refuse(f"{at}: the attribute '{name[:40]}' is unknown", f"{at}：未知属性“{name[:40]}”", at)
    selector = element.get("sel", "").strip()
    if not selector:
        _refuse(f"{at}: the attribute 'sel' is missing", f"{at}：缺少 sel 属性", at)
    if len(selector) > MAX_SELECTOR:
        _refuse(f"{at}: the selector is longer than {MAX_SELECTOR} characters", f"{at}：选择器过长", at)
    prefixes = {prefix: space for prefix, space in element.nsmap.items() if prefix}
    prefixes.setdefault("f", FHIR)
    prefixes.setdefault("h", XHTML)
    prefixes["default-"] = element.nsmap.get(None, FHIR)
    path = _path(selector, at)
    try:
        etree.XPath(path, namespaces=prefixes)
    except etree.XPathError as fault:
        _refuse(f"{at}: the selector '{selector[:80]}' is not valid: {fault}", f"{at}：选择器无效：{selector[:80]}", at)
    return Operation(kind, element, path, prefixes, at)


def _path(selector: str, at: str) -> str:
    """The selector with a prefix for names without one. Raises FhirError 400 for what the RFC's grammar does not have."""

    def named(token: re.Match[str]) -> str:
        text, name, call, wrong = token[1], token[2], token[3], token[4]
        if wrong:
            _refuse(f"{at}: '{wrong}' must not stand in a selector", f"{at}：选择器中不允许“{wrong}”", at)
        if text:
            return text
        if call:
            if name not in _NODE_TESTS:
                _refuse(f"{at}: the function {name[:40]}() must not stand in a selector", f"{at}：选择器中不允许函数 {name[:40]}()", at)
            return token[0]
        return name if name[0] == "@" or ":" in name or name in _OPERATORS else f"default-:{name}"

    path = _TOKENS.sub(named, selector)
    return path if path[0] in "/i" else "/" + path


def _found(holder: Any, operation: Operation, path: str | None = None) -> Any:
    tree = etree.ElementTree(_root(holder, operation.at))
    try:
        found = tree.xpath(path or operation.selector, namespaces=operation.prefixes)
    except etree.XPathError as fault:
        _fail(operation.at, f"the selector cannot be followed: {fault}", f"选择器无法执行：{fault}")
    if not isinstance(found, list) or len(found) != 1:
        many, shown = len(found) if isinstance(found, list) else 0, operation.element.get("sel")[:120]
        _fail(
            operation.at,
            f"the selector '{shown}' meets {many} nodes; it must meet one",
            f"选择器“{shown}”命中 {many} 个节点，必须恰为一个",
        )
    return found[0]


def _add(holder: Any, operation: Operation) -> None:
    element, position = operation.element, operation.element.get("pos")
    target = _found(holder, operation)
    if not _is_element(target):
        _fail(operation.at, "something can be added to an element only", "只能向元素添加内容")
    if kind := element.get("type"):
        name = _ATTRIBUTE_TYPE.match(kind)
        if not name:
            _fail(operation.at, f"type '{kind[:40]}' is not of the form @name", f"type“{kind[:40]}”应写作 @名称")
        if name[1] in target.attrib:
            _fail(operation.at, f"the attribute '{name[1]}' is there already", f"属性“{name[1]}”已存在")
        target.set(name[1], element.text or "")
        return
    nodes = [deepcopy(one) for one in element]
    if position in (None, "prepend"):
        at = 0 if position else len(target)
        if element.text and element.text.strip():
            _add_text(target, element.text, at)
        target[at:at] = nodes
    elif position in ("before", "after"):
        parent = target.getparent()
        at = parent.index(target) + (position == "after")
        parent[at:at] = nodes
    else:
        _fail(
            operation.at,
            f"pos '{position[:40]}' is none of prepend, before and after",
            f"pos“{position[:40]}”应为 prepend、before 或 after",
        )


def _is_element(node: Any) -> bool:
    return isinstance(getattr(node, "tag", None), str)


def _add_text(target: Any, text: str, at: int) -> None:
    if at:
        target[at - 1].tail = (target[at - 1].tail or "") + text
    else:
        target.text = text + (target.text or "") if len(target) else (target.text or "") + text


def _attribute(holder: Any, operation: Operation) -> tuple[Any, str] | None:
    """The element and name of the attribute that the selector leads to; None where it leads to another node."""
    path = _LAST_ATTRIBUTE.match(operation.selector)
    if path is None:
        return None
    target = _found(holder, operation, path[1])
    if not _is_element(target):
        _fail(operation.at, f"only an element has attributes, so there is no '@{path[2]}'", f"只有元素才有属性，此处没有“@{path[2]}”")
    if path[2] not in target.attrib:
        _fail(operation.at, f"there is no attribute '{path[2]}'", f"没有属性“{path[2]}”")
    return target, path[2]


def _replace(holder: Any, operation: Operation) -> None:
    element = operation.element
    if attribute := _attribute(holder, operation):
        attribute[0].set(attribute[1], element.text or "")
        return
    target = _found(holder, operation)
    if isinstance(target, str):
        _set_text(target, element.text or "")
        return
    nodes = [deepcopy(one) for one in element]
    if len(nodes) != 1:
        _fail(
            operation.at,
            f"an element is replaced by exactly one node, not by {len(nodes)}",
            f"元素须以恰好一个节点替换，而不是 {len(nodes)} 个",
        )
    nodes[0].tail = target.tail
    parent = target.getparent()
    parent[parent.index(target)] = nodes[0]


def _remove(holder: Any, operation: Operation) -> None:
    if attribute := _attribute(holder, operation):
        del attribute[0].attrib[attribute[1]]
        return
    target = _found(holder, operation)
    if isinstance(target, str):
        _set_text(target, "")
        return
    parent = target.getparent()
    if target.tail:
        before = target.getprevious()
        if before is not None:
            before.tail = (before.tail or "") + target.tail
        else:
            parent.text = (parent.text or "") + target.tail
    target.tail = None
    parent.remove(target)


def _set_text(text: Any, value: str) -> None:
    holder = text.getparent()
    if text.is_text:
        holder.text = value
    else:
        holder.tail = value


_APPLY: dict[str, Callable[[Any, Operation], None]] = {"add": _add, "replace": _replace, "remove": _remove}


def _refuse(what: str, zh: str, at: str = "") -> NoReturn:
    raise FhirError.of(400, "invalid", what, *((at,) if at else ()), zh=zh)


def _fail(at: str, what: str, zh: str) -> NoReturn:
    raise FhirError.of(422, "processing", f"{at}: {what}", at, zh=f"{at}：无法应用补丁：{zh}")
