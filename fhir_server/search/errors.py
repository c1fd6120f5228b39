"""What can be wrong with a search, said with the parameter's name and, where it is close to a known one, a suggestion."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from fhir_server.errors import FhirError, Issue


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(one) for one in close)}?" if close else ""


def unknown(kind: str, name: str, of: str, known: Iterable[str]) -> FhirError:
    """A name that does not exist: kind 'search parameter', 'modifier' ..."""
    what = f"The {kind} '{name}' is not known for {of}{_suggestion(name, known)}"
    return FhirError.of(400, "not-supported", what, zh=f"{of} 不支持 {kind} “{name}”")


def invalid(parameter: str, value: str, rule: str) -> FhirError:
    """A value that breaks a rule of its kind."""
    shown = value if len(value) <= 100 else value[:100] + "…"
    what = f"{parameter}={shown}" if value else parameter
    return FhirError.of(400, "invalid", f"{what}: {rule}", zh=f"检索参数 {parameter} 的值无效：{shown}")


def not_yet(what: str) -> FhirError:
    """Something of the specification that this server does not do yet."""
    return FhirError.of(501, "not-supported", f"{what} is not supported yet", zh=f"暂不支持 {what}")


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
