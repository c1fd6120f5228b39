"""How the tests of $graphql ask, and what they expect of an error."""

from __future__ import annotations

from typing import Any


def post(client: Any, place: str, query: str, **more: Any) -> Any:
    """The raw answer to a query at a place below the base ('' = the system)."""
    return client.post(f"{place}/$graphql" if place else "$graphql", json={"query": query, **more})


def ask(client: Any, place: str, query: str, **more: Any) -> Any:
    """`data` of an answer without errors."""
    answer = post(client, place, query, **more)
    assert answer.status_code == 200, answer.text
    assert "errors" not in answer.json()
    return answer.json()["data"]


def faults(answer: Any, status: int) -> list[dict[str, Any]]:
    """The errors of an answer, each of which carries an OperationOutcome whose issues are told in its message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    found = answer.json()["errors"]
    assert found
    for one in found:
        outcome = one["extensions"]["resource"]
        assert outcome["resourceType"] == "OperationOutcome"
        assert outcome["issue"][0]["diagnostics"] in one["message"]
        assert "Traceback" not in one["message"]
    return found


def refused(client: Any, place: str, query: str, status: int = 400, **more: Any) -> str:
    """The message of a query that is refused as a whole."""
    answer = post(client, place, query, **more)
    found = faults(answer, status)
    assert answer.json()["data"] is None
    return found[0]["message"]
