"""SQLite's errors as answers of the server.

Specification: https://hl7.org/fhir/R4/http.html#Status-Codes; codes: https://www.sqlite.org/rescode.html
"""

from __future__ import annotations

import sqlite3

from fhir_server.errors import FhirError

FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE}
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
RETRY = (("Retry-After", "1"),)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds the lock."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def translated(error: sqlite3.Error, file: str) -> FhirError | sqlite3.Error:
    """The FhirError for a fault of the surroundings; a fault of this program comes back as it is."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return error
    if code in FULL:
        return FhirError.of(
            507,
            "no-store",
            f"Nothing was written: there is no room left for the store ({file}).",
            headers=RETRY,
            zh=f"没有写入任何内容：存储（{file}）已没有可用空间。",
        )
    if code & 0xFF == sqlite3.SQLITE_READONLY:
        return FhirError.of(
            503,
            "no-store",
            f"Nothing was written: the store ({file}) is read-only.",
            headers=RETRY,
            zh=f"没有写入任何内容：存储（{file}）是只读的。",
        )
    if is_busy(error):
        return FhirError.of(
            503,
            "lock-error",
            f"The store ({file}) is held by another process; nothing was written.",
            headers=RETRY,
            zh=f"存储（{file}）被另一个进程占用；没有写入任何内容。",
        )
    if code & 0xFF in DAMAGED:
        return FhirError.of(
            500,
            "exception",
            f"The store ({file}) is damaged: {error}. Restore it from a copy.",
            zh=f"存储（{file}）已损坏：{error}。请从备份恢复。",
        )
    if code & 0xFF in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return FhirError.of(
            503,
            "no-store",
            f"The store ({file}) cannot be read or written: {error}.",
            headers=RETRY,
            zh=f"存储（{file}）无法读取或写入：{error}。",
        )
    if code == sqlite3.SQLITE_INTERRUPT:
        return FhirError.of(
            503,
            "too-costly",
            "The search took longer than the server's limit and was ended. Narrow it: add a patient, a code or a date range, "
            "ask for fewer chained criteria, or leave out _total and _sort.",
            headers=RETRY,
            zh="检索时间超过了服务器的限制，已被中止。请缩小范围：加上患者、代码或日期范围，减少链式条件，或去掉 _total 和 _sort。",
        )
    if "parser stack overflow" in str(error) or "too large" in str(error) or "too many" in str(error):
        return FhirError.of(
            400,
            "too-costly",
            "The search nests more conditions than can be carried out at once; ask for less.",
            zh="检索嵌套的条件超过一次所能执行的数量；请减少条件。",
        )
    if code & 0xFF == sqlite3.SQLITE_TOOBIG:
        return FhirError.of(
            413, "too-long", "A value is larger than the store can keep (1 GB).", zh="某个值超过了存储所能保存的大小（1 GB）。"
        )
    return error
