"""A QuestionnaireResponse against its Questionnaire, item by item.

Specification: https://hl7.org/fhir/R4/questionnaireresponse.html#notes
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fhir_server.fhirpath import FhirPathError, compile_expression
from fhir_server.validation.profiles.context import Context
from fhir_server.validation.profiles.spots import Spot
from fhir_server.validation.questionnaires.answers import SDC, exclusive, extension, faults, value_of
from fhir_server.validation.questionnaires.enabling import enabled
from fhir_server.validation.report import Path, shown
from fhir_server.validation.values import listed

if TYPE_CHECKING:
    from fhir_server.validation.profiles.room import ProfileRoom

UNFINISHED = frozenset({"in-progress", "entered-in-error", "stopped"})
"""States in which answers may still be missing."""
Item = Mapping[str, Any]
Indexed = tuple[int, dict[str, Any]]


class ResponseCheck:
    """Checks responses against the questionnaires that are known."""

    def __init__(self, room: ProfileRoom) -> None:
        self._room = room

    def check(self, spot: Spot, context: Context) -> None:
        """A response: its questionnaire must be known, else nothing can be said."""
        response = spot.value
        canonical = response.get("questionnaire")
        if not isinstance(canonical, str) or not canonical:
            return
        questionnaire = self._contained(response, canonical) or self._room.find(canonical)
        place = (spot.path, "questionnaire", -1)
        if questionnaire is None:
            english = f"the questionnaire {canonical} is not known here, so the answers were not checked against it"
            context.report.add(
                "not-found", place, english, f"问卷 {canonical} 此处未知，未检查答案", severity="warning", rule="questionnaire-unknown"
            )
            return
        if questionnaire.get("resourceType") != "Questionnaire":
            kind = questionnaire.get("resourceType")
            english = f"{canonical} is a {kind}, not a Questionnaire"
            context.report.add("structure", place, english, f"{canonical} 是 {kind}，不是 Questionnaire", rule="questionnaire")
            return
        walk = _Walk(questionnaire, response, context)
        walk.items(listed(questionnaire, "item"), response, spot.path, [response])

    def _contained(self, response: Item, canonical: str) -> Mapping[str, Any] | None:
        if not canonical.startswith("#"):
            return None
        return next((one for one in listed(response, "contained") if one.get("id") == canonical[1:]), None)


class _Walk:
    """One response being walked along its questionnaire."""

    def __init__(self, questionnaire: Mapping[str, Any], response: Item, context: Context) -> None:
        self._questionnaire, self._context = questionnaire, context
        self._complete = response.get("status") not in UNFINISHED
        self._links = set(_links(questionnaire))

    def _add(self, code: str, path: Path, english: str, chinese: str, rule: str, severity: str = "error") -> None:
        url = str(self._questionnaire.get("url", ""))
        self._context.report.add(code, path, english, chinese, severity=severity, rule=rule, profile=url)

    def items(self, questions: list[dict[str, Any]], holder: Item, path: Path, scopes: list[Item]) -> None:
        """The items below a response, an item or an answer."""
        given = [(index, item) for index, item in enumerate(holder.get("item") or ()) if isinstance(item, dict)]
        order = {str(question.get("linkId")): at for at, question in enumerate(questions)}
        last = -1
        for index, item in given:
            link = item.get("linkId")
            place = (path, "item", index)
            if link not in order:
                if link in self._links:
                    self._add(
                        "structure",
                        place,
                        f"the question {shown(link)} stands elsewhere in the questionnaire",
                        f"问题 {shown(link)} 在问卷中的位置不同",
                        "question-place",
                    )
                else:
                    self._add(
                        "not-found",
                        place,
                        f"the questionnaire has no question {shown(link)}",
                        f"问卷中没有问题 {shown(link)}",
                        "question-unknown",
                    )
                continue
            if order[link] < last:
                self._add(
                    "structure",
                    place,
                    f"the question {shown(link)} must stand before the one before it",
                    f"问题 {shown(link)} 的顺序不对",
                    "question-order",
                )
            last = max(last, order[link])
        for question in questions:
            mine = [(index, item) for index, item in given if item.get("linkId") == question.get("linkId")]
            self._question(question, mine, path, scopes)

    def _question(self, question: dict[str, Any], given: list[Indexed], path: Path, scopes: list[Item]) -> None:
        link, kind = str(question.get("linkId")), question.get("type")
        text = shown(link)
        if not enabled(question, scopes) or self._expressed(question, scopes) is False:
            for index, item in given:
                if _answered(item):
                    self._add(
                        "structure",
                        (path, "item", index),
                        f"{text} has an answer, though it is not asked (enableWhen)",
                        f"{text} 未启用，却有答案",
                        "enable-when",
                    )
            return
        if kind == "display":
            for index, item in given:
                if listed(item, "answer"):
                    self._add(
                        "structure",
                        (path, "item", index),
                        f"{text} is only a text, it has no answer",
                        f"{text} 只是说明文字，不能有答案",
                        "answer-display",
                    )
            return
        if question.get("required") is True and self._complete and not any(_answered(item) for _, item in given):
            what, what_zh = ("items of the group", "分组") if kind == "group" else ("answer to the question", "问题")
            self._add(
                "required",
                (path, "item", given[0][0] if given else -1),
                f"the required {what} {text} is missing",
                f"必答{what_zh} {text} 缺失",
                "answer-required",
            )
        if len(given) > 1 and (kind != "group" or not question.get("repeats")):
            self._add(
                "structure",
                (path, "item", given[1][0]),
                f"{text} may stand there once, with all of its answers",
                f"{text} 只能出现一次",
                "answer-once",
            )
        for index, item in given:
            place = (path, "item", index)
            if kind == "group":
                self._group(question, item, place, scopes, text)
            else:
                self._answers(question, item, place, scopes, text)

    def _expressed(self, question: dict[str, Any], scopes: list[Item]) -> bool | None:
        """What the question's enableWhenExpression says; None where there is none, or it cannot be decided."""
        said = extension(question, f"{SDC}enableWhenExpression")
        text = said.get("expression") if isinstance(said, dict) else None
        if not isinstance(text, str):
            return None
        try:
            return compile_expression(text).test(dict(scopes[0]), variables={"questionnaire": dict(self._questionnaire)})
        except FhirPathError:
            return None

    def _group(self, question: dict[str, Any], item: dict[str, Any], path: Path, scopes: list[Item], text: str) -> None:
        if listed(item, "answer"):
            self._add("structure", path, f"{text} is a group, it has no answer", f"{text} 是分组，不能有答案", "answer-group")
        self.items(listed(question, "item"), item, path, [*scopes, item])

    def _answers(self, question: dict[str, Any], item: dict[str, Any], path: Path, scopes: list[Item], text: str) -> None:
        answers = [(index, answer) for index, answer in enumerate(item.get("answer") or ()) if isinstance(answer, dict)]
        kind, repeats = question.get("type"), question.get("repeats") is True
        if kind == "question" and answers:
            self._add(
                "structure", path, f"{text} is an abstract question, it has no answer", f"{text} 是抽象问题，不能有答案", "answer-question"
            )
            return
        if len(answers) > 1 and not repeats:
            self._add(
                "structure",
                path,
                f"{text} takes one answer, not {len(answers)}",
                f"{text} 只能有一个答案，实际 {len(answers)} 个",
                "answer-once",
            )
        self._occurs(question, len(answers), path, text)
        if listed(item, "item"):
            self._add(
                "structure",
                path,
                f"what is asked below {text} stands below its answer",
                f"{text} 的下级问题必须放在答案之下",
                "answer-nesting",
            )
        for index, answer in answers:
            place = (path, "answer", index)
            found = value_of(answer)
            if found is not None:
                for code, english, chinese, rule in faults(question, *found, self._context, self._questionnaire):
                    self._add(code, place, f"{text}: {english}", f"{text}：{chinese}", rule)
                if len(answers) > 1 and exclusive(question, found[1]):
                    self._add(
                        "structure",
                        place,
                        f"{text}: the option excludes all others",
                        f"{text}：该选项不能与其他选项同时选择",
                        "answer-exclusive",
                    )
            self.items(listed(question, "item"), answer, place, [*scopes, item, answer])
        if not answers:
            for below in listed(question, "item"):
                self._question(below, [], path, [*scopes, item])

    def _occurs(self, question: dict[str, Any], have: int, path: Path, text: str) -> None:
        low, high = extension(question, "questionnaire-minOccurs"), extension(question, "questionnaire-maxOccurs")
        if isinstance(low, int) and have < low and self._complete and (have or question.get("required") or low > 1):
            self._add(
                "required",
                path,
                f"{text} needs at least {low} answers, not {have}",
                f"{text} 至少要有 {low} 个答案，实际 {have} 个",
                "answer-occurs",
            )
        if isinstance(high, int) and have > high:
            self._add(
                "structure",
                path,
                f"{text} takes at most {high} answers, not {have}",
                f"{text} 最多 {high} 个答案，实际 {have} 个",
                "answer-occurs",
            )


def _links(holder: Mapping[str, Any]) -> Iterator[str]:
    for item in listed(holder, "item"):
        yield str(item.get("linkId"))
        yield from _links(item)


def _answered(item: Item) -> bool:
    """Whether an item or something below it has an answer."""
    return bool(listed(item, "answer")) or any(_answered(one) for one in listed(item, "item"))
