"""Loading through a running server's REST interface: single resources as batches of updates, Bundles as they are.

Specification: https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from fhir_server.errors import FhirError
from fhir_server.loading.chunks import Chunk, chunked
from fhir_server.loading.content import Executed, Single, read, repeatable
from fhir_server.loading.journal import digest
from fhir_server.loading.report import Refusal, Report, refusal
from fhir_server.loading.sources import Item, LoadError, Source, open_items
from fhir_server.model import json_codec

BATCH = 100
"""Resources in one batch."""
IN_FLIGHT = 4
TRIES = 6
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
_HEADERS = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json", "Prefer": "return=minimal"}

Advance = Callable[[int], None]


class FileJournal:
    """The progress of a load into a server, kept in a file of this machine and replaced as a whole."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._data: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"sources": {}, "bundles": []}
        self._bundles = set(self._data["bundles"])

    def done(self, source: Source) -> int:
        """How many chunks of an interrupted load are done; 0 for a new or finished file."""
        kept = self._data["sources"].get(digest(source.identity), {})
        return 0 if kept.get("finished") else int(kept.get("chunks", 0))

    def earlier(self, source: Source) -> list[dict[str, Any]]:
        """What those chunks came to."""
        kept = self._data["sources"].get(digest(source.identity), {})
        return [] if kept.get("finished") else list(kept.get("reports", ()))

    def chunk_done(self, source: Source, chunks: int, report: dict[str, Any]) -> None:
        kept = self._data["sources"].setdefault(digest(source.identity), {})
        if kept.get("finished"):
            kept.clear()
        kept["chunks"] = chunks
        kept.setdefault("reports", []).append(report)
        self._save()

    def finish(self, source: Source) -> None:
        self._data["sources"][digest(source.identity)] = {"finished": True}
        self._save()

    def has_bundle(self, name: str) -> bool:
        return name in self._bundles

    def bundle_done(self, name: str) -> None:
        self._bundles.add(name)
        self._data["bundles"].append(name)
        self._save()

    def _save(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new")
        with fresh.open("w") as out:
            json.dump(self._data, out)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(self._file)


class RemoteLoader:
    """Loads sources into the server at `base`, chunk by chunk."""

    def __init__(self, base: str, journal: FileJournal, report: Report, headers: dict[str, str] | None = None) -> None:
        self._base = base.rstrip("/")
        self._journal = journal
        self._report = report
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(120, connect=10), headers={**_HEADERS, **(headers or {})})

    async def close(self) -> None:
        await self._http.aclose()

    async def load(self, source: Source, advance: Advance, read_bytes: Callable[[int], None]) -> None:
        """Load a source. Raises LoadError: a damaged file, or a server that cannot be reached or refuses everything."""
        done = self._journal.done(source)
        for earlier in self._journal.earlier(source):
            self._report.add(earlier)
        items, progress = open_items(source)
        for chunk in chunked(items):
            read_bytes(progress.read())
            if chunk.number < done:
                self._report.resumed += len(chunk.items)
            else:
                report = await self._chunk(chunk)
                self._journal.chunk_done(source, chunk.number + 1, report.delta())
                self._report.add(report.delta())
            advance(len(chunk.items))
        self._journal.finish(source)
        read_bytes(source.size)

    async def _chunk(self, chunk: Chunk) -> Report:
        report = Report()
        singles: list[Single] = []
        for item in chunk.items:
            for found in read(item):
                if isinstance(found, Refusal):
                    report.refuse(found)
                elif isinstance(found, Executed):
                    await self._put_all(singles, report)
                    singles = []
                    await self._execute(found, report)
                else:
                    singles.append(found)
        await self._put_all(singles, report)
        return report

    async def _put_all(self, singles: Sequence[Single], report: Report) -> None:
        batches = [singles[at : at + BATCH] for at in range(0, len(singles), BATCH)]
        for at in range(0, len(batches), IN_FLIGHT):
            await asyncio.gather(*(self._put(batch, report) for batch in batches[at : at + IN_FLIGHT]))

    async def _put(self, singles: Sequence[Single], report: Report) -> None:
        entries = [
            {
                "resource": single.resource,
                "request": {"method": "PUT", "url": f"{single.resource['resourceType']}/{single.resource['id']}"},
            }
            for single in singles
        ]
        response = await self._post({"resourceType": "Bundle", "type": "batch", "entry": entries})
        if response.status_code >= 400:
            if len(singles) > 1:
                for single in singles:
                    await self._put([single], report)
                return
            self._refuse(singles[0].item, singles[0].resource, response.status_code, response.content, report, singles[0].entry)
            return
        for single, entry in zip(singles, json_codec.loads(response.content).get("entry", ()), strict=True):
            told = entry["response"]
            status = int(str(told["status"])[:3])
            if status < 400:
                report.count(single.resource["resourceType"], "created" if status == 201 else "updated or unchanged")
            else:
                error = FhirError.of(
                    status,
                    "processing",
                    _reasons(told.get("outcome")) or str(told["status"]),
                    zh=_reasons(told.get("outcome")) or f"服务器的应答为 {told['status']}",
                )
                report.refuse(refusal(single.item.source, single.item.line, single.resource, error, single.entry))

    async def _execute(self, found: Executed, report: Report) -> None:
        """A transaction or batch as it is, unless it was carried out before."""
        if self._journal.has_bundle(found.name):
            report.skipped_bundles += 1
            return
        transaction = found.bundle.get("type") == "transaction"
        types = [
            str((entry.get("resource") or {}).get("resourceType", ""))
            for entry in found.bundle.get("entry") or ()
            if isinstance(entry, dict)
        ]
        response = await self._post(found.bundle if transaction else repeatable(found.bundle, found.item))
        if response.status_code >= 400:
            self._refuse(found.item, {"resourceType": "Bundle"}, response.status_code, response.content, report)
            return
        self._journal.bundle_done(found.name)
        report.bundles += 1
        for index, entry in enumerate(json_codec.loads(response.content).get("entry", ())):
            told = entry["response"]
            status = int(str(told["status"])[:3])
            type = types[index] if index < len(types) else ""
            if status >= 400:
                reasons = (_reasons(told.get("outcome")) or str(told["status"]),)
                report.refuse(Refusal(found.item.source, found.item.line, index, type, "", status, reasons, ()))
            else:
                report.count(type, "created" if status == 201 else "updated or unchanged")

    def _refuse(self, item: Item, resource: Any, status: int, content: bytes, report: Report, entry: int = -1) -> None:
        try:
            reason = _reasons(json_codec.loads(content))
        except FhirError:
            reason = ""
        error = FhirError.of(status, "processing", reason or f"the server answered {status}", zh=reason or f"服务器的应答为 {status}")
        report.refuse(refusal(item.source, item.line, resource, error, entry))

    async def _post(self, bundle: dict[str, Any]) -> httpx.Response:
        """The answer; tried again with growing pauses where the server is busy or out of reach. Raises LoadError when it stays so."""
        body = json_codec.dumps(bundle)
        last = ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(min(0.5 * 2**attempt, 15))
            try:
                response = await self._http.post(self._base, content=body)
            except httpx.TransportError as problem:
                last = f"{type(problem).__name__} {problem}"
                if bundle.get("type") == "transaction" and not isinstance(problem, httpx.ConnectError | httpx.ConnectTimeout):
                    # It may have been carried out: sending it again could double it.
                    break
                continue
            if response.status_code not in _LATER:
                return response
            last = f"status {response.status_code}: {response.text[:300]}"
        raise LoadError(f"{self._base} does not take the data ({last}); run the same command again to go on")


def _reasons(outcome: Any) -> str:
    issues = outcome.get("issue", []) if isinstance(outcome, dict) else []
    return "; ".join(str(issue.get("diagnostics") or (issue.get("details") or {}).get("text", "")) for issue in issues[:5])
