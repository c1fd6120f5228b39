"""FHIRPath: compiling and evaluating expressions, beside fhirpathpy where it is installed.

python -m benchmarks.fhirpath_speed [--out FILE]

The expressions are paths of search parameters, invariants and questions of R4, over FHIR's own examples `patient-example` and
`observation-example`. Both engines get the same parsed resource, and their answers are compared; a server compiles an expression once.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import statistics
import tarfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from benchmarks.__main__ import ROOT, machine, markdown, show
from fhir_server import fhirpath
from fhir_server.model import json_codec

PEER = "fhirpathpy"
EXPRESSIONS = {
    "patient-example": (
        "Patient.name.given",
        "Patient.name.where(use = 'official').family",
        "Patient.telecom.where(system = 'phone').value",
        "Patient.contact.all(name.exists() or telecom.exists() or address.exists() or organization.exists())",
        "Patient.identifier.where(type.coding.code = 'MR').value.first()",
        "Patient.descendants().count() > 10",
        "iif(Patient.active, Patient.name.count(), 0)",
        "Patient.name.select(given.first() + ' ' + family)",
        "Patient.deceased.exists() and Patient.deceased != false",
        "Patient.birthDate < @2000-01-01",
    ),
    "observation-example": (
        "Observation.value.ofType(Quantity).value > 100",
        "Observation.code.coding.where(system = 'http://loinc.org').code",
        "dataAbsentReason.empty() or value.empty()",
        "Observation.subject.reference.matches('^Patient/[a-z0-9]+$')",
    ),
}
HEAD = ["expression", "this: compile µs", "this: evaluate µs", f"{PEER}: compile µs", f"{PEER}: evaluate µs", "times faster"]
Run = Callable[[dict[str, Any]], list[Any]]
Compile = Callable[[str], Run]


def ours(text: str) -> Run:
    expression = fhirpath.Expression(text)
    return lambda resource: [item.value for item in expression.evaluate(resource)]


def peer() -> Compile | None:
    """fhirpathpy with its model of R4, or None."""
    try:
        import fhirpathpy
        from fhirpathpy.models import models
    except ImportError:
        return None

    def of_text(text: str) -> Run:
        compiled = fhirpathpy.compile(text, models["r4"])
        return lambda resource: list(compiled(resource))

    return of_text


def example(corpora: Path, name: str) -> dict[str, Any]:
    """One of FHIR's own examples."""
    with tarfile.open(corpora / "r4" / "examples-json.tar.gz") as archive:
        member = next(one for one in archive if Path(one.name).name == f"{name}.json")
        opened = archive.extractfile(member)
        assert opened
        return cast("dict[str, Any]", json_codec.loads(opened.read()))


def micros(work: Callable[[], Any], seconds: float = 0.2) -> float:
    """CPU microseconds of a call: the best of three rounds."""
    best = float("inf")
    for _ in range(3):
        started, count = time.process_time(), 0
        while time.process_time() - started < seconds:
            work()
            count += 1
        best = min(best, (time.process_time() - started) / count)
    return best * 1e6


def same(mine: list[Any], other: list[Any]) -> bool:
    """Whether two answers are alike as JSON, or as text where one engine has types of its own."""
    return len(mine) == len(other) and all(str(a) == str(b) or a == b for a, b in zip(mine, other, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, default=Path(os.environ.get("FHIR_TEST_DATA", ROOT.parent / "shared" / "data")))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    other = peer()
    rows, ratios, different = [], [], []
    for name, texts in EXPRESSIONS.items():
        resource = example(options.corpora, name)
        for text in texts:
            run = ours(text)
            row = [f"`{text}`", f"{micros(lambda text=text: ours(text)):,.0f}", f"{micros(lambda run=run, it=resource: run(it)):,.1f}"]
            if other is not None:
                its = other(text)
                if not same(run(resource), its(resource)):
                    different.append(f"{text}: {run(resource)!r:.100} here, {its(resource)!r:.100} there")
                row += [f"{micros(lambda text=text: other(text)):,.0f}", f"{micros(lambda its=its, it=resource: its(it)):,.1f}"]
                ratios.append(float(row[4].replace(",", "")) / float(row[2].replace(",", "")))
                row.append(f"{ratios[-1]:,.0f}")
            rows.append(row)
    head = HEAD if other is not None else HEAD[:3]
    show("FHIRPath", rows, head)
    said = f"Geometric mean: {statistics.geometric_mean(ratios):,.0f} times faster than {PEER} {version(PEER)}." if ratios else ""
    print(said, *different, sep="\n")
    if options.out:
        about = "The expressions" + (__doc__ or "").partition("The expressions")[2]
        text = f"# {dt.date.today()}: FHIRPath\n\n{machine()}\n\n{about}\n{markdown('CPU per expression, one core', rows, head)}\n{said}\n"
        text += "\n".join(f"\n- other answer: {one}" for one in different) + ("\n" if different else "")
        options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
