"""Content codings: compressed requests are read with a limit, answers are compressed where the client asks.

Specification: https://www.rfc-editor.org/rfc/rfc9110#name-content-codings
"""

from __future__ import annotations

import zlib
from threading import local

import zstandard

from fhir_server.errors import FhirError

COMPRESS_ABOVE = 2048
"""Smaller answers (bytes) are not worth the time."""
_CHUNK = 1 << 20
_thread = local()


def too_long(limit: int) -> FhirError:
    """413 for a body above `limit` bytes."""
    return FhirError.of(
        413,
        "too-long",
        f"The request body is larger than {limit // 1_000_000} MB; split it",
        zh=f"请求体超过 {limit // 1_000_000} MB；请拆分后发送",
    )


def _inflate(body: bytes, limit: int) -> bytes:
    machine = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib by its header
    parts, size, rest = [], 0, body
    while rest and not machine.eof:
        part = machine.decompress(rest, min(_CHUNK, limit + 1 - size))
        rest = machine.unconsumed_tail
        size += len(part)
        if size > limit:
            raise too_long(limit)
        parts.append(part)
    if not machine.eof or machine.unused_data:
        raise FhirError.of(
            400, "structure", "The gzip content is cut off or carries more than one stream", zh="gzip 内容不完整，或含有多个数据流"
        )
    return b"".join(parts)


def _unzstd(body: bytes, limit: int) -> bytes:
    parts, size = [], 0
    with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(body, read_across_frames=False) as reader:
        while part := reader.read(_CHUNK):
            size += len(part)
            if size > limit:
                raise too_long(limit)
            parts.append(part)
    return b"".join(parts)


def decoded(body: bytes, coding: str, limit: int) -> bytes:
    """The body without its content coding, at most `limit` bytes of it in memory. Raises FhirError 400, 413, 415."""
    name = coding.strip().lower()
    if name in ("", "identity"):
        return body
    try:
        if name in ("gzip", "x-gzip", "deflate"):
            return _inflate(body, limit)
        if name == "zstd":
            return _unzstd(body, limit)
    except (zlib.error, zstandard.ZstdError) as fault:
        raise FhirError.of(400, "structure", f"The content is not {name}: {fault}", zh=f"内容不是 {name}：{fault}") from None
    headers = [("Accept-Encoding", "gzip, zstd")]
    raise FhirError.of(
        415,
        "not-supported",
        f"Content-Encoding '{coding[:80]}' is not supported; gzip and zstd are",
        headers=headers,
        zh=f"不支持 Content-Encoding “{coding[:80]}”；可用 gzip 和 zstd",
    )


def encoded(body: bytes, coding: str) -> bytes:
    """The body compressed with `coding` ('gzip' or 'zstd'), fast rather than small."""
    if coding == "zstd":
        compressor = getattr(_thread, "zstd", None)
        if compressor is None:
            compressor = _thread.zstd = zstandard.ZstdCompressor(level=1)
        return compressor.compress(body)
    machine = zlib.compressobj(level=1, wbits=31)
    return machine.compress(body) + machine.flush()
