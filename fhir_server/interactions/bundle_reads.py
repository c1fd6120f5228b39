"""GET and HEAD entries of a transaction: they see one snapshot, the state right after its writes, and fail it when they fail.

Specification: https://hl7.org/fhir/R4/http.html#trules
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fhir_server.errors import FhirError
from fhir_server.interactions import read
from fhir_server.interactions.bundle_entries import Entry, within_entry
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.storage.port import Facts, Stored, Write

Address = tuple[str, str]


def check_kinds(context: Context, entries: Sequence[Entry]) -> dict[int, FhirError]:
    """Entries that are neither a write nor a read: an operation that changes something cannot be part of a transaction.

    Under GET no operation changes anything: $document answers without storing, $reindex tells its state.
    """
    errors: dict[int, FhirError] = {}
    for entry in entries:
        if entry.route.interaction != "operation":
            continue
        operation = context.operations.operations.get(entry.route.operation)
        if operation is not None and operation.affects_state and entry.request.method == "POST":
            text = f"${operation.name} changes data by itself and cannot be an entry of a transaction; send it alone or in a batch"
            errors[entry.index] = within_entry(
                FhirError.of(
                    400, "not-supported", text, zh=f"${operation.name} 会自行修改数据，不能作为事务的条目；请单独发送，或放在 batch 中"
                ),
                entry.index,
            )
    return errors


def wanted(entries: Sequence[Entry]) -> list[Address]:
    """The resources that read entries name: the unit answers for them."""
    return [(entry.route.type, entry.route.id) for entry in entries if entry.route.interaction == "read"]


async def rehearse(context: Context, entries: Sequence[Entry], written: Mapping[Address, int]) -> None:
    """Do searches, histories, version reads and operations once before anything is written: a faulty one refuses the transaction.

    What is not there yet, but written by this transaction, is no fault. Raises FhirError naming the entry.
    """
    for entry in entries:
        if entry.route.interaction == "read":
            continue
        try:
            await _interact(context, entry)
        except FhirError as error:
            if error.status in (404, 410) and (entry.route.type, entry.route.id) in written:
                continue
            raise within_entry(error, entry.index) from error


def check(context: Context, entries: Sequence[Entry], facts: Facts, writes: Mapping[Address, Write]) -> dict[int, Stored | None]:
    """The version that each read entry will show; None where the transaction itself writes it.

    Raises FhirError 404 or 410 naming the entry.
    """
    shown: dict[int, Stored | None] = {}
    for entry in entries:
        if entry.route.interaction != "read":
            continue
        address = (entry.route.type, entry.route.id)
        write, stored = writes.get(address), facts.current.get(address)
        if write is not None and write.method != "DELETE":
            shown[entry.index] = None
            continue
        if stored is None or not context.gate.may_see(entry.request.principal, stored):
            raise within_entry(read.unknown(*address), entry.index)
        if write is not None or stored.deleted:
            raise within_entry(
                FhirError.of(410, "deleted", f"{address[0]}/{address[1]} was deleted", zh=f"{address[0]}/{address[1]} 已被删除"),
                entry.index,
            )
        shown[entry.index] = stored
    return shown


async def answer(context: Context, entry: Entry, stored: Stored | None, snapshot: int) -> Response:
    """The answer of one entry after the commit; `stored` is the version that a read shows, `snapshot` the last rid that all entries see."""
    if stored is not None:
        response = read.answer(context, entry.request, await context.gate.leaving(entry.request.principal, stored))
    else:
        response = await _interact(replace(context, gate=context.gate.at(snapshot)), entry)
    return without_body(response) if entry.request.method == "HEAD" else response


def without_body(response: Response) -> Response:
    """What HEAD answers: the same without content."""
    return replace(response, body=b"", stream=None)


async def _interact(context: Context, entry: Entry) -> Response:
    from fhir_server.interactions.dispatch import interact  # the dispatcher knows the transaction, and the transaction the dispatcher

    request: Request = entry.request
    return await interact(context, request, entry.route)
