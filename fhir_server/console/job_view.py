"""What people are shown of jobs: kind, key, attempts and error. A payload may be about a person and is shown only when asked for.

Pure functions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from fhir_server.console.subscription_view import fault_text
from fhir_server.storage.port import JobCount


def job_line(job: Mapping[str, Any], timers: Collection[str]) -> dict[str, Any]:
    """A job without its payload; `retry` and `aside` tell what can be done about it. `timers`: kinds that wait for a day of their own."""
    shown = {name: job[name] for name in ("id", "kind", "key", "due", "attempts", "state", "running")}
    return {**shown, "error": fault_text(job["error"]), "retry": retried_at_once(job, timers), "aside": set_aside_now(job, timers)}


def retried_at_once(job: Mapping[str, Any], timers: Collection[str]) -> bool:
    """Whether a job can be tried again now: a dead letter, or one that failed and waits.

    A timer that waits cannot: its whole key would come forward with it, months before its time. It can be set aside and then retried.
    """
    waits = job["state"] == "open" and job["attempts"] > 0 and not job["running"]
    return bool(job["state"] == "dead" or (waits and job["kind"] not in timers))


def set_aside_now(job: Mapping[str, Any], timers: Collection[str]) -> bool:
    """Whether a job can be taken out of the way: one that waits, but no timer whose time has not come."""
    return job["state"] == "open" and not job["running"] and (job["attempts"] > 0 or job["kind"] not in timers)


def by_kind(counts: Iterable[JobCount], known: Iterable[str]) -> list[dict[str, Any]]:
    """A row for each kind that is known here or has jobs: open, running, waiting, dead, oldest due time of the open ones (None: none)."""
    rows = {name: _row(name, known=True) for name in known}
    for count in counts:
        row = rows.setdefault(count.kind, _row(count.kind, known=False))
        if count.state == "open":
            row |= {"open": count.number, "running": count.running, "waiting": count.waiting, "due": count.due}
        else:
            row["dead"] = count.number
    return sorted(rows.values(), key=lambda row: str(row["kind"]))


def _row(kind: str, *, known: bool) -> dict[str, Any]:
    return {"kind": kind, "known": known, "open": 0, "running": 0, "waiting": 0, "dead": 0, "due": None}
