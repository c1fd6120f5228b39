"""The official test suites as a table of scores; ends with status 1 where a score is below the recorded one.

    python scripts/conformance.py [--corpora FOLDER] [--json FILE]      (make conformance)

The corpora are those of the tests: $FHIR_TEST_DATA, else ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: E402
from rich.table import Table  # noqa: E402

SHOWN_MISSES = 10


class Case(NamedTuple):
    """One case of a suite: its name, and `run`, which gives '' or why it fails."""

    name: str
    run: Callable[[], str]


class Suite(NamedTuple):
    """`recorded` is how many cases passed when last recorded; fewer fail the run."""

    title: str
    recorded: int
    source: str
    cases: Callable[[Path], Iterator[Case]]


def caught(run: Callable[[], str]) -> str:
    """What a case says, or the exception that it ends with."""
    try:
        return run()
    except Exception as fault:
        return f"{type(fault).__name__}: {fault}"


def archived(archive: Path, name: str) -> bytes:
    """A file of an archive, by the end of its name."""
    with tarfile.open(archive) as tar:
        opened = next(tar.extractfile(member) for member in tar if member.name.endswith(name))
        assert opened
        return opened.read()


def fhirpath_cases(corpora: Path) -> Iterator[Case]:
    os.environ["FHIR_TEST_DATA"] = str(corpora)
    from tests.fhirpath.test_official_suite import _CASES, outcome

    for case in _CASES:
        yield Case(f"{case.group}/{case.name}", lambda case=case: outcome(case))  # type: ignore[misc]


def fhirpath_patch_cases(corpora: Path) -> Iterator[Case]:
    from fhir_server.errors import FhirError
    from fhir_server.interactions.patch_fhirpath import apply_fhirpath_patch, check_fhirpath_patch
    from tests.interactions.test_patch_fhirpath import FHIR, official_cases, resource_of, with_plain_narrative

    def run(case: ElementTree.Element) -> str:
        changes = check_fhirpath_patch(resource_of(case.find(f"{FHIR}diff")))
        before, error = resource_of(case.find(f"{FHIR}input")), case.find(f"{FHIR}error")
        try:
            after = apply_fhirpath_patch(before, changes)
        except FhirError as fault:
            return "" if error is not None and error.attrib["msg"] in str(fault) else str(fault)
        if error is not None:
            return f"must be refused: {error.attrib['msg']}"
        wanted = with_plain_narrative(resource_of(case.find(f"{FHIR}output")))
        return "" if with_plain_narrative(after) == wanted else "another result"

    for case in official_cases(corpora):
        yield Case(case.attrib["name"], lambda case=case: run(case))  # type: ignore[misc]


def json_patch_cases(corpora: Path) -> Iterator[Case]:
    from fhir_server.errors import FhirError
    from fhir_server.interactions.patch_json import apply_json_patch, check_json_patch

    def run(case: dict[str, Any]) -> str:
        try:
            after = apply_json_patch(case["doc"], check_json_patch(case["patch"]))
        except FhirError as fault:
            return "" if "error" in case else str(fault)
        return "must be refused" if "error" in case else "" if after == case["expected"] else "another result"

    for number, case in enumerate(json.loads(archived(corpora / "tests" / "patch-r4.tar.gz", "json-patch-tests.json"))):
        yield Case(case.get("comment", str(number)), lambda case=case: run(case))  # type: ignore[misc]


def examples(corpora: Path, states: set[str]) -> Iterator[tuple[str, bytes]]:
    with (corpora / "r4" / "examples-index.tsv").open(encoding="utf-8") as table:
        index = {row["file"]: row["parses_strictly"] for row in csv.DictReader(table, delimiter="\t")}
    with tarfile.open(fileobj=io.BytesIO((corpora / "r4" / "examples-json.tar.gz").read_bytes())) as archive:
        for member in archive:
            opened = archive.extractfile(member)
            if opened and index[Path(member.name).name] in states:
                yield Path(member.name).name, opened.read()


def round_trip_cases(corpora: Path) -> Iterator[Case]:
    """Each valid example by PUT to a server of its own, and read back."""
    from tests.conftest import start_server
    from tests.validation.test_examples_over_the_wire import JSON, exact, with_id, without_own_meta

    with tempfile.TemporaryDirectory() as folder:
        server = start_server(Path(folder) / "data")
        client = server.client()

        def run(name: str, content: bytes) -> str:
            content = with_id(name, content)
            sent = exact(content)
            place = f"{sent['resourceType']}/{sent['id']}"
            put = client.put(place, content=content, headers=JSON)
            if put.status_code not in (200, 201):
                return f"{put.status_code} {put.text[:200]}"
            got = exact(client.get(place, headers=JSON).content)
            return "" if without_own_meta(got) == without_own_meta(sent) else "it came back changed"

        try:
            for name, content in examples(corpora, {"yes", "?"}):
                yield Case(name, lambda name=name, content=content: run(name, content))  # type: ignore[misc]
        finally:
            client.close()
            server.kill()


def flawed_cases(corpora: Path) -> Iterator[Case]:
    """Each example that its index calls flawed is refused."""
    from fhir_server.model import json_codec
    from fhir_server.validation.structure import validate

    def run(content: bytes) -> str:
        issues = validate(json_codec.loads(content))
        return "" if any(issue.severity == "error" for issue in issues) else "it was taken"

    for name, content in examples(corpora, {"no"}):
        yield Case(name, lambda content=content: run(content))  # type: ignore[misc]


def xml_patch_cases(corpora: Path) -> Iterator[Case]:
    from tests.interactions.test_patch_xml import cases, outcome

    for case in cases(corpora):
        yield Case(case.get("name"), lambda case=case: outcome(case))  # type: ignore[misc]


def xml_cases(corpora: Path) -> Iterator[Case]:
    """The XML of each example is read as its JSON."""
    from tests.model.test_xml import alike, twins_of

    for name, (json_form, xml_form) in twins_of(corpora).items():
        yield Case(name, lambda one=json_form, other=xml_form: "" if alike(one, other) else "another content")  # type: ignore[misc]


def xml_round_trip_cases(corpora: Path) -> Iterator[Case]:
    """JSON to XML to JSON, to the last digit and blank."""
    from tests.model.test_xml import comes_back

    for name, content in examples(corpora, {"yes", "?", "no"}):
        yield Case(name, lambda content=content: "" if comes_back(content) else "it came back changed")  # type: ignore[misc]


def search_parameter_cases(corpora: Path) -> Iterator[Case]:
    """Each official search parameter compiles, and has a known type on each of its bases (16 have no expression at all)."""
    from fhir_server import fhirpath
    from fhir_server.fhirpath.typed import typed_paths
    from fhir_server.model.definitions import SearchParameterDef, definitions

    def run(parameter: SearchParameterDef) -> str:
        if not parameter.expression:
            return ""
        fhirpath.compile(parameter.expression)
        types = definitions().types
        concrete = [base for base in parameter.base if not types[base].abstract]
        unknown = [base for base in concrete if any(path.type not in types for path in typed_paths(parameter.expression, base))]
        return f"no static type on {', '.join(unknown)}" if unknown else ""

    for parameter in definitions().search_parameters:
        yield Case(parameter.url, lambda parameter=parameter: run(parameter))  # type: ignore[misc]


def invariant_cases(corpora: Path) -> Iterator[Case]:
    """Each invariant of the definitions of types, resources and profiles compiles."""
    from fhir_server import fhirpath
    from fhir_server.model.definitions import definitions

    def run(expression: str) -> str:
        fhirpath.compile(expression)
        return ""

    found: dict[str, str] = {}
    for definition in definitions().resources("StructureDefinition"):
        for element in definition.get("snapshot", {}).get("element", ()):
            for constraint in element.get("constraint", ()):
                if "expression" in constraint:
                    found.setdefault(constraint["expression"], constraint["key"])
    for expression, key in sorted(found.items(), key=lambda item: item[1]):
        yield Case(key, lambda expression=expression: run(expression))  # type: ignore[misc]


def snapshot_cases(corpora: Path) -> Iterator[Case]:
    """Snapshots as the official cases have them, in all that constrains."""
    from tests.validation import snapshots
    from tests.validation.test_snapshots import DEVIATIONS

    others = snapshots.packaged(corpora / "igs")

    def run(case: snapshots.Case) -> str:
        found = snapshots.outcome(case, others)
        return DEVIATIONS.get(case.name, found) if found else ""

    for case in snapshots.cases(corpora / "tests" / "snapshot-r4b.tar.gz", corpora / "igs"):
        yield Case(case.name, lambda case=case: run(case))  # type: ignore[misc]


def reference_validator_cases(corpora: Path) -> Iterator[Case]:
    """Errors are found where the reference validator finds some, and only there."""
    os.environ["FHIR_TEST_DATA"] = str(corpora)
    from tests.validation.reference_validator import Suite as Reference
    from tests.validation.reference_validator import Verdict
    from tests.validation.test_reference_validator import DEVIATIONS

    suite = Reference(corpora / "tests" / "validator-r4.tar.gz")

    def run(verdict: Verdict) -> str:
        here = bool(suite.errors(verdict))
        if here == verdict.error:
            return ""
        return f"{'an error' if here else 'no error'} here: {DEVIATIONS.get((verdict.name, verdict.run), 'for no known reason')}"

    for verdict in suite.verdicts():
        yield Case(f"{verdict.name} ({verdict.run})", lambda verdict=verdict: run(verdict))  # type: ignore[misc]


def profile_example_cases(corpora: Path) -> Iterator[Case]:
    """Each valid example meets R4's invariants, extensions' definitions, and the codes of R4's own systems."""
    from fhir_server.model import json_codec
    from fhir_server.validation.profiles import ProfileRoom

    room = ProfileRoom()

    def run(content: bytes) -> str:
        errors = [issue for issue in room.validate(json_codec.loads(content)) if issue.severity == "error"]
        return errors[0].diagnostics if errors else ""

    for name, content in examples(corpora, {"yes", "?"}):
        yield Case(name, lambda content=content: run(content))  # type: ignore[misc]


SUITES = [
    Suite("FHIRPath suite R4", 598, "HL7 fhir-test-cases, tests-fhir-r4.xml", fhirpath_cases),
    Suite("FHIRPath Patch", 20, "HL7 fhir-test-cases, fhir-patch-tests.xml", fhirpath_patch_cases),
    Suite("JSON Patch", 10, "HL7 fhir-test-cases, json-patch-tests.json", json_patch_cases),
    Suite("XML Patch", 19, "HL7 fhir-test-cases, xml-patch-tests.xml", xml_patch_cases),
    Suite("Examples stored and read back unchanged", 430, "FHIR R4 4.0.1 examples, over HTTP", round_trip_cases),
    Suite("XML of the examples read as their JSON", 435, "FHIR R4 4.0.1 examples in both forms", xml_cases),
    Suite("Examples the same after JSON, XML, JSON", 549, "FHIR R4 4.0.1 examples", xml_round_trip_cases),
    Suite("Flawed examples refused", 119, "FHIR R4 4.0.1 examples", flawed_cases),
    Suite("Examples true to R4's invariants", 428, "FHIR R4 4.0.1 examples", profile_example_cases),
    Suite("Snapshots", 45, "HL7 fhir-test-cases, snapshot-generation (R4B)", snapshot_cases),
    Suite("Verdicts of the reference validator", 363, "HL7 fhir-test-cases, validator (R4)", reference_validator_cases),
    Suite("Search parameters compiled", 1400, "hl7.fhir.r4.core 4.0.1", search_parameter_cases),
    Suite("Invariants compiled", 203, "hl7.fhir.r4.core 4.0.1", invariant_cases),
]


class Score(NamedTuple):
    suite: Suite
    passed: int
    total: int
    misses: list[tuple[str, str]]

    @property
    def ok(self) -> bool:
        return self.passed >= self.suite.recorded


def measure(suite: Suite, corpora: Path, progress: Progress) -> Score:
    """Run a suite's cases one after the other."""
    task = progress.add_task(suite.title, total=suite.recorded)
    total, misses = 0, []
    for case in suite.cases(corpora):
        total += 1
        if fault := caught(case.run):
            misses.append((case.name, fault))
        progress.update(task, completed=total, total=max(total, suite.recorded))
    return Score(suite, total - len(misses), total, misses)


def show(scores: list[Score], console: Console) -> None:
    table = Table(title="Conformance")
    for name, side in (("suite", "left"), ("passed", "right"), ("of", "right"), ("recorded", "right"), ("", "left"), ("source", "left")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for score in scores:
        state = "[green]ok[/green]" if score.ok else "[red]below[/red]"
        table.add_row(score.suite.title, str(score.passed), str(score.total), str(score.suite.recorded), state, score.suite.source)
    console.print(table)
    for score in scores:
        for name, fault in score.misses[:SHOWN_MISSES]:
            console.print(f"{score.suite.title}: {name}: {fault[:300]}", markup=False, highlight=False, soft_wrap=True)
        if len(score.misses) > SHOWN_MISSES:
            console.print(f"{score.suite.title}: {len(score.misses) - SHOWN_MISSES} more", markup=False)


def _cell(text: str) -> str:
    return text[:200].replace("|", "&#124;").replace("\n", " ")


def written(scores: list[Score]) -> str:
    """The scores with all misses as a page."""
    command = 'make conformance CONFORMANCE="--write docs/conformance.md"'
    about = f"Scores of the official suites, written by `{command}`. A score below the recorded one fails the command."
    lines = ["# Conformance", "", about, "", "| Suite | Passed | Of | Source |", "|---|---|---|---|"]
    lines += [f"| {score.suite.title} | {score.passed} | {score.total} | {score.suite.source} |" for score in scores]
    for score in scores:
        if score.misses:
            lines += ["", f"## {score.suite.title}: {len(score.misses)} misses", "", "| Case | Why |", "|---|---|"]
            lines += [f"| {name} | {_cell(fault)} |" for name, fault in score.misses]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--corpora", type=Path, default=Path(os.environ.get("FHIR_TEST_DATA", ROOT.parent / "shared" / "data")))
    parser.add_argument("--json", type=Path, help="write the scores to this file too")
    parser.add_argument("--write", type=Path, help="write the scores with all misses to this page (Markdown)")
    options = parser.parse_args()
    console = Console()
    if not (options.corpora / "r4").is_dir():
        console.print(f"The corpora are not at {options.corpora}: set FHIR_TEST_DATA or --corpora.")
        return 2
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        scores = [measure(suite, options.corpora, progress) for suite in SUITES]
    show(scores, console)
    if options.json:
        plain = {score.suite.title: {"passed": score.passed, "of": score.total, "misses": score.misses} for score in scores}
        options.json.write_text(json.dumps(plain, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if options.write:
        options.write.write_text(written(scores), encoding="utf-8")
    return 0 if all(score.ok for score in scores) else 1


if __name__ == "__main__":
    raise SystemExit(main())
