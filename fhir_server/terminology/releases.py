"""Reads the files in which terminologies are published: LOINC (CSV), SNOMED CT (RF2), and tables of codes (ICD-10 editions, 国临版).

A site brings the files; their licences are its own. Formats: https://loinc.org/kb/users-guide/, https://docs.snomed.org/snomed-ct-specifications/
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fhir_server.terminology.large import Row

LOINC, SNOMED = "http://loinc.org", "http://snomed.info/sct"
_IS_A, _FSN, _SYNONYM = "116680003", "900000000000003001", "900000000000013009"
CODES = ("code", "编码", "主要编码", "诊断编码", "疾病编码", "手术编码", "代码", "icd编码", "icd-10编码")
NAMES = ("display", "name", "名称", "疾病名称", "诊断名称", "手术名称", "中文名称", "疾病诊断名称")
ENGLISH = ("en", "english", "英文名称")


class ReleaseError(Exception):
    """The files are not what was said; the message names the file and what is missing."""


@dataclass(slots=True)
class Release:
    """What a release holds, ready to be stored."""

    url: str
    version: str
    name: str
    language: str
    rows: Iterator[Row]
    properties: dict[str, str] = field(default_factory=dict)


Files = dict[str, Callable[[], io.TextIOBase]]
"""Name in the release -> how it is opened."""


def files_of(path: Path) -> Files:
    """The files of a folder, a zip archive, or the one file itself. Raises ReleaseError."""
    if path.is_dir():
        return {one.relative_to(path).as_posix(): lambda one=one: _text(one.open("rb")) for one in sorted(path.rglob("*")) if one.is_file()}  # type: ignore[misc]
    if not path.exists():
        raise ReleaseError(f"{path}: there is no such file")
    if zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(path)
        return {name: lambda name=name: _text(archive.open(name)) for name in archive.namelist() if not name.endswith("/")}  # type: ignore[misc]
    return {path.name: lambda: _text(path.open("rb"))}


def _text(raw: object) -> io.TextIOBase:
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")  # type: ignore[type-var,arg-type]


def _named(files: Files, *ends: str) -> list[str]:
    return [name for name in files if any(name.rpartition("/")[2].lower().startswith(end.lower()) for end in ends)]


def read_release(path: Path, kind: str, url: str = "", version: str = "", name: str = "") -> Release:
    """A release of one kind (loinc, snomed, table). Raises ReleaseError."""
    files = files_of(path)
    if kind == "loinc":
        return _loinc(path, files, version)
    if kind == "snomed":
        return _snomed(path, files, version)
    return _table(path, files, url, version, name)


# --- LOINC


def _loinc(path: Path, files: Files, version: str) -> Release:
    (table,) = [one for one in files if one.rpartition("/")[2] == "Loinc.csv"][:1] or [""]
    if not table:
        raise ReleaseError(f"{path}: no Loinc.csv in it (the table of the LOINC release)")
    variants = [one for one in files if "LinguisticVariant.csv" in one and one.rpartition("/")[2].lower().startswith("zhcn")]
    properties = {
        "COMPONENT": "string", "PROPERTY": "string", "TIME_ASPCT": "string", "SYSTEM": "string", "SCALE_TYP": "string",
        "METHOD_TYP": "string", "CLASS": "string", "STATUS": "string", "status": "code",
    }  # fmt: skip

    def rows() -> Iterator[Row]:
        chinese = _chinese_loinc(files, variants[0]) if variants else {}
        with files[table]() as opened:
            reader = csv.DictReader(opened)
            if not reader.fieldnames or "LOINC_NUM" not in reader.fieldnames:
                raise ReleaseError(f"{path}: {table} has no column LOINC_NUM")
            for row in reader:
                said = [(key, row[key]) for key in properties if row.get(key)]
                said += [("status", "retired")] if row.get("STATUS") == "DEPRECATED" else []
                texts = [{"language": "en", "value": row["SHORTNAME"]}] if row.get("SHORTNAME") else []
                if row["LOINC_NUM"] in chinese:
                    texts.append({"language": "zh-CN", "value": chinese[row["LOINC_NUM"]]})
                yield Row(row["LOINC_NUM"], row.get("LONG_COMMON_NAME") or row.get("COMPONENT") or row["LOINC_NUM"], texts, said)

    return Release(LOINC, version or _digits(path.name) or "unknown", "LOINC", "en", rows(), properties)


def _chinese_loinc(files: Files, name: str) -> dict[str, str]:
    """The Chinese names, made of their parts where there is no whole one."""
    found: dict[str, str] = {}
    with files[name]() as opened:
        for row in csv.DictReader(opened):
            whole = row.get("LONG_COMMON_NAME") or row.get("LinguisticVariantDisplayName")
            parts = [row.get(key, "") for key in ("COMPONENT", "PROPERTY", "TIME_ASPCT", "SYSTEM", "SCALE_TYP", "METHOD_TYP")]
            text = whole or ":".join(part for part in parts if part)
            if row.get("LOINC_NUM") and text:
                found[row["LOINC_NUM"]] = text
    return found


# --- SNOMED CT


def _snomed(path: Path, files: Files, version: str) -> Release:
    concepts = _named(files, "sct2_Concept_Snapshot")
    descriptions, relations = _named(files, "sct2_Description_Snapshot"), _named(files, "sct2_Relationship_Snapshot")
    if not concepts or not descriptions or not relations:
        raise ReleaseError(
            f"{path}: no RF2 snapshot in it (sct2_Concept_Snapshot…, sct2_Description_Snapshot…, sct2_Relationship_Snapshot…)"
        )
    preferred = _preferred(files)

    def rows() -> Iterator[Row]:
        parents: dict[str, list[str]] = defaultdict(list)
        for relation in _rf2(files, relations):
            if relation["active"] == "1" and relation["typeId"] == _IS_A:
                parents[relation["sourceId"]].append(relation["destinationId"])
        texts: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
        for one in _rf2(files, descriptions):
            if one["active"] == "1" and one["typeId"] in (_FSN, _SYNONYM):
                rank = 0 if one["id"] in preferred and one["typeId"] == _SYNONYM else 1 if one["typeId"] == _SYNONYM else 2
                texts[one["conceptId"]].append((rank, one["languageCode"], one["term"]))
        for concept in _rf2(files, concepts):
            code = concept["id"]
            held = sorted(texts.get(code, ()), key=lambda text: text[0])
            designations = [{"language": language, "value": term} for _, language, term in held]
            said = [] if concept["active"] == "1" else [("inactive", True)]
            yield Row(code, held[0][2] if held else code, designations, said, parents.get(code, []))

    edition = _digits(concepts[0].rpartition("_")[2])
    return Release(SNOMED, version or f"{SNOMED}/version/{edition}", "SNOMED CT", "en", rows(), {"inactive": "boolean"})


def _preferred(files: Files) -> set[str]:
    """Descriptions that a language reference set prefers."""
    found: set[str] = set()
    for one in _rf2(files, _named(files, "der2_cRefset_Language")):
        if one["active"] == "1" and one.get("acceptabilityId") == "900000000000548007":
            found.add(one["referencedComponentId"])
    return found


def _rf2(files: Files, names: list[str]) -> Iterator[dict[str, str]]:
    for name in names:
        with files[name]() as opened:
            yield from csv.DictReader(opened, delimiter="\t", quoting=csv.QUOTE_NONE)


# --- tables of codes


def _table(path: Path, files: Files, url: str, version: str, name: str) -> Release:
    """A CSV or TSV with a column of codes and one of names; a code that begins with another one is below it (ICD)."""
    if not url:
        raise ReleaseError(f"{path}: a table of codes needs --url, the URI of its code system")
    tables = [one for one in files if one.lower().endswith((".csv", ".tsv", ".txt"))]
    if len(tables) != 1:
        raise ReleaseError(f"{path}: one table (.csv or .tsv) is expected, there are {len(tables)}")

    def rows() -> Iterator[Row]:
        with files[tables[0]]() as opened:
            sample = opened.read()
        first = sample.partition("\n")[0]
        reader = csv.DictReader(io.StringIO(sample), delimiter="\t" if "\t" in first else ",")
        heads = {head.strip().lower(): head for head in reader.fieldnames or ()}
        code, text = (next((heads[one] for one in names if one in heads), None) for names in (CODES, NAMES))
        english = next((heads[one] for one in ENGLISH if one in heads), None)
        if code is None or text is None:
            raise ReleaseError(
                f"{path}: the first line must name a column of codes ({CODES[0]}, {CODES[1]} …) and of names ({NAMES[0]}, {NAMES[3]} …)"
            )
        held: list[tuple[str, str, str]] = []
        for row in reader:
            mine = (row.get(code) or "").strip()
            if mine:
                held.append((mine, (row.get(text) or "").strip(), (row.get(english) or "").strip() if english else ""))
        known = {mine for mine, *_ in held}
        for mine, shown, other in held:
            texts = [{"language": "zh-CN", "value": shown or mine}, *([{"language": "en", "value": other}] if other else [])]
            above = _above(mine, known)
            yield Row(mine, shown or mine, texts, (), (above,) if above else ())

    return Release(url, version or "unknown", name or path.stem, "zh-CN", rows())


def _above(code: str, known: set[str]) -> str:
    """The longest code that this one begins with: A00.001 is below A00.0, and that below A00."""
    for size in range(len(code) - 1, 1, -1):
        short = code[:size].rstrip(".")
        if short in known and short != code:
            return short
    return ""


def _digits(text: str) -> str:
    """The version that a file name tells: its digits and points."""
    found = "".join(letter if letter.isdigit() or letter == "." else " " for letter in text.rpartition(".")[0] or text).split()
    return found[-1].strip(".") if found else ""
