"""Dashboards and alerts ask for what a running server really tells, by the labels that it really has; titles are in both languages.

https://prometheus.io/docs/prometheus/latest/querying/basics/, https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT, Server
from tests.console.receiver import Receiver, observation, subscription, until
from tests.hl7v2.support import Peer

DASHBOARDS = sorted((ROOT / "deploy/grafana").glob("*.json"))
RULES = ROOT / "deploy/prometheus/rules.yml"
NOT_OURS = {"up"}
"""What Prometheus itself tells."""
OF_PROMETHEUS = {"instance", "job"}
_STRING = re.compile(r'"[^"]*"')
_METRIC = re.compile(r"\b([a-z][a-z0-9_]*)(?=\{|\[|\s*\)|\s*$|\s+[/<>*=]|\s+or\b)")
_LABELS = re.compile(r"\{([^}]*)\}")
_BY = re.compile(r"\bby \(([^)]*)\)")
MESSAGE = "MSH|^~\\&|HIS|H|FHIR|H|20260302080000||ADT^A01|m-1|P|2.5\rPID|1||1^^^H^MR||Li^Ming\rPV1|1|I|W^1^1||||||||||||||||V1^^^H^VN\r"


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
            yield file.stem, panel


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


def asked() -> list[tuple[str, str]]:
    """(where it stands, expression)."""
    found = [(f"{name}: {panel['title']}", target["expr"]) for name, panel in panels() for target in panel["targets"]]
    for file in DASHBOARDS:
        for variable in json.loads(file.read_text(encoding="utf-8"))["templating"]["list"]:
            if variable["type"] == "query":
                found.append((f"{file.stem}: ${variable['name']}", variable["query"].removeprefix("label_values(").partition(",")[0]))
    return found + [(rule["alert"], rule["expr"]) for rule in rules()]


def metrics_in(expression: str) -> set[str]:
    plain = _BY.sub("", _STRING.sub('""', expression))
    return {name for name in _METRIC.findall(plain) if not name.isdigit()}


@pytest.fixture(scope="module")
def told(server: Server) -> dict[str, set[str]]:
    """Metrics of a server that was at work -> the labels of their samples."""
    receiver = Receiver()
    receiver.open()
    with server.client() as client:
        client.put("Subscription/s", json=subscription(receiver, "s", "Observation?subject=Patient/p")).raise_for_status()
        until(lambda: client.get("Subscription/s").json()["status"] == "active")
        client.put("Observation/o", json=observation("o", "p")).raise_for_status()
        until(lambda: receiver.hits)
        client.get("Patient?name=x")
    with Peer(server) as peer:
        peer.send(MESSAGE)
    receiver.shut()

    def known() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(httpx.get(server.root + "/metrics").text):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
        return found

    return until(lambda: "fhir_subscription_deliveries_total" in (found := known()) and found)


QUIET = {"fhir_slow_searches_total": {"type"}, "fhir_server_events_total": {"event"}}
"""Counters without a sample as long as all is well."""


@pytest.mark.parametrize(("where", "expression"), asked(), ids=[where for where, _ in asked()])
def test_what_is_asked_for_is_told(told: dict[str, set[str]], where: str, expression: str) -> None:
    names = metrics_in(expression) - NOT_OURS
    assert names or "up{" in expression
    for name in names:
        labels = QUIET.get(name, told.get(name))
        assert labels is not None, f"{name} is not told"
        plain = [
            part.partition("=")[0].rstrip("!~ ") for group in _LABELS.findall(_STRING.sub("", expression)) for part in group.split(",")
        ]
        plain += [part.strip() for group in _BY.findall(expression) for part in group.split(",")]
        assert {label.strip() for label in plain} <= labels | OF_PROMETHEUS, (name, labels)


def test_counters_that_are_quiet_are_declared_from_the_first_moment_on(server: Server) -> None:
    text = httpx.get(server.root + "/metrics").text
    for name in QUIET:
        assert f"# TYPE {name} counter" in text


def test_the_reader_of_expressions_finds_their_metrics() -> None:
    assert metrics_in('sum by (le) (rate(a_b{x="c_d"}[5m])) / sum(rate(e_f[1h])) > 0.1') == {"a_b", "e_f"}
    assert metrics_in("max(g_h) or vector(0)") == {"g_h"}
    assert metrics_in("i_j / k_l < 0.1") == {"i_j", "k_l"}


def test_every_metric_of_ours_has_its_place(told: dict[str, set[str]]) -> None:
    shown = {name for _, expression in asked() for name in metrics_in(expression)}
    ours = {name for name in told if name.startswith(("fhir_", "hl7v2_"))}
    families = {re.sub(r"_(bucket|count|sum|created|total)$", "", name) for name in ours}
    on = {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in shown}
    by_process = {
        "fhir_server_worker_pid",
        "fhir_server_jobs_done",
        "fhir_server_jobs_retried",
        "fhir_server_jobs_dead",
        "fhir_server_jobs_leading",
    }
    assert {name for name in families - on - by_process if not name.startswith("fhir_server_feed_lag_")} == set()


def test_titles_are_in_english_and_chinese_and_ids_are_unique() -> None:
    assert {file.stem for file in DASHBOARDS} == {"service", "store", "jobs", "hl7v2"}
    uids = [json.loads(file.read_text(encoding="utf-8"))["uid"] for file in DASHBOARDS]
    assert len(set(uids)) == len(uids)
    for name, panel in panels():
        english, _, chinese = panel["title"].partition(" / ")
        assert english.isascii() and re.search(r"[一-鿿]", chinese), (name, panel["title"])
    for rule in rules():
        english, _, chinese = rule["annotations"]["summary"].partition(" / ")
        assert english.isascii() and re.search(r"[一-鿿]", chinese), rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_each_alert_is_explained() -> None:
    page = (ROOT / "docs/observability.md").read_text(encoding="utf-8")
    assert [rule["alert"] for rule in rules() if rule["alert"] not in page] == []
