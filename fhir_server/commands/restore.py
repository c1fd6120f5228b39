"""`fhir-server restore`: a data folder out of a backup, as it was then or at an earlier moment."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import Console

from fhir_server.commands.backup import Bars, bars, stopped
from fhir_server.errors import FhirError
from fhir_server.loading.sources import LoadError
from fhir_server.model import dates
from fhir_server.settings import Settings
from fhir_server.storage.port import UnusableStore
from fhir_server.storage.sqlite.backing_up import BackupError, Manifest
from fhir_server.storage.sqlite.restoring import restored
from fhir_server.storage.sqlite.schema import FILE_NAME
from fhir_server.storage.sqlite.taking_back import TakenBack, take_back

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_LOOK = 0.2
FORGOTTEN = (
    "Jobs that were done in between are kept for a while only, and some are no longer there: what they wrote is not written again.",
    "期间已完成的部分任务已超过保留期，其写入的内容不会重新生成。",
)
RULE = (
    "Subscriptions and follow-up go on from there: nothing that was sent is sent again, and numbers of events are not given twice.",
    "订阅与随访从该时刻继续：已发送的不会重发，事件编号不会重复。",
    "HL7 v2 messages and files that came later can be taken in again. Look for purges that have to be repeated (AuditEvent, action D).",
    "之后接收的 HL7 v2 消息与文件可以重新导入；请检查是否有需要重新执行的清除操作（AuditEvent，action D）。",
)


@app.command()
def restore(
    backup: Annotated[Path, typer.Argument(help="Folder that `fhir-server backup` made.")],
    data_dir: Annotated[Path | None, typer.Option(help="Data folder to make; must be empty or not there.")] = None,
    until: Annotated[
        str, typer.Option(help="As of this moment: a date and time (2026-03-01T08:00:00+08:00), or a sequence number of the log.")
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Verify a backup and make a data folder of it; nothing is left where that fails. The server of the old folder must not run any more.

    With --until, versions written later are taken away and the index is made anew. Exit status: 0 the folder can be served, 2 nothing
    was made.
    """
    console = Console(stderr=True)
    settings = Settings()  # type: ignore[call-arg]
    folder, told = data_dir or settings.data_dir, None
    try:
        with bars(console, quiet or not console.is_terminal) as progress:
            shown = Bars(progress)
            with restored(backup, folder, shown) as (draft, manifest):
                if until:
                    told = _take_back(draft, manifest, until, ZoneInfo(settings.time_zone))
                    asyncio.run(_indexed(draft, shown))
    except (BackupError, UnusableStore, LoadError, FhirError, OSError, sqlite3.Error) as problem:
        raise stopped(console, problem) from None
    print(f"{folder}: restored 已恢复, sequence number 序号 {told.rid if told else manifest.rid}")
    if told is not None:
        _show(told)


def _take_back(draft: Path, manifest: Manifest, until: str, zone: ZoneInfo) -> TakenBack:
    from fhir_server.loading.journal import BUNDLES, COLLECTION
    from integrations.hl7v2.journal import CLAIMS, LATEST
    from subscriptions.followup.engine import CRITICAL, DISCHARGE
    from subscriptions.followup.enrol import MATERIALISE
    from subscriptions.handlers import ACTIVATE, EXPIRE

    moment: dict[str, Any]
    if until.isascii() and until.isdigit():
        moment = {"rid": int(until)}
        if int(until) > manifest.rid:
            what = f"--until {until[:40]}: the backup ends with sequence number {manifest.rid}"
            raise BackupError(what, f"--until {until[:40]}：备份的最后序号为 {manifest.rid}")
    else:
        try:
            moment = {"time": dates.interval(until, zone)[0]}
        except dates.DateError as fault:
            what = f"--until {until[:40]}: neither a sequence number nor a date and time ({fault})"
            raise BackupError(what, f"--until {until[:40]}：既不是序号也不是日期时间") from None
        if moment["time"] > manifest.taken:
            taken = dates.format_instant(manifest.taken)
            raise BackupError(f"--until {until[:40]}: the backup was taken at {taken}", f"--until {until[:40]}：备份时间为 {taken}")
    return take_back(
        draft / FILE_NAME,
        **moment,
        again=(DISCHARGE, CRITICAL, MATERIALISE, ACTIVATE, EXPIRE),
        taken_in=(CLAIMS, LATEST, COLLECTION, BUNDLES),
    )


async def _indexed(draft: Path, progress: Callable[[str, int, int], None]) -> None:
    """Open the store once, and wait until its index is whole."""
    from fhir_server.loading.opening import opened

    async with opened(draft) as (_, store):
        while True:
            facts = await store.check()
            if not facts["indexing"] and not facts["parameters_not_ready"]:
                return
            for one in facts["indexing"]:
                progress("index 索引", one["done"], max(one["total"], one["done"]))
            await asyncio.sleep(_LOOK)


def _show(told: TakenBack) -> None:
    print(f"as of 截至 {dates.format_instant(told.moment)}: {told.versions} later versions taken away 已去除之后的版本")
    if told.versions:
        print(f"{told.jobs} jobs run again 个任务将重新执行, {told.records} records of what was taken in removed 条接收记录已去除")
        print("\n".join((*RULE, *(FORGOTTEN if told.forgotten else ()))))
