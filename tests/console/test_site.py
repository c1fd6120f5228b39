"""What is costly to find out is found out seldom."""

from __future__ import annotations

import asyncio

import pytest

from fhir_server.observability import remembered as seldom


class Counting:
    def __init__(self, *, slow: float = 0.0) -> None:
        self.times, self._slow = 0, slow

    async def __call__(self) -> int:
        self.times += 1
        await asyncio.sleep(self._slow)
        return self.times


async def test_those_who_look_at_once_share_what_one_found() -> None:
    find = Counting()
    remembered = seldom.Remembered(find)
    assert [await remembered() for _ in range(5)] == [1] * 5


async def test_after_something_was_done_it_is_found_out_anew() -> None:
    remembered = seldom.Remembered(Counting())
    await remembered()
    remembered.forget()
    assert await remembered() == 2


async def test_what_takes_long_is_asked_for_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seldom, "_FRESH", 0.0)
    quick, slow = Counting(), Counting(slow=0.2)
    for find in (quick, slow):
        remembered = seldom.Remembered(find)
        await remembered()
        await asyncio.sleep(0.05)
        await remembered()
    assert (quick.times, slow.times) == (2, 1)


async def test_a_failure_is_told_and_the_next_look_tries_again() -> None:
    class Once(Counting):
        async def __call__(self) -> int:
            if await super().__call__() == 1:
                raise OSError("disk")
            return self.times

    remembered = seldom.Remembered(Once())
    with pytest.raises(OSError, match="disk"):
        await remembered()
    assert await remembered() == 2
