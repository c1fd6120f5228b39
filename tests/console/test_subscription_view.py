"""What the monitor shows of a Subscription: nothing of its endpoint but the host."""

from __future__ import annotations

import pytest

from fhir_server.console.job_view import by_kind, job_line, retried_at_once, set_aside_now
from fhir_server.console.subscription_view import described, fault_text, host_of, last_error
from fhir_server.storage.port import JobCount


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("https://receiver.example.org/hook", "receiver.example.org"),
        ("https://receiver.example.org:8443/hook?token=geheim", "receiver.example.org:8443"),
        ("https://user:geheim@receiver.example.org/x#geheim", "receiver.example.org"),
        ("http://[2001:db8::1]:9000/geheim", "[2001:db8::1]:9000"),
        ("mailto:zhang.san@hospital.example.org?subject=geheim", "hospital.example.org"),
        ("mailto:geheim", ""),
        ("http://host:notaport/geheim", ""),
        ("http://[geheim/", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_of_an_endpoint_only_its_host_is_shown(endpoint: str | None, host: str) -> None:
    assert host_of(endpoint) == host


def test_a_subscription_is_described_without_headers_and_secrets() -> None:
    shown = described(
        {
            "resourceType": "Subscription",
            "id": "s1",
            "status": "error",
            "reason": "laboratory mirror",
            "error": "POST https://u:geheim@a.example.org/geheim?x=geheim: HTTP 503",
            "criteria": "http://example.org/topic",
            "channel": {"type": "rest-hook", "endpoint": "https://a.example.org/geheim", "header": ["Authorization: Bearer geheim"]},
        },
        "A visit is finished",
    )
    assert "geheim" not in str(shown)
    assert shown == {
        "id": "s1",
        "reason": "laboratory mirror",
        "criteria": "http://example.org/topic",
        "topic": "A visit is finished",
        "channel": "rest-hook",
        "host": "a.example.org",
        "status": "error",
        "error": "POST https://a.example.org: HTTP 503",
    }


def test_a_subscription_that_says_nothing_is_shown_all_the_same() -> None:
    assert set(described({"resourceType": "Subscription"}).values()) == {""}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("PUT http://127.0.0.1:9/a/b: refused", "PUT http://127.0.0.1:9: refused"),
        ("see https://x.example.org/s?a=b, and http://y/z.", "see https://x.example.org, and http://y."),
        ("no address at all", "no address at all"),
        (None, ""),
        ("x" * 400, "x" * 299 + "…"),
    ],
)
def test_addresses_in_an_error_are_cut_to_their_host(text: str | None, shown: str) -> None:
    assert fault_text(text) == shown


def test_the_last_error_is_that_of_the_resource_or_of_the_last_attempt() -> None:
    failed, taken = {"status": "HTTP 503", "taken": False}, {"status": "HTTP 200", "taken": True}
    assert last_error({"error": "it said so"}, [taken]) == "it said so"
    assert last_error({"error": ""}, [failed, taken]) == "HTTP 503"
    assert last_error({"error": ""}, [taken, failed]) == ""
    assert last_error({"error": ""}, []) == ""


def _job(**more: object) -> dict[str, object]:
    base = {"id": 7, "kind": "k", "key": "Patient/1", "due": 5, "attempts": 2, "state": "open", "running": False, "error": None}
    return {**base, "payload": {"name": "李强"}, **more}


def test_a_job_is_listed_without_its_payload() -> None:
    shown = job_line(_job(), ())
    assert "李强" not in str(shown) and shown["error"] == ""
    assert (shown["id"], shown["key"], shown["attempts"], shown["retry"], shown["aside"]) == (7, "Patient/1", 2, True, True)


@pytest.mark.parametrize(
    ("job", "retried"),
    [
        (_job(), True),
        (_job(state="dead"), True),
        (_job(attempts=0), False),
        (_job(running=True), False),
        (_job(state="done"), False),
        (_job(kind="timer"), False),
        (_job(kind="timer", state="dead"), True),
    ],
)
def test_only_dead_and_failed_jobs_are_retried_and_no_timer_before_its_time(job: dict[str, object], retried: bool) -> None:
    assert retried_at_once(job, {"timer"}) is retried


@pytest.mark.parametrize(
    ("job", "aside"),
    [
        (_job(), True),
        (_job(attempts=0), True),
        (_job(running=True), False),
        (_job(state="dead"), False),
        (_job(kind="timer"), True),
        (_job(kind="timer", attempts=0), False),
    ],
)
def test_what_waits_is_set_aside_but_no_timer_whose_time_has_not_come(job: dict[str, object], aside: bool) -> None:
    assert set_aside_now(job, {"timer"}) is aside


def test_jobs_are_told_by_kind_also_of_kinds_without_any_and_unknown_ones() -> None:
    counts = [JobCount("a", "open", 5, 100, 1, 2), JobCount("a", "dead", 3, 50), JobCount("old", "open", 1, 7)]
    rows = by_kind(counts, ["b", "a"])
    assert [(row["kind"], row["known"], row["open"], row["running"], row["waiting"], row["dead"], row["due"]) for row in rows] == [
        ("a", True, 5, 1, 2, 3, 100),
        ("b", True, 0, 0, 0, 0, None),
        ("old", False, 1, 0, 0, 0, 7),
    ]
