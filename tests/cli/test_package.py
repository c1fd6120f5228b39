"""`fhir-server package`: implementation guides are installed whole, offline, several versions side by side."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from fhir_server.commands.package import app
from fhir_server.commands.validate import app as validate
from fhir_server.model.packages import Package, PackageError, packed, read_package
from tests.subscriptions.test_topic_subscriptions import asked, topic
from tests.validation.profiled import OWN, profile

GUIDES = "igs"


def package(version="1.0.0", *more, required="birthDate"):
    one = profile("p", "Patient", {"path": required, "min": 1}, version=version, id="p")
    guide = {
        "resourceType": "ImplementationGuide", "id": "guide", "url": "http://example.org/ImplementationGuide/guide", "version": version,
        "name": "Guide", "status": "active", "packageId": "example.guide", "fhirVersion": ["4.0.1"],
        "definition": {"resource": [{"reference": {"reference": "StructureDefinition/p"}}]},
    }  # fmt: skip
    return Package("example.guide", version, fhir_versions=("4.0.1",), resources=[one, guide, *more])


def run(*arguments):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])


def written(tmp_path, made, name="p.tgz"):
    (tmp_path / name).write_bytes(packed(made))
    return tmp_path / name


def test_a_package_is_installed_and_listed_and_its_profiles_count(tmp_path, start) -> None:
    store = tmp_path / "data"
    ended = run("install", written(tmp_path, package()), "--data-dir", store)
    assert ended.exit_code == 0 and "example.guide#1.0.0: 2 resources" in ended.stdout
    assert "example.guide" in run("list", "--data-dir", store).stdout
    client = start(data_dir=store).client()
    (guide,) = [entry["resource"] for entry in client.get("ImplementationGuide").json()["entry"]]
    assert guide["packageId"] == "example.guide"
    linked = guide["definition"]["resource"][0]["reference"]["reference"]
    assert client.get(linked).json()["url"] == OWN + "p"
    answer = client.post("$validate", params={"profile": OWN + "p"}, json={"resourceType": "Patient"})
    assert any(issue.get("expression") == ["Patient.birthDate"] for issue in answer.json()["issue"])


def test_versions_stand_side_by_side_and_again_changes_nothing(tmp_path, start) -> None:
    store = tmp_path / "data"
    first, second = written(tmp_path, package()), written(tmp_path, package("2.0.0", required="gender"), "q.tgz")
    assert "2 new or changed" in run("install", first, "--data-dir", store).stdout
    assert "0 new or changed" in run("install", first, "--data-dir", store).stdout
    assert "2 new or changed" in run("install", second, "--data-dir", store).stdout
    client = start(data_dir=store).client()
    for version, missing in (("|1.0.0", "birthDate"), ("|2.0.0", "gender"), ("", "gender")):
        answer = client.post("$validate", params={"profile": OWN + "p" + version}, json={"resourceType": "Patient"}).json()
        assert [one["expression"][0] for one in answer["issue"] if one["severity"] == "error"] == [f"Patient.{missing}"], version


def test_a_running_server_takes_up_what_is_installed(tmp_path, start) -> None:
    server = start(data_dir=tmp_path / "data")
    run("install", written(tmp_path, package()), "--data-dir", tmp_path / "data")
    client = server.client()
    for _ in range(40):
        resources = {one["type"]: one for one in client.get("metadata").json()["rest"][0]["resource"]}
        if "supportedProfile" in resources["Patient"]:
            break
    assert resources["Patient"]["supportedProfile"] == [OWN + "p|1.0.0"]


def test_a_folder_is_a_package_too(tmp_path) -> None:
    inner = tmp_path / "guide" / "package"
    inner.mkdir(parents=True)
    (inner / "package.json").write_text(json.dumps({"name": "example.guide", "version": "1.0.0", "fhirVersions": ["4.0.1"]}))
    (inner / "StructureDefinition-p.json").write_text(json.dumps(package().resources[0]))
    made = read_package(tmp_path / "guide")
    assert made.id == "example.guide#1.0.0" and [one["url"] for one in made.resources] == [OWN + "p"]
    ended = run("install", tmp_path / "guide", "--data-dir", tmp_path / "data")
    assert ended.exit_code == 0 and "1 ImplementationGuide" in ended.stdout  # made from the manifest


@pytest.mark.parametrize(
    ("content", "part"), [(b"no archive", "not a gzipped archive"), (packed(Package("", "1")), "names no package"), (None, "no such file")]
)
def test_what_is_no_package_is_told_and_nothing_is_installed(tmp_path, content, part) -> None:
    path = tmp_path / "x.tgz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PackageError, match=part):
        read_package(path)
    ended = run("install", path, "--data-dir", tmp_path / "data")
    assert ended.exit_code == 2 and part in ended.stderr


def test_a_package_for_another_version_of_fhir(tmp_path) -> None:
    made = package()
    made.fhir_versions = ("5.0.0",)
    ended = run("install", written(tmp_path, made), "--data-dir", tmp_path / "data")
    assert ended.exit_code == 2 and "5.0.0" in ended.stderr


def test_resources_that_are_wrong_are_refused_by_name_and_the_others_installed(tmp_path) -> None:
    wrong = {"resourceType": "ValueSet", "id": "v", "url": "http://example.org/v", "status": "wrong"}
    ended = run("install", written(tmp_path, package("1.0.0", wrong)), "--data-dir", tmp_path / "data")
    assert ended.exit_code == 1 and "ValueSet http://example.org/v" in ended.stdout and "2 resources" in ended.stdout


def test_search_parameters_wait_until_they_are_asked_for(tmp_path) -> None:
    parameter = {
        "resourceType": "SearchParameter", "id": "s", "url": "http://example.org/s", "name": "s", "status": "active", "description": "x",
        "code": "own", "base": ["Patient"], "type": "string", "expression": "Patient.name.text",
    }  # fmt: skip
    path = written(tmp_path, package("1.0.0", parameter))
    assert "left out" in run("install", path, "--data-dir", tmp_path / "a").stdout
    assert "1 SearchParameter" in run("install", path, "--search-parameters", "--data-dir", tmp_path / "b").stdout


def test_the_guides_of_the_corpora_install(tmp_path, corpus) -> None:
    for archive in sorted((corpus / GUIDES).glob("*.tgz")):
        ended = run("install", archive, "--data-dir", tmp_path / "data")
        assert ended.exit_code == 0, ended.stdout + ended.stderr


def test_validate_knows_packages_and_profiles(tmp_path) -> None:
    path, file = written(tmp_path, package()), tmp_path / "a.json"
    file.write_text(json.dumps({"resourceType": "Patient"}))

    def judged(*arguments):
        return CliRunner(env={"COLUMNS": "200"}).invoke(validate, [str(file), *map(str, arguments)])

    assert judged().exit_code == 0
    ended = judged("--package", path, "--profile", OWN + "p")
    assert ended.exit_code == 1 and "Patient.birthDate" in ended.stdout and "cardinality" in ended.stdout
    unknown = judged("--profile", "http://nowhere.org/p")
    assert unknown.exit_code == 2 and "http://nowhere.org/p" in unknown.stderr


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    ended = CliRunner().invoke(app, ["list", "--data-dir", str(tmp_path / "typo")])
    assert ended.exit_code == 2 and "typo" in ended.output and not (tmp_path / "typo").exists()
    ended = CliRunner().invoke(app, ["export", str(tmp_path / "nowhere" / "f.tgz")])
    assert ended.exit_code == 2 and "nowhere" in ended.output


def test_the_own_guide_is_installed_whole(tmp_path):
    """Also what has no version in R4: NamingSystem."""
    file = tmp_path / "own.tgz"
    assert CliRunner().invoke(app, ["export", str(file)]).exit_code == 0
    ended = CliRunner().invoke(app, ["install", str(file), "--data-dir", str(tmp_path / "data")])
    assert ended.exit_code == 0 and "refused" not in ended.output, ended.output
    assert "NamingSystem" in ended.output


def test_topics_of_a_guide_are_installed_and_can_be_subscribed_to(tmp_path, start) -> None:
    """In R4 a topic is a Basic, which has no canonical among its own elements."""
    url = "http://example.org/SubscriptionTopic/guide"
    unserved = topic("unserved", url + "2")
    unserved["extension"][2]["extension"][0]["valueUri"] = "Nothing"
    made = written(tmp_path, package("1.0.0", topic("served", url), unserved))
    ended = run("install", made, "--data-dir", tmp_path / "data")
    assert "3 resources" in ended.stdout and "Basic unserved-1.0.0: SubscriptionTopic.resourceTrigger[0].resource" in ended.stdout
    assert ended.exit_code == 1
    with start(data_dir=tmp_path / "data").client() as client:
        assert client.post("Subscription", json=asked("http://127.0.0.1:9/x", criteria=url)).status_code == 201
        assert client.post("Subscription", json=asked("http://127.0.0.1:9/x", criteria=url + "2")).status_code == 422
