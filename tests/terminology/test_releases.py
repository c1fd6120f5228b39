"""Releases of terminologies, in small samples of their formats, are taken in and answer as code systems.

Formats: https://loinc.org/kb/users-guide/ (Loinc.csv), https://docs.snomed.org/snomed-ct-specifications/ (RF2), tables of ICD-10 editions
"""

from __future__ import annotations

import csv
import time
import zipfile

import pytest
from typer.testing import CliRunner

from fhir_server.commands.terminology import app
from fhir_server.model import json_codec
from fhir_server.model.json_codec import Number
from fhir_server.terminology.large import LargeSystems, Row, write
from fhir_server.terminology.releases import ReleaseError, read_release
from fhir_server.terminology.room import Terminology

LOINC_CSV = (
    '"LOINC_NUM","COMPONENT","PROPERTY","TIME_ASPCT","SYSTEM","SCALE_TYP","METHOD_TYP","CLASS","STATUS","SHORTNAME","LONG_COMMON_NAME"\n'
    '"2345-7","Glucose","MCnc","Pt","Ser/Plas","Qn","","CHEM","ACTIVE","Glucose SerPl-mCnc","Glucose [Mass/volume] in Serum or Plasma"\n'
    '"8480-6","Intravascular systolic","Pres","Pt","Arterial system","Qn","","BP.ATOM","ACTIVE","BP sys","Systolic blood pressure"\n'
    '"1000-9","DBG Ab","Pr","Pt","BPU","Ord","","BLDBK","DEPRECATED","","DBG Ab [Presence]"\n'
)
LOINC_ZH = (
    '"LOINC_NUM","COMPONENT","PROPERTY","TIME_ASPCT","SYSTEM","SCALE_TYP","METHOD_TYP","LONG_COMMON_NAME"\n'
    '"2345-7","葡萄糖","","","","","",""\n'
)
CONCEPTS = "id\teffectiveTime\tactive\tmoduleId\tdefinitionStatusId\n" + "".join(
    f"{id}\t20240101\t{active}\t900000000000{module}\t900000000000074008\n"
    for id, active, module in (
        ("900000000000441003", 1, "012004"), ("106237007", 1, "012004"), ("900000000000442005", 1, "012004"),
        ("900000000000443000", 1, "012004"), ("900000000000454005", 1, "012004"), ("900000000000455006", 1, "012004"),
        ("138875005", 1, "207008"), ("404684003", 1, "207008"), ("73211009", 1, "207008"), ("44054006", 1, "207008"),
        ("190388001", 0, "207008"),
    )
)  # fmt: skip
DESCRIPTIONS = "id\teffectiveTime\tactive\tmoduleId\tconceptId\tlanguageCode\ttypeId\tterm\tcaseSignificanceId\n" + "".join(
    f"{id}\t20240101\t1\tm\t{concept}\t{language}\t{kind}\t{term}\tc\n"
    for id, concept, language, kind, term in (
        ("1", "73211009", "en", "900000000000003001", "Diabetes mellitus (disorder)"),
        ("2", "73211009", "en", "900000000000013009", "DM"),
        ("3", "73211009", "en", "900000000000013009", "Diabetes mellitus"),
        ("4", "44054006", "en", "900000000000013009", "Type 2 diabetes"),
        ("5", "44054006", "zh", "900000000000013009", "2型糖尿病"), ("6", "404684003", "en", "900000000000013009", "Clinical finding"),
        ("7", "138875005", "en", "900000000000003001", "SNOMED CT Concept"),
    )
)  # fmt: skip
RELATIONS = (
    "id\teffectiveTime\tactive\tmoduleId\tsourceId\tdestinationId\trelationshipGroup\ttypeId\tcharacteristicTypeId\tmodifierId\n"
    + "".join(
        f"{at}\t20240101\t{active}\tm\t{child}\t{parent}\t0\t{kind}\tc\tm\n"
        for at, (child, parent, kind, active) in enumerate(
            [
                ("404684003", "138875005", "116680003", 1),
                ("73211009", "404684003", "116680003", 1), ("44054006", "73211009", "116680003", 1),
                ("44054006", "404684003", "116680003", 0), ("44054006", "404684003", "363698007", 1),
            ]
        )
    )
)  # fmt: skip
LANGUAGE = (
    "id\teffectiveTime\tactive\tmoduleId\trefsetId\treferencedComponentId\tacceptabilityId\n"
    "a\t20240101\t1\tm\t900000000000509007\t3\t900000000000548007\nb\t20240101\t1\tm\t900000000000509007\t2\t900000000000549004\n"
)


@pytest.fixture
def loinc(tmp_path):
    path = tmp_path / "Loinc_2.78.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("LoincTable/Loinc.csv", LOINC_CSV)
        archive.writestr("AccessoryFiles/LinguisticVariants/zhCN5LinguisticVariant.csv", LOINC_ZH)
    return path


@pytest.fixture
def snomed(tmp_path):
    folder = tmp_path / "rf2" / "Snapshot"
    (folder / "Refset" / "Language").mkdir(parents=True)
    (folder / "Terminology").mkdir()
    (folder / "Terminology" / "sct2_Concept_Snapshot_INT_20240101.txt").write_text(CONCEPTS, encoding="utf-8")
    (folder / "Terminology" / "sct2_Description_Snapshot-en_INT_20240101.txt").write_text(DESCRIPTIONS, encoding="utf-8")
    (folder / "Terminology" / "sct2_Relationship_Snapshot_INT_20240101.txt").write_text(RELATIONS, encoding="utf-8")
    (folder / "Refset" / "Language" / "der2_cRefset_LanguageSnapshot-en_INT_20240101.txt").write_text(LANGUAGE, encoding="utf-8")
    return tmp_path / "rf2"


def run(*arguments):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])


def taken(folder, path, kind, *more):
    ended = run("load", path, "--format", kind, "--data-dir", folder, *more)
    assert ended.exit_code == 0, ended.stderr
    systems = LargeSystems(folder)
    systems.refresh()
    (system,) = systems.all()
    return system


def test_loinc_with_its_chinese_variant(tmp_path, loinc) -> None:
    system = taken(tmp_path / "data", loinc, "loinc")
    assert (system.url, system.version, len(system.concepts)) == ("http://loinc.org", "2.78", 3)
    glucose = system.find("2345-7")
    assert glucose.display == "Glucose [Mass/volume] in Serum or Plasma"
    assert {"language": "zh-CN", "value": "葡萄糖"} in glucose.designations and glucose.values_of("SYSTEM") == ["Ser/Plas"]
    assert system.find("1000-9").inactive and not glucose.inactive and system.find("0-0") is None


def test_snomed_with_its_hierarchy_and_preferred_texts(tmp_path, snomed) -> None:
    system = taken(tmp_path / "data", snomed, "snomed")
    assert system.url == "http://snomed.info/sct" and system.version == "http://snomed.info/sct/900000000000207008/version/20240101"
    assert system.find("73211009").display == "Diabetes mellitus"  # what the language reference set prefers
    assert {one["value"] for one in system.find("44054006").designations} == {"Type 2 diabetes", "2型糖尿病"}
    assert list(system.below("73211009")) == ["73211009", "44054006"]
    assert list(system.above("44054006")) == ["44054006", "73211009", "404684003", "138875005"]
    assert system.subsumes("404684003", "44054006") == "subsumes" and system.subsumes("44054006", "404684003") == "subsumed-by"
    assert system.find("190388001").inactive


@pytest.mark.parametrize(("name", "separator"), [("icd10.csv", ","), ("icd10.tsv", "\t")])
def test_a_table_of_a_chinese_edition_of_icd_10(tmp_path, name, separator) -> None:
    lines = [
        ("主要编码", "附加编码", "疾病名称"),
        ("A00", "", "霍乱"),
        ("A00.0", "", "霍乱，由于O1群霍乱弧菌"),
        ("A00.000x001", "", "古典生物型霍乱"),
        ("I10.x00", "", "特发性高血压"),
    ]
    text = "\n".join(separator.join(f'"{cell}"' if separator == "," else cell for cell in line) for line in lines)
    (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
    system = taken(
        tmp_path / "data", tmp_path / name, "table", "--url", "http://example.org/icd10-cn", "--version", "2.0", "--name", "国临版"
    )
    assert (system.name, system.language) == ("国临版", "zh-CN") and system.find("I10.x00").display == "特发性高血压"
    assert list(system.above("A00.000x001")) == ["A00.000x001", "A00.0", "A00"] and len(list(system.below("A00"))) == 3


def test_value_sets_over_a_large_system(tmp_path, snomed) -> None:
    system = taken(tmp_path / "data", snomed, "snomed")
    include = {"system": system.url, "filter": [{"property": "concept", "op": "is-a", "value": "73211009"}]}
    sets = {
        "urn:some": {"resourceType": "ValueSet", "compose": {"include": [include]}},
        "urn:all": {"resourceType": "ValueSet", "compose": {"include": [{"system": system.url}]}},
    }
    room = Terminology(sets.get, large=lambda url, version: system if url == system.url else None)
    assert set(room.value_set("urn:some").codes) == {(system.url, "73211009"), (system.url, "44054006")}
    assert room.value_set("urn:all").has(system.url, "44054006")


def test_a_new_release_takes_the_place_of_the_old_one_at_once(tmp_path) -> None:
    systems = LargeSystems(tmp_path)
    assert systems.refresh() == ()
    write(tmp_path, "urn:s", "1", "S", "en", {}, [Row("a", "A")])
    first = systems.refresh()
    assert systems.find("urn:s").find("a").display == "A"
    write(tmp_path, "urn:s", "1", "S", "en", {}, [Row("a", "New")])
    write(tmp_path, "urn:s", "1.10", "S", "en", {}, [Row("b", "B")])
    assert systems.refresh() != first
    assert systems.find("urn:s", "1").find("a").display == "New" and systems.find("urn:s").version == "1.10"


def test_numbers_of_properties_keep_their_digits(tmp_path) -> None:
    write(tmp_path, "urn:s", "1", "S", "en", {"ratio": "decimal"}, [Row("a", "A", (), [("ratio", Number("1.500"))])])
    systems = LargeSystems(tmp_path)
    systems.refresh()
    (value,) = systems.find("urn:s").find("a").values_of("ratio")
    assert json_codec.dumps(value) == b"1.500"


def test_a_release_that_breaks_off_leaves_the_old_one(tmp_path) -> None:
    def broken():
        yield Row("b", "B")
        raise ReleaseError("cut off", "内容不完整")

    write(tmp_path, "urn:s", "1", "S", "en", {}, [Row("a", "A")])
    with pytest.raises(ReleaseError):
        write(tmp_path, "urn:s", "1", "S", "en", {}, broken())
    systems = LargeSystems(tmp_path)
    systems.refresh()
    assert systems.find("urn:s").find("a") and [one.suffix for one in (tmp_path / "terminology").iterdir()] == [".db"]


@pytest.mark.parametrize(("kind", "part"), [("loinc", "Loinc.csv"), ("snomed", "sct2_Concept_Snapshot"), ("table", "--url")])
def test_files_that_are_something_else_are_told(tmp_path, kind, part) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    ended = run("load", tmp_path / "x.csv", "--format", kind, "--data-dir", tmp_path / "data")
    assert ended.exit_code == 2 and part in ended.stderr
    with pytest.raises(ReleaseError):
        read_release(tmp_path / "nothing.zip", kind)


def test_a_table_without_the_columns_is_told(tmp_path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    ended = run("load", tmp_path / "x.csv", "--format", "table", "--url", "urn:x", "--data-dir", tmp_path / "data")
    assert ended.exit_code == 2 and "疾病名称" in ended.stderr and "编码" in ended.stderr


def refused(folder, path, kind, *more) -> str:
    """What is told of a release that is refused; what was there before stays."""
    write(folder, "urn:x", "unknown", "X", "en", {}, [Row("old", "Old")])
    ended = run("load", path, "--format", kind, "--data-dir", folder, *more)
    assert ended.exit_code == 2 and "Traceback" not in ended.stderr, ended.exception
    systems = LargeSystems(folder)
    systems.refresh()
    assert [list(one.concepts) for one in systems.all()] == [["old"]]
    return str(ended.stderr)


def table(tmp_path, content: str | bytes, name: str = "x.csv"):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_damaged_archive_is_told(tmp_path, loinc) -> None:
    raw = bytearray(loinc.read_bytes())
    raw[raw.index(b"Glucose [Mass")] ^= 1
    loinc.write_bytes(raw)
    assert "LoincTable/Loinc.csv" in refused(tmp_path / "data", loinc, "loinc")
    loinc.write_bytes(bytes(raw[:200]) + bytes(raw[-22:]))
    assert "Loinc_2.78.zip" in refused(tmp_path / "data", loinc, "loinc")


@pytest.mark.parametrize(("kind", "more"), [("loinc", ()), ("table", ("--url", "urn:x"))])
def test_a_field_that_is_too_long_is_told(tmp_path, kind, more) -> None:
    text = f"LOINC_NUM,code,name\n1-8,1-8,{'x' * (csv.field_size_limit() + 1)}\n"
    told = refused(tmp_path / "data", table(tmp_path, text, "Loinc.csv"), kind, *more)
    assert "Loinc.csv" in told and "line 2" in told and "第 2 行" in told


def test_a_release_without_concepts_leaves_the_old_one(tmp_path) -> None:
    told = refused(tmp_path / "data", table(tmp_path, "code,name\n"), "table", "--url", "urn:x")
    assert "no concept" in told and "没有" in told


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('code,name\nA00,a\nA01,"b\nA02,c\nA03,d\n', ("line 3", "第 3 行", "A01")),
        ('code,name\nA00,a\nA01,"b\nA02,"c"\nA03,d\n', ("line 3", "第 3 行", "A01")),
        ('code,name\nA00,a\n"A01,b\nA02",c\nA03,d\n', ("line 3", "第 3 行", "A01")),
        ("code,name\nA00,a\nA01,b\nA00,c\n", ("line 4", "第 4 行", "A00", "line 2")),
    ],
)
def test_a_table_that_would_lose_rows_is_told_with_line_and_code(tmp_path, text, parts) -> None:
    told = refused(tmp_path / "data", table(tmp_path, text), "table", "--url", "urn:x")
    assert all(part in told for part in ("x.csv", *parts)), told


def test_a_name_of_two_lines_is_one_name(tmp_path) -> None:
    system = taken(tmp_path / "data", table(tmp_path, 'code,name\nA00,"a\nb"\nA01,c\n'), "table", "--url", "urn:x")
    assert system.find("A00").display == "a\nb" and system.find("A01").display == "c"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_table_in_the_encodings_of_excel(tmp_path, encoding) -> None:
    bom = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    text = f"{bom}疾病编码,疾病名称\r\nA00,霍乱\r\nA01,伤寒\u2028和副伤寒\r\n"
    system = taken(tmp_path / "data", table(tmp_path, text.encode(encoding)), "table", "--url", "urn:x")
    assert (system.find("A00").display, system.find("A01").display) == ("霍乱", "伤寒\u2028和副伤寒")


def test_a_table_in_gbk(tmp_path) -> None:
    text = "编码\t名称\nA00\t霍乱\nA01\t伤寒和副伤寒\n"
    system = taken(tmp_path / "data", table(tmp_path, text.encode("gbk"), "icd.txt"), "table", "--url", "urn:x")
    assert system.find("A01").display == "伤寒和副伤寒"


@pytest.mark.parametrize(
    "content",
    [
        b"code,name\nA00,\xff\xff\n",  # none of them
        "疾病编码,疾病名称\nA00,霍乱\nA01,伤寒".encode().replace("伤".encode(), "伤".encode()[:2]),  # UTF-8 of which a byte is missing
        b"\xff\xfec\x00o\x00d",  # UTF-16 that is cut off
    ],
)
def test_a_table_in_no_known_encoding_is_told(tmp_path, content) -> None:
    told = refused(tmp_path / "data", table(tmp_path, content), "table", "--url", "urn:x")
    assert "x.csv" in told and "UTF-8" in told and "请" in told


def test_loinc_and_snomed_in_another_encoding_are_told_with_the_file(tmp_path, snomed) -> None:
    told = refused(tmp_path / "data", table(tmp_path, "LOINC_NUM,COMPONENT\n1-8,霍乱\n".encode("gbk"), "Loinc.csv"), "loinc")
    assert "Loinc.csv" in told and "UTF-8" in told and "请" in told
    (file,) = snomed.rglob("sct2_Description*")
    file.write_bytes(DESCRIPTIONS.encode("gbk"))
    assert file.name in refused(tmp_path / "data", snomed, "snomed")


def test_a_row_of_rf2_that_is_cut_off_is_told(tmp_path, snomed) -> None:
    (file,) = snomed.rglob("sct2_Description*")
    file.write_text(DESCRIPTIONS.rpartition("\t")[0].rpartition("\t")[0], encoding="utf-8")
    told = refused(tmp_path / "data", snomed, "snomed")
    assert file.name in told and "line 8" in told


@pytest.mark.parametrize("url", ["not a uri", "icd10", "/icd10", "http://example.org/a|1", "urn: x"])
def test_the_url_of_a_table_is_an_absolute_uri(tmp_path, url) -> None:
    told = refused(tmp_path / "data", table(tmp_path, "code,name\nA00,a\n"), "table", "--url", url)
    assert url in told and "URI" in told


def test_a_running_server_uses_what_is_taken_in(tmp_path, start, snomed) -> None:
    client = start(data_dir=tmp_path / "data").client()
    ask = {"system": "http://snomed.info/sct", "code": "44054006"}
    assert client.get("CodeSystem/$lookup", params=ask).status_code == 404
    taken(tmp_path / "data", snomed, "snomed")
    until = time.monotonic() + 10
    while (answer := client.get("CodeSystem/$lookup", params={**ask, "displayLanguage": "zh"})).status_code != 200:
        assert time.monotonic() < until
        time.sleep(0.1)
    display = {row["name"]: row.get("valueString") for row in answer.json()["parameter"]}["display"]
    assert display == "2型糖尿病"
    told = client.get("CodeSystem/$subsumes", params={"system": ask["system"], "codeA": "73211009", "codeB": "44054006"}).json()
    assert told["parameter"] == [{"name": "outcome", "valueCode": "subsumes"}]
    everything = {
        "resourceType": "ValueSet",
        "id": "sct",
        "url": "urn:sct",
        "status": "active",
        "compose": {"include": [{"system": ask["system"]}]},
    }
    client.put("ValueSet/sct", json=everything)
    found = client.get("ValueSet/$expand", params={"url": "urn:sct", "filter": "糖尿病"}).json()["expansion"]["contains"]
    assert [one["code"] for one in found] == ["44054006"]
    for code, result in (("44054006", True), ("1234", False)):
        params = {"url": "urn:sct", "system": ask["system"], "code": code}
        assert client.get("ValueSet/$validate-code", params=params).json()["parameter"][0]["valueBoolean"] is result
