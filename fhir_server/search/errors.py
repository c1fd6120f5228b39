"""What can be wrong with a search, said with the parameter's name and, where it is close to a known one, a suggestion."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

from fhir_server.errors import FhirError, Issue

_LONGEST = 100
"""Characters of a client's text that an answer repeats."""
_SENTENCE = 400
"""Characters of a rule, which may quote the client's text once more."""
_FEW = 12
"""Up to so many known names are told where none is close."""
_KINDS = {
    "search parameter": "检索参数",
    "reference parameter": "引用型检索参数",
    "sort key": "排序键",
    "modifier": "修饰符",
    "prefix": "前缀",
    "operator": "运算符",
    "element": "元素",
    "resource type": "资源类型",
    "compartment": "区间",
}


def shown(text: str, longest: int = _LONGEST) -> str:
    """A client's text as an answer may repeat it: not long, and without characters that cannot be seen or stand in no FHIR string."""
    text = text if len(text) <= longest else text[:longest] + "…"
    return text if text.isprintable() else "".join(one if one.isprintable() else _named(one) for one in text)


def _named(one: str) -> str:
    """␀ for U+0000 and so on up to U+001F; <U+202E> for what else is not to be seen."""
    if one < " ":
        return chr(0x2400 + ord(one))
    return one if unicodedata.category(one) == "Zs" else f"<U+{ord(one):04X}>"


def close_names(name: str, known: Iterable[str]) -> tuple[list[str], list[str]]:
    """The known names that are close to one, and all of them where there are few and none is close."""
    there = {one.lower(): one for one in known}
    # Of two letters of a prefix one may be wrong.
    near = difflib.get_close_matches(name.lower(), there, n=2, cutoff=0.5 if len(name) < 3 else 0.6) if len(name) <= _LONGEST else []
    return [there[one] for one in near], list(there.values()) if not near and len(there) <= _FEW else []


def unknown(kind: str, name: str, of: str, known: Iterable[str], of_zh: str = "") -> FhirError:
    """A name that does not exist: kind 'search parameter', 'modifier' ...; `of_zh` is `of` in Chinese where it is more than a name."""
    near, few = close_names(name, known)
    what = f"The {kind} '{shown(name)}' is not known for {shown(of, _SENTENCE)}"
    zh = f"不支持{_KINDS.get(kind, kind)}“{shown(name)}”（{shown(of_zh or of, _SENTENCE)}）"
    if near:
        what += f"; did you mean {' or '.join(map(repr, near))}?"
        zh += f"；是否应为 {' 或 '.join(near)}？"
    elif few:
        what += f"; known: {', '.join(few)}"
        zh += f"；可用：{'、'.join(few)}"
    return FhirError.of(400, "not-supported", what, zh=zh)


def invalid(parameter: str, value: str, rule: str, zh: str) -> FhirError:
    """A value that breaks a rule of its kind; `zh` is the rule in Chinese."""
    what = f"{shown(parameter)}={shown(value)}" if value else shown(parameter)
    rule_zh = shown(zh, _SENTENCE)
    chinese = (
        f"检索参数 {shown(parameter)} 的值无效：{shown(value)}（{rule_zh}）" if value else f"检索参数 {shown(parameter)} 无效：{rule_zh}"
    )
    return FhirError.of(400, "invalid", f"{what}: {shown(rule, _SENTENCE)}", zh=chinese)


def not_yet(what: str, zh: str) -> FhirError:
    """Something of the specification that this server does not do yet."""
    return FhirError.of(501, "not-supported", f"{what} is not supported yet", zh=f"暂不支持{zh}")


def not_ready(type: str, code: str, done: int, total: int) -> FhirError:
    """A parameter that the site has defined and by which not all resources are indexed yet: better no answer than a part of it."""
    what = f"The search parameter '{code}' of {type} is not ready: {done} of {total} resources indexed; it is served when all are"
    zh = f"{type} 的检索参数 {code} 尚未就绪：已索引 {done}/{total}"
    return FhirError.of(503, "transient", what, zh=zh, headers=[("Retry-After", "2")])


def index_not_ready(done: int, total: int) -> FhirError:
    """The whole index is being made anew; reads by id, histories and writes without criteria go on."""
    what = f"The search index is being made anew: {done} of {total} resources indexed; searches are served when all are"
    return FhirError.of(503, "transient", what, zh=f"正在重建索引：已完成 {done}/{total}", headers=[("Retry-After", "5")])


def words_not_ready(done: int, total: int) -> FhirError:
    """The index of words, which the first search for words begins, is being made."""
    share = 100 * done // max(1, total)
    what = f"The index of words (_text, _content, :text) is being made: {share} % is done; ask again in a while, all other searches go on"
    zh = f"正在建立全文索引：已完成 {share}%，请稍后重试；其他检索不受影响"
    return FhirError.of(503, "transient", what, zh=zh, headers=[("Retry-After", "5")])


def issue_of(fault: FhirError) -> Issue:
    """The issue of a lenient search: a warning instead of a refusal."""
    first = fault.issues[0]
    return Issue(first.code, first.diagnostics, first.expression, "warning", first.zh)
