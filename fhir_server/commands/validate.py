"""`fhir-server validate`: is the content of files R4, which rules does it break, and does it meet its profiles? Nothing is stored.

Specification: https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from fhir_server.errors import FhirError, Issue, operation_outcome
from fhir_server.loading.sources import Item, LoadError, Source, find_sources, open_items
from fhir_server.model import json_codec
from fhir_server.model.definitions import definitions
from fhir_server.model.guide import guide
from fhir_server.model.library import Library
from fhir_server.model.packages import PackageError, read_package
from fhir_server.settings import Settings
from fhir_server.validation import structure
from fhir_server.validation.profiles import ProfileRoom
from fhir_server.validation.profiles.refusals import refusable
from fhir_server.validation.values import listed

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

WRONG, STOPPED = 1, 2
SHOWN = 100
PER_RESOURCE = 10
"""Issues printed at most: in all, and of one resource."""
_REFUSING = ("fatal", "error")


class Language(StrEnum):
    """Languages of the messages."""

    en = "en"
    zh = "zh"


class Words(NamedTuple):
    """What is printed around the issues, in one language."""

    title: str
    columns: tuple[str, str, str, str]
    more: str
    total: str
    ignored: str
    stopped: str
    nothing: str
    no_entry: str


WORDS = {
    Language.en: Words(
        "Issues",
        ("place", "severity", "rule", "text"),
        "... and {} more; --report FILE lists all",
        "{resources} resources in {seconds:.1f} s: {valid} valid, {wrong} refused, {warned} with warnings",
        "Files without FHIR content, ignored: {} (such as {})",
        "The validation stopped:",
        "there is no resource in these files",
        "no Bundle has the entry {}, so that its profile was not asked",
    ),
    Language.zh: Words(
        "问题",
        ("位置", "级别", "规则", "说明"),
        "……另有 {} 个问题；用 --report FILE 查看全部",
        "共 {resources} 个资源，用时 {seconds:.1f} 秒：{valid} 个有效，{wrong} 个被拒绝，{warned} 个有警告",
        "已忽略 {} 个没有 FHIR 内容的文件（例如 {}）",
        "校验中止：",
        "这些文件中没有资源",
        "没有 Bundle 含有条目 {}，其规范未被检查",
    ),
}
SEVERITIES_ZH = {"fatal": "致命", "error": "错误", "warning": "警告", "information": "提示"}


@dataclass(slots=True)
class Result:
    """What a validation came to. `listed` holds the first issues with their places; `issues` counts all."""

    resources: int = 0
    wrong: int = 0
    warned: int = 0
    issues: int = 0
    types: Counter[str] = field(default_factory=Counter)
    listed: list[tuple[str, Issue]] = field(default_factory=list)

    def add(self, place: str, type: str, issues: list[Issue]) -> None:
        """Count one resource."""
        self.resources += 1
        self.types[type] += 1
        issues = [issue for issue in issues if issue.severity != "information"]
        self.issues += len(issues)
        if any(issue.severity in _REFUSING for issue in issues):
            self.wrong += 1
        elif any(issue.severity == "warning" for issue in issues):
            self.warned += 1
        self.listed += [(place, issue) for issue in issues[: min(PER_RESOURCE, SHOWN - len(self.listed))]]


@app.command()
def validate(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders: .ndjson, .json, Bundles; plain, .gz, .tar.gz, .tgz.")],
    language: Annotated[Language, typer.Option(help="Language of the messages.")] = Language.en,
    report: Annotated[
        Path | None, typer.Option(help="Write an OperationOutcome for each resource with issues to this file (NDJSON).")
    ] = None,
    profile: Annotated[list[str] | None, typer.Option(help="Canonical of a profile that each resource must meet (again for more).")] = None,
    package: Annotated[list[Path] | None, typer.Option(help="Package (.tgz or folder) whose profiles and value sets are known.")] = None,
    entry: Annotated[
        list[str] | None, typer.Option(help="Profile of an entry of a Bundle: `Patient:0=URL` is for the first Patient (again for more).")
    ] = None,
    refuse: Annotated[str, typer.Option(help="Refuse beyond R4: markup (texts like HTML), examples (addresses of example.org).")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Check files as the operation $validate does: structure, the rules of R4, the profiles that a resource declares, and those named here.

    Exit status: 0 all is valid (there may be warnings), 1 something would be refused, 2 a file cannot be read, or there was nothing of
    what was to be looked at.
    """
    console, words = Console(), WORDS[language]
    started = time.monotonic()
    try:
        sources, ignored = find_sources(paths)
        judge = Judge(package or (), profile or (), entry or (), refuse)
        result = _all(sources, judge, report, language, quiet)
    except (LoadError, PackageError, OSError) as problem:
        Console(stderr=True).print(f"{words.stopped} {problem}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(STOPPED) from None
    show(result, time.monotonic() - started, language, console)
    if ignored:
        console.print(words.ignored.format(len(ignored), ignored[0]), markup=False, highlight=False, soft_wrap=True)
    missed = "" if result.resources else words.nothing
    missed = missed or next((words.no_entry.format(name) for name in judge.unmet()), "")
    if missed:
        Console(stderr=True).print(f"{words.stopped} {missed}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(STOPPED if missed else WRONG if result.wrong else 0)


class Judge:
    """Looks at resources with the profiles of some packages. Raises PackageError (no package), LoadError (an unknown profile or word)."""

    def __init__(self, packages: Iterable[Path], profiles: Iterable[str], entries: Iterable[str] = (), refuse: str = "") -> None:
        named = [one for path in packages for one in read_package(path).resources]
        library = Library([*guide(Settings().followup_canonical).resources, *named])  # type: ignore[call-arg]
        try:
            self._room = ProfileRoom(library.find, refuses=refusable(refuse))
        except ValueError as fault:
            raise LoadError(f"--refuse: {fault}") from None
        self._profiles = tuple(profiles)
        self._entries = [_entry(text) for text in entries]
        self._most: Counter[str] = Counter()
        """Type -> how many entries of it some Bundle has, at most."""
        for option, canonical in (
            *(("--profile", one) for one in self._profiles),
            *(("--entry", one) for _, _, one in self._entries),
        ):
            if self._room.profile(canonical) is None:
                why = self._room.fault_of(canonical) or "it is not known here; name the package that has it with --package"
                raise LoadError(f"{option} {canonical}: {why}")

    def judged(self, item: Item) -> tuple[dict[str, Any], list[Issue]]:
        """The resource of an item ({} where it cannot be read) and its issues."""
        try:
            resource = json_codec.loads(item.body)
        except FhirError as fault:
            return {}, fault.issues
        issues = structure.validate(resource)
        if not any(issue.syntax for issue in issues):
            issues += self._room.validate(resource, self._profiles, entries=self._entries)
        if self._entries and resource.get("resourceType") == "Bundle":
            inner = [entry.get("resource") for entry in listed(resource, "entry")]
            self._most |= Counter(str(one.get("resourceType")) for one in inner if isinstance(one, dict))
        return resource, issues

    def unmet(self) -> list[str]:
        """The entries that no Bundle had."""
        return [f"{type}:{number}" for type, number, _ in self._entries if self._most[type] <= number]


def _entry(text: str) -> tuple[str, int, str]:
    """Type, number and profile of an `--entry`. Raises LoadError."""
    place, _, canonical = text.partition("=")
    type, _, number = place.partition(":")
    if type not in definitions().resource_types or not number.isdecimal() or not canonical:
        raise LoadError(f"--entry {text}: write the type, the number of the entry among those of its type, and the profile: Patient:0=URL")
    return type, int(number), canonical


def _all(sources: list[Source], judge: Judge, report: Path | None, language: Language, quiet: bool) -> Result:
    result, out = Result(), report.open("w", encoding="utf-8") if report else None
    try:
        with _progress(quiet) as progress:
            task = progress.add_task("", total=sum(source.size for source in sources), items=0)
            before = 0
            for source in sources:
                for item, read in _items(source):
                    resource, issues = judge.judged(item)
                    place = f"{item.source}:{item.line}" if item.line else item.source
                    result.add(place, str(resource.get("resourceType", "")), issues)
                    if out and any(issue.severity != "information" for issue in issues):
                        _write(out, item, resource, issues, language)
                    progress.update(task, completed=before + read(), items=result.resources, description=source.name[-40:])
                before += source.size
                progress.update(task, completed=before)
    finally:
        if out:
            out.close()
    return result


def _items(source: Source) -> Iterator[tuple[Item, Callable[[], int]]]:
    items, progress = open_items(source)
    for item in items:
        yield item, progress.read


def _progress(quiet: bool) -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[items]} resources"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=quiet or not console.is_terminal, refresh_per_second=4)


def _write(out: IO[str], item: Item, resource: dict[str, Any], issues: list[Issue], language: Language) -> None:
    line = {
        "file": item.source,
        "line": item.line,
        "type": resource.get("resourceType"),
        "id": resource.get("id"),
        "outcome": operation_outcome(issues, chinese=language is Language.zh),
    }
    out.write(json.dumps(line, ensure_ascii=False) + "\n")


def show(result: Result, seconds: float, language: Language, console: Console) -> None:
    """Print the issues and the totals."""
    words, chinese = WORDS[language], language is Language.zh
    if result.listed:
        table = Table(title=words.title)
        for name in words.columns:
            table.add_column(name, overflow="fold")
        for place, issue in result.listed:
            severity = SEVERITIES_ZH[issue.severity] if chinese else issue.severity
            table.add_row(place, severity, issue.rule or issue.code, _plain(issue.zh if chinese and issue.zh else issue.diagnostics))
        console.print(table)
    if result.issues > len(result.listed):
        console.print(words.more.format(result.issues - len(result.listed)), highlight=False)
    valid = result.resources - result.wrong
    total = words.total.format(resources=result.resources, seconds=seconds, valid=valid, wrong=result.wrong, warned=result.warned)
    console.print(total, highlight=False)


def _plain(text: str) -> str:
    """Text as it is: `[0]` is no markup."""
    return text.replace("[", "\\[")
