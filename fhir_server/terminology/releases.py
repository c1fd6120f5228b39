"""Reads the files in which terminologies are published: LOINC (CSV), SNOMED CT (RF2), and tables of codes (ICD-10 editions, 国临版).

A site brings the files; their licences are its own. Formats: https://loinc.org/kb/users-guide/, https://docs.snomed.org/snomed-ct-specifications/
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fhir_server.terminology.large import Row

LOINC, SNOMED = "http://loinc.org", "http://snomed.info/sct"
_IS_A, _FSN, _SYNONYM = "116680003", "900000000000003001", "900000000000013009"
_MODEL = "900000000000012004"
"""Module of SNOMED CT's own model, which every edition has."""
CODES = ("code", "编码", "主要编码", "诊断编码", "疾病编码", "手术编码", "代码", "icd编码", "icd-10编码")
NAMES = ("display", "name", "名称", "疾病名称", "诊断名称", "手术名称", "中文名称", "疾病诊断名称")
ENGLISH = ("en", "english", "英文名称")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[^\s|<>\"{}\\^`]+")
_HANZI = re.compile("[\u4e00-\u9fff]")


class ReleaseError(Exception):
    """The files are not what was said; the message names the file and what is missing, `zh` the same in Chinese."""

    def __init__(self, what: str, zh: str) -> None:
        super().__init__(what)
        self.zh = zh


@dataclass(slots=True)
class Release:
    """What a release holds, ready to be stored."""

    url: str
    version: str
    name: str
    language: str
    rows: Iterator[Row]
    properties: dict[str, str] = field(default_factory=dict)


Files = dict[str, Callable[[], IO[bytes]]]
"""Name in the release -> how it is opened."""


def files_of(path: Path) -> Files:
    """The files of a folder, a zip archive, or the one file itself. Raises ReleaseError."""
    if path.is_dir():
        return {one.relative_to(path).as_posix(): lambda one=one: one.open("rb") for one in sorted(path.rglob("*")) if one.is_file()}  # type: ignore[misc]
    if not path.exists():
        raise ReleaseError(f"{path}: there is no such file", f"{path}：没有这个文件")
    if not zipfile.is_zipfile(path):
        return {path.name: lambda: path.open("rb")}
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as fault:
        raise _damaged(str(path), fault) from None
    return {name: lambda name=name: archive.open(name) for name in archive.namelist() if not name.endswith("/")}  # type: ignore[misc]


@contextmanager
def _opened(files: Files, name: str) -> Iterator[IO[bytes]]:
    """A file of the release. Raises ReleaseError where the archive is damaged or has a password."""
    try:
        raw = files[name]()
    except (RuntimeError, NotImplementedError) as fault:  # what zipfile raises of a password, and of a compression that it has not
        raise ReleaseError(f"{name}: it cannot be unpacked ({fault})", f"{name}：无法解压，请先自行解压后再导入") from None
    except zipfile.BadZipFile as fault:
        raise _damaged(name, fault) from None
    try:
        with raw:
            yield raw
    except (zipfile.BadZipFile, zlib.error, EOFError) as fault:
        raise _damaged(name, fault) from None


def _damaged(name: str, fault: Exception) -> ReleaseError:
    return ReleaseError(f"{name}: the archive is damaged ({fault}); get it again", f"{name}：压缩包已损坏，请重新获取")


def _at_line(name: str, line: int, what: str, zh: str) -> ReleaseError:
    return ReleaseError(f"{name}, line {line}: {what}", f"{name} 第 {line} 行：{zh}")


def _cells(files: Files, name: str, needed: tuple[str, ...], **form: Any) -> Iterator[dict[str, str]]:
    """The rows of a file in UTF-8, by the names of its columns, of which `needed` must be there. Raises ReleaseError."""
    with _opened(files, name) as raw:
        reader = csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""), **form)
        try:
            if missing := [one for one in needed if one not in (reader.fieldnames or ())]:
                raise ReleaseError(f"{name}: there is no column {missing[0]}", f"{name}：缺少列 {missing[0]}")
            for row in reader:
                if any(row[one] is None for one in needed):
                    raise _at_line(name, reader.line_num, "it has fewer cells than the first line", "单元格数少于首行")
                yield row
        except csv.Error as fault:
            raise _at_line(name, reader.line_num + 1, f"it is no row of a table ({fault})", f"不是合法的表格行（{fault}）") from None
        except UnicodeDecodeError:
            raise ReleaseError(
                f"{name}: it is not UTF-8, as this release is published; take the file as it was published",
                f"{name}：不是 UTF-8 编码；请使用官方发布的原始文件",
            ) from None


def _named(files: Files, *ends: str) -> list[str]:
    return [name for name in files if any(name.rpartition("/")[2].lower().startswith(end.lower()) for end in ends)]


def read_release(path: Path, kind: str, url: str = "", version: str = "", name: str = "") -> Release:
    """A release of one kind (loinc, snomed, table); one without concepts fails while its rows are read. Raises ReleaseError."""
    files = files_of(path)
    if kind == "loinc":
        release = _loinc(path, files, version)
    elif kind == "snomed":
        release = _snomed(path, files, version)
    else:
        release = _table(path, files, url, version, name)
    release.rows = _some(path, release.rows)
    return release


def _some(path: Path, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows, of which there must be one at least."""
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise ReleaseError(f"{path}: there is no concept in it", f"{path}：其中没有任何概念")


# --- LOINC


def _loinc(path: Path, files: Files, version: str) -> Release:
    (table,) = [one for one in files if one.rpartition("/")[2] == "Loinc.csv"][:1] or [""]
    if not table:
        raise ReleaseError(f"{path}: no Loinc.csv in it (the table of the LOINC release)", f"{path}：其中没有 Loinc.csv（LOINC 主表）")
    variants = [one for one in files if "LinguisticVariant.csv" in one and one.rpartition("/")[2].lower().startswith("zhcn")]
    properties = {
        "COMPONENT": "string", "PROPERTY": "string", "TIME_ASPCT": "string", "SYSTEM": "string", "SCALE_TYP": "string",
        "METHOD_TYP": "string", "CLASS": "string", "STATUS": "string", "status": "code",
    }  # fmt: skip

    def rows() -> Iterator[Row]:
        chinese = _chinese_loinc(files, variants[0]) if variants else {}
        for row in _cells(files, table, ("LOINC_NUM",)):
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
    for row in _cells(files, name, ("LOINC_NUM",)):
        whole = row.get("LONG_COMMON_NAME") or row.get("LinguisticVariantDisplayName")
        parts = [row.get(key, "") for key in ("COMPONENT", "PROPERTY", "TIME_ASPCT", "SYSTEM", "SCALE_TYP", "METHOD_TYP")]
        text = whole or ":".join(part for part in parts if part)
        if row["LOINC_NUM"] and text:
            found[row["LOINC_NUM"]] = text
    return found


# --- SNOMED CT


def _snomed(path: Path, files: Files, version: str) -> Release:
    concepts = _named(files, "sct2_Concept_Snapshot")
    descriptions, relations = _named(files, "sct2_Description_Snapshot"), _named(files, "sct2_Relationship_Snapshot")
    if not concepts or not descriptions or not relations:
        raise ReleaseError(
            f"{path}: no RF2 snapshot in it (sct2_Concept_Snapshot…, sct2_Description_Snapshot…, sct2_Relationship_Snapshot…)",
            f"{path}：其中没有 RF2 快照（sct2_Concept_Snapshot…、sct2_Description_Snapshot…、sct2_Relationship_Snapshot…）",
        )
    preferred = _preferred(files)

    def rows() -> Iterator[Row]:
        parents: dict[str, list[str]] = defaultdict(list)
        for relation in _rf2(files, relations, "active", "typeId", "sourceId", "destinationId"):
            if relation["active"] == "1" and relation["typeId"] == _IS_A:
                parents[relation["sourceId"]].append(relation["destinationId"])
        texts: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
        for one in _rf2(files, descriptions, "id", "active", "conceptId", "languageCode", "typeId", "term"):
            if one["active"] == "1" and one["typeId"] in (_FSN, _SYNONYM):
                rank = 0 if one["id"] in preferred and one["typeId"] == _SYNONYM else 1 if one["typeId"] == _SYNONYM else 2
                texts[one["conceptId"]].append((rank, one["languageCode"], one["term"]))
        for concept in _rf2(files, concepts, "id", "active"):
            code = concept["id"]
            held = sorted(texts.get(code, ()), key=lambda text: text[0])
            designations = [{"language": language, "value": term} for _, language, term in held]
            said = [] if concept["active"] == "1" else [("inactive", True)]
            yield Row(code, held[0][2] if held else code, designations, said, parents.get(code, []))

    return Release(SNOMED, version or _edition(files, concepts), "SNOMED CT", "en", rows(), {"inactive": "boolean"})


def _edition(files: Files, concepts: list[str]) -> str:
    """The version as https://hl7.org/fhir/R4/snomedct.html has it: module that most concepts are of, and date."""
    modules: Counter[str] = Counter()
    latest = ""
    for row in _rf2(files, concepts, "moduleId", "effectiveTime"):
        modules[row["moduleId"]] += row["moduleId"] != _MODEL
        latest = max(latest, row["effectiveTime"])
    module = max(modules, key=lambda one: modules[one], default=_MODEL)
    return f"{SNOMED}/{module}/version/{_digits(concepts[0].rpartition('_')[2]) or latest}"


def _preferred(files: Files) -> set[str]:
    """Descriptions that a language reference set prefers."""
    found: set[str] = set()
    for one in _rf2(files, _named(files, "der2_cRefset_Language"), "active", "referencedComponentId", "acceptabilityId"):
        if one["active"] == "1" and one["acceptabilityId"] == "900000000000548007":
            found.add(one["referencedComponentId"])
    return found


def _rf2(files: Files, names: list[str], *needed: str) -> Iterator[dict[str, str]]:
    for name in names:
        yield from _cells(files, name, needed, delimiter="\t", quoting=csv.QUOTE_NONE)


# --- tables of codes


def _table(path: Path, files: Files, url: str, version: str, name: str) -> Release:
    """A CSV or TSV with a column of codes and one of names; a code that begins with another one is below it (ICD)."""
    if not url:
        raise ReleaseError(
            f"{path}: a table of codes needs --url, the URI of its code system", f"{path}：编码表需要 --url，即其编码系统的 URI"
        )
    if not _URI.fullmatch(url):
        raise ReleaseError(
            f"--url '{url}' is no absolute URI, such as http://example.org/icd-10 or urn:oid:1.2.3",
            f"--url“{url}”不是绝对 URI，例如 http://example.org/icd-10 或 urn:oid:1.2.3",
        )
    tables = [one for one in files if one.lower().endswith((".csv", ".tsv", ".txt"))]
    if len(tables) != 1:
        raise ReleaseError(
            f"{path}: one table (.csv or .tsv) is expected, there are {len(tables)}",
            f"{path}：应有一个表（.csv 或 .tsv），实有 {len(tables)} 个",
        )

    def rows() -> Iterator[Row]:
        with _opened(files, tables[0]) as opened:
            held = _held(tables[0], _decoded(tables[0], opened.read()))
        for mine, (shown, other) in held.items():
            texts = [{"language": "zh-CN", "value": shown or mine}, *([{"language": "en", "value": other}] if other else [])]
            above = _above(mine, held)
            yield Row(mine, shown or mine, texts, (), (above,) if above else ())

    return Release(url, version or "unknown", name or path.stem, "zh-CN", rows())


def _decoded(name: str, raw: bytes) -> str:
    """The text of a table: UTF-8, UTF-16 with its mark, or GB18030 (with GBK, in which a Chinese Excel writes CSV). Raises ReleaseError."""
    try:
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return raw.decode("utf-16")
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            # Nearly all of it is UTF-8: it is damaged, not GB18030, which would take many of its bytes for other characters.
            lenient = raw.decode("utf-8-sig", "replace")
            if len(_HANZI.findall(lenient)) > lenient.count("\ufffd"):
                raise
        return raw.decode("gb18030")
    except UnicodeDecodeError as fault:
        raise ReleaseError(
            f"{name}: it is neither UTF-8 nor UTF-16 nor GB18030 (GBK), or damaged at byte {fault.start}; save it as CSV in UTF-8",
            f"{name}：不是 UTF-8、UTF-16 或 GB18030（GBK）编码，或在第 {fault.start} 字节处损坏；请另存为 UTF-8 编码的 CSV",
        ) from None


def _held(name: str, text: str) -> dict[str, tuple[str, str]]:
    """Code -> Chinese and English name. Raises ReleaseError for what would lose rows: quotes that are left open, codes that stand twice."""
    lines = list(io.StringIO(text, newline=""))
    reader = csv.DictReader(lines, delimiter="\t" if "\t" in text.partition("\n")[0] else ",", strict=True)
    held: dict[str, tuple[str, str]] = {}
    seen: dict[str, int] = {}
    line = 1
    try:
        code, shown, english = _columns(name, reader.fieldnames or ())
        line = reader.line_num + 1
        for row in reader:
            mine = (row.get(code) or "").strip()
            if "\n" in mine or "\r" in mine:
                raise _at_line(
                    name,
                    line,
                    f"the code '{mine[:40]}' has two lines; is a quotation mark left open?",
                    f"编码“{mine[:40]}”跨行，引号是否未闭合？",
                )
            if mine in seen:
                raise _at_line(
                    name,
                    line,
                    f"the code '{mine[:40]}' stands in line {seen[mine]} already",
                    f"编码“{mine[:40]}”已在第 {seen[mine]} 行出现",
                )
            if mine:
                seen[mine] = line
                held[mine] = (row.get(shown) or "").strip(), (row.get(english) or "").strip() if english else ""
            line = reader.line_num + 1
    except csv.Error as fault:
        begin = lines[line - 1].strip()[:40] if line <= len(lines) else ""
        raise _at_line(
            name,
            line,
            f"the row '{begin}' cannot be read ({fault}); is a quotation mark left open?",
            f"“{begin}”一行无法读取，引号是否未闭合？",
        ) from None
    return held


def _columns(name: str, heads: Sequence[str]) -> tuple[str, str, str]:
    """The columns of codes, of Chinese and of English names ('' for none). Raises ReleaseError."""
    known = {head.strip().lower(): head for head in heads}
    code, shown, english = (next((known[one] for one in names if one in known), "") for names in (CODES, NAMES, ENGLISH))
    if not code or not shown:
        raise ReleaseError(
            f"{name}: the first line must name a column of codes ({CODES[0]}, {CODES[1]} …) and of names ({NAMES[0]}, {NAMES[3]} …)",
            f"{name}：首行须有编码列（{CODES[0]}、{CODES[1]} …）和名称列（{NAMES[0]}、{NAMES[3]} …）",
        )
    return code, shown, english


def _above(code: str, known: Container[str]) -> str:
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
