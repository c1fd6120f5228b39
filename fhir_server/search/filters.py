"""One search parameter with its modifiers and chains → a criterion.

Specification: https://hl7.org/fhir/R4/search.html#modifiers, https://hl7.org/fhir/R4/search.html#chaining
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from fhir_server.errors import FhirError
from fhir_server.fhirpath.typed import typed_paths
from fhir_server.model.references import ID
from fhir_server.search import values_of
from fhir_server.search.composites import parts_of
from fhir_server.search.controls import NAMES as CONTROLS
from fhir_server.search.errors import invalid, not_yet, shown, unknown
from fhir_server.search.expressions import Expressions
from fhir_server.search.parameters import NEAR, Parameter, Registry
from fhir_server.search.phrases import text_criterion
from fhir_server.search.query import And, Chain, Criterion, Has, Ids, KeyMatch, NamedBy, Naming, Not, Paired, Phrase, Present, Worded
from fhir_server.search.sets import SETS, Sets
from fhir_server.search.values_of import Scope, split, unescape, union
from fhir_server.search.words import named_values, words

MAX_KEYS = 10_000
"""Most codes, ids, references or URIs that one parameter may offer with commas: each is one look into an index."""
MAX_CHOICES = 2000
"""Most values of other kinds."""
MAX_TEXTS = 200
"""Most beginnings or parts of texts, each of which is compared with many."""
MAX_VALUES = 100_000
"""Most values in all: chains and searches over several types ask each of them of every type."""
_LOOKED_UP = ("token", "reference", "uri")
MAX_CHAIN = 24
MAX_WAYS = 2000
"""Most combinations of types through which the chains of a search may lead: each unnamed type multiplies them."""
_FULL_TEXT = {"_text": "narrative", "_content": "content"}
_ON_ALL = ("_id", "_lastUpdated", "_has", "_list", "_filter", *_FULL_TEXT)
_MODIFIERS = {
    "string": ("exact", "contains", "missing"),
    "token": ("not", "missing", "text", "in", "not-in", "above", "below", "of-type"),
    "reference": ("identifier", "missing", "above", "below"),
    "uri": ("missing", "above", "below"),
    "date": ("missing",),
    "number": ("missing",),
    "quantity": ("missing",),
}


class Filters:
    """Turns filters into criteria over one registry; `scope` carries zone and own base URLs."""

    def __init__(self, registry: Registry, scope: Scope) -> None:
        self._registry = registry
        self._scope = scope
        self._sets = Sets(registry, scope)
        self.restart()

    def restart(self) -> None:
        """Forget what was counted: another search begins."""
        self._ways = self._values = 0

    def filter(self, type: str, name: str, value: str, depth: int = 0) -> Criterion:
        """One parameter of one type as a criterion: AND is repetition, OR is comma."""
        if depth > MAX_CHAIN:
            raise invalid(name, value, f"chains have {MAX_CHAIN} links at most", f"链式参数最多 {MAX_CHAIN} 级")
        if name == "_has" or name.startswith("_has:"):
            return self._has(type, name, value, depth)
        first, dot, rest = name.partition(".")
        base, _, modifier = first.partition(":")
        if dot:
            inner = rest.partition(".")[0].partition(":")[0]
            return self.chain(type, name, base, modifier, inner, lambda target: self.filter(target, rest, value, depth + 1))
        if base == "_filter":
            if modifier:
                raise unknown("modifier", modifier, base, [])
            return Expressions(self, self._registry, self._scope).criterion(type, value)
        choices = split(value, ",")
        parameter = self._registry.get(type, base)
        self._count(parameter, base, modifier, value, len(choices))
        if any(not choice for choice in choices):
            raise invalid(name, value, "a value between commas is empty", "逗号之间有空值")
        if base in ("_id", "_lastUpdated"):
            return self._built_in(base, modifier, choices)
        if base == "_list":
            return self._list(name, modifier, choices)
        if base in _FULL_TEXT:
            if modifier:
                raise unknown("modifier", modifier, base, [])
            return union([text_criterion(name, _FULL_TEXT[base], unescape(choice)) for choice in choices])
        if base == "_query":
            what = f"_query={shown(value)}: no named queries are defined on this server"
            raise FhirError.of(400, "not-supported", what, zh=f"本服务器没有定义命名查询：_query={shown(value)}")
        if parameter is None:
            raise unknown("search parameter", base, type, [*self._registry.codes(type), *(() if depth else CONTROLS)])
        if modifier == "missing":
            return self._missing(parameter, name, value)
        if parameter.code == NEAR:
            if modifier:
                raise unknown("modifier", modifier, f"'{base}'", ["missing"], f"参数“{base}”")
            return union([values_of.near(parameter.number, name, choice) for choice in choices])
        if parameter.type == "special":
            raise not_yet(f"The special search parameter '{base}'", f"特殊检索参数“{base}”")
        if parameter.type == "composite":
            if modifier:
                raise unknown("modifier", modifier, f"the composite parameter '{base}'", ["missing"], f"组合参数“{base}”")
            return union([self._composite(parameter, name, choice) for choice in choices])
        return self._modified(parameter, name, modifier, choices)

    def _count(self, parameter: Parameter | None, base: str, modifier: str, value: str, number: int) -> None:
        """Refuse more values than can be looked for in time. Raises FhirError 400."""
        if number == 1:
            self._values += 1
        else:
            most, weight = MAX_CHOICES, 1
            if base in ("_id", "_list") or (parameter and parameter.type in _LOOKED_UP and modifier not in (*SETS, "text")):
                most = MAX_KEYS
            elif parameter and parameter.type == "string" and modifier != "exact":
                most, weight = MAX_TEXTS, MAX_KEYS // MAX_TEXTS
            if number > most:
                raise invalid(
                    f"{base}:{modifier}" if modifier else base, value, f"offers more than {most} values", f"给出的值超过 {most} 个"
                )
            self._values += number * weight
        if self._values > MAX_VALUES:
            rule = f"the search offers more than {MAX_VALUES} values, each counted for each type that it is asked of"
            raise FhirError.of(
                400,
                "too-costly",
                f"{base}: {rule}; offer fewer, or name fewer types",
                zh=f"{base}：检索值过多（按类型合计最多 {MAX_VALUES} 个）",
            )

    def _built_in(self, name: str, modifier: str, choices: list[str]) -> Criterion:
        if modifier:
            raise unknown("modifier", modifier, name, [])
        if name == "_id":
            return Ids(tuple(unescape(choice) for choice in choices))
        return union([values_of.updated(choice, self._scope) for choice in choices])

    def _missing(self, parameter: Parameter, name: str, value: str) -> Criterion:
        if value not in ("true", "false"):
            raise invalid(name, value, "must be true or false", "应为 true 或 false")
        present = self._composite_present(parameter) if parameter.type == "composite" else self._present(parameter)
        return Not(present) if value == "true" else present

    def _present(self, parameter: Parameter) -> Criterion:
        choices: list[Criterion] = []
        for source in parameter.sources:
            choices.append(KeyMatch(source.number, source.target, None) if source.target else Present(source.number))
            own = parameter.identifier if parameter.type == "reference" and not parameter.derived else 0
            if own:
                choices.append(Present(own))
        return union(choices)

    def _modified(self, parameter: Parameter, name: str, modifier: str, choices: list[str]) -> Criterion:
        kind = parameter.type
        if kind == "reference" and modifier and modifier not in _MODIFIERS[kind]:
            if modifier not in self._registry.definitions.resource_types:
                raise unknown(
                    "modifier", modifier, f"'{parameter.code}'", [*_MODIFIERS[kind], *parameter.targets], f"参数“{parameter.code}”"
                )
            if "Resource" not in parameter.targets and modifier not in parameter.targets:
                raise invalid(
                    name, ",".join(choices), f"{parameter.code} never refers to {modifier}", f"{parameter.code} 不会引用 {modifier}"
                )
            return union([values_of.reference(parameter, name, choice, self._scope, modifier) for choice in choices])
        if modifier and modifier not in _MODIFIERS[kind]:
            raise unknown(
                "modifier", modifier, f"the {kind} parameter '{parameter.code}'", _MODIFIERS[kind], f"{kind} 类型的参数“{parameter.code}”"
            )
        if modifier in SETS:
            return self._sets.filter(parameter, name, modifier, choices)
        if modifier == "text":
            return self._worded(parameter, name, choices)
        found = union([self._value(parameter, name, modifier, choice) for choice in choices])
        return Not(found) if modifier == "not" else found

    def _value(self, parameter: Parameter, name: str, modifier: str, choice: str) -> Criterion:
        kind = parameter.type
        if kind == "token":
            return self._of_type(parameter, name, choice) if modifier == "of-type" else values_of.token(parameter, name, choice)
        if kind == "reference":
            if modifier == "identifier":
                numbers = [self._registry.number(source.number).identifier for source in parameter.sources]
                return values_of.logical_reference(numbers, name, choice)
            return values_of.reference(parameter, name, choice, self._scope)
        if kind == "string":
            return values_of.string(parameter, name, choice, modifier or "prefix")
        if kind == "date":
            return values_of.date(parameter, name, choice, self._scope)
        if kind == "number":
            return values_of.number(parameter, name, choice)
        if kind == "quantity":
            return values_of.quantity(parameter, name, choice)
        return values_of.uri(parameter, choice)

    def _of_type(self, parameter: Parameter, name: str, choice: str) -> Criterion:
        """`:of-type=system|code|value`: an identifier by its type and value."""
        numbers = [self._registry.number(source.number).identifier for source in parameter.sources]
        if not all(numbers):
            raise unknown("modifier", "of-type", f"'{parameter.code}', which is no identifier", [], f"“{parameter.code}”不是 Identifier")
        parts = [unescape(part) for part in split(choice, "|")]
        if len(parts) != 3 or not parts[1] or not parts[2]:
            raise invalid(
                name, choice, "has the form <system of the type>|<code of the type>|<value>", "格式应为 <类型的 system>|<类型的 code>|<值>"
            )
        return union([KeyMatch(number, f"{parts[0]}|{parts[1]}", parts[2]) for number in numbers])

    def _worded(self, parameter: Parameter, name: str, choices: list[str]) -> Criterion:
        """`:text`: a text of the concept, or the display of a code, begins with the value."""
        numbers = [source.number for source in parameter.sources if named_values(self._registry.number(source.number))]
        if not numbers:
            raise unknown(
                "modifier",
                "text",
                f"'{parameter.code}', whose values have no text beside the code",
                [],
                f"“{parameter.code}”的值除代码外没有文本",
            )
        found: list[Criterion] = []
        for choice in choices:
            wanted = tuple(words(unescape(choice)))
            if not wanted:
                raise invalid(name, choice, "holds no letter and no digit", "不含字母或数字")
            found += [Worded("wording", (Phrase(wanted, True),), number) for number in numbers]
        return union(found)

    def _list(self, name: str, modifier: str, choices: list[str]) -> Criterion:
        """Resources that a List names: those to which it refers by `item`."""
        item = self._registry.get("List", "item")
        if modifier or item is None:
            raise unknown("modifier", modifier, name, [])
        ids = [unescape(choice).removeprefix("List/") for choice in choices]
        for id in ids:
            if ID.match(id) is None:
                raise invalid(
                    name,
                    id,
                    "is the id of a List; lists that a server works out, such as $current-problems, are not offered",
                    "应为 List 的 id；不提供由服务器计算的列表，例如 $current-problems",
                )
        return union([Has("List", source.number, Ids(tuple(ids))) for source in item.sources])

    # --- composites

    def _composite(self, parameter: Parameter, name: str, choice: str) -> Criterion:
        """Values joined by $, which must all hold of the same element."""
        parts = parts_of(self._registry, parameter)
        kinds = [component.parameter for component in parts[0].components]
        values = split(choice, "$")
        if len(values) != len(kinds) or not all(values):
            form = "$".join(f"<{one.code}>" for one in kinds)
            raise invalid(
                name, choice, f"the composite '{parameter.code}' has the form {form}", f"组合参数“{parameter.code}”的格式为 {form}"
            )
        found: list[Criterion] = []
        for part in parts:
            pairs = list(zip(part.components, values, strict=True))
            if not part.element:
                found.append(And(tuple(self._value(component.parameter, name, "", value) for component, value in pairs)))
                continue
            space, code = values_of.token_parts(name, values[0])
            others = [values_of.component(one.parameter, part.number, name, value, self._scope) for one, value in pairs[1:]]
            found.append(Paired(part.number, space, code, tuple(others)))
        return union(found)

    def _composite_present(self, parameter: Parameter) -> Criterion:
        return union([
            Present(part.number) if part.element else And(tuple(self._present(component.parameter) for component in part.components))
            for part in parts_of(self._registry, parameter)
        ])  # fmt: skip

    # --- joins

    def chain(self, type: str, name: str, base: str, modifier: str, inner_name: str, inner: Callable[[str], Criterion]) -> Criterion:
        """The reference parameter `base` (with `:Type` as modifier) leads to what meets `inner(type)`, which is about `inner_name`."""
        parameter = self._registry.get(type, base)
        if parameter is None:
            raise unknown("search parameter", base, type, self._registry.codes(type))
        if parameter.type != "reference":
            raise invalid(name, "", f"'{base}' is no reference, so nothing can be chained to it", f"“{base}”不是引用，不能接链式参数")
        types = self._registry.definitions.resource_types
        allowed = (
            list(types) if "Resource" in parameter.targets or not parameter.targets else [one for one in parameter.targets if one in types]
        )
        if modifier:
            if modifier not in types:
                raise unknown("resource type", modifier, name, allowed)
            if modifier not in allowed:
                raise invalid(name, "", f"{base} never refers to {modifier}", f"{base} 不会引用 {modifier}")
            allowed = [modifier]
        known = [one for one in allowed if inner_name in _ON_ALL or self._registry.get(one, inner_name)]
        if not known:
            codes = {code for one in allowed[:5] for code in self._registry.codes(one)}
            raise unknown(
                "search parameter", inner_name, f"{', '.join(allowed[:5])} in '{name}'", codes, f"“{name}”中的 {'、'.join(allowed[:5])}"
            )
        choices: list[Criterion] = []
        for source in parameter.sources:
            ways = [one for one in known if source.target in (None, one)]
            self._ways += len(ways)
            if self._ways > MAX_WAYS:
                rule = f"leads through more than {MAX_WAYS} combinations of types; name the types that are meant, such as {base}:{known[0]}"
                raise FhirError.of(
                    400, "too-costly", f"{shown(name)}: {rule}", zh=f"{shown(name)}：可能的类型组合超过 {MAX_WAYS} 种，请写明类型"
                )
            targets = _possible(ways, inner)
            if targets:
                choices.append(Chain(source.number, targets))
                if _canonical(parameter.expression, parameter.resource_type):
                    choices += [Naming(source.number, one, part) for one, part in targets if self._registry.get(one, "url")]
        if not choices:
            raise invalid(name, "", f"{base} never refers to {', '.join(known)}", f"{base} 不会引用 {'、'.join(known)}")
        return union(choices)

    def _has(self, type: str, name: str, value: str, depth: int) -> Criterion:
        parts = name.split(":", 3)
        if len(parts) != 4 or not parts[3]:
            raise invalid(name, value, "has the form _has:Type:reference:parameter", "格式应为 _has:Type:reference:parameter")
        _, other, code, rest = parts
        known = self._registry.definitions.resource_types
        if other not in known:
            raise unknown("resource type", other, "_has", known)
        parameter = self._registry.get(other, code)
        if parameter is None or parameter.type != "reference":
            references = [one.code for one in self._registry.of(other) if one.type == "reference"]
            raise unknown("reference parameter", code, f"{other} in _has", references, f"_has 中的 {other}")
        if "Resource" not in parameter.targets and parameter.targets and type not in parameter.targets:
            raise invalid(name, value, f"{other}.{code} never refers to {type}", f"{other}.{code} 不会引用 {type}")
        inner = self.filter(other, rest, value, depth + 1)
        sources = [source.number for source in parameter.sources if source.target in (None, type)]
        choices: list[Criterion] = [Has(other, number, inner) for number in sources]
        if self._registry.get(type, "url") and _canonical(parameter.expression, parameter.resource_type):
            choices += [NamedBy(other, number, inner, type) for number in sources]
        return union(choices)

    def compartment(self, name: str, id: str, type: str) -> Criterion:
        """Resources of `type` in the compartment of `name`/`id`; raises FhirError 400 for a type that is never in it."""
        members = self._registry.definitions.compartments.get(name)
        if members is None:
            raise unknown("compartment", name, "this server", self._registry.definitions.compartments, "本服务器")
        codes = members.get(type, ())
        if not codes and type != name:
            raise FhirError.of(400, "not-supported", f"{type} is not in the {name} compartment", zh=f"{type} 不属于 {name} 区间")
        # The resource itself ({def} in the definitions), and others of its type where a parameter says so: Patients by `link`.
        choices: list[Criterion] = [Ids((id,))] if type == name else []
        for code in codes:
            parameter = self._registry.get(type, code)
            if parameter is not None and parameter.type == "reference":
                choices += [KeyMatch(source.number, name, id) for source in parameter.sources if source.target in (None, name)]
        return union(list(dict.fromkeys(choices)))


@cache
def _canonical(expression: str, type: str) -> bool:
    """Whether the values of a reference parameter are canonicals, or may be."""
    return any(path.type in ("canonical", "uri") for path in typed_paths(expression, type))


def _possible(types: list[str], inner: Callable[[str], Criterion]) -> tuple[tuple[str, Criterion], ...]:
    """The types that can be asked the rest of a chain, with their criteria. Raises FhirError 400 when none of them can."""
    found: list[tuple[str, Criterion]] = []
    fault: FhirError | None = None
    for type in types:
        try:
            found.append((type, inner(type)))
        except FhirError as refused:
            if refused.status != 400 or refused.issues[0].code == "too-costly":
                raise
            fault = fault or refused
    if fault is not None and not found:
        raise fault
    return tuple(found)
