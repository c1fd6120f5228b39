"""The index of words under writes, sweeps, erasures, two stores on one file, and changed rules: found is what the bodies say."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from fhir_server.errors import FhirError
from fhir_server.model.definitions import definitions
from fhir_server.search import words as words_module
from fhir_server.search.indexer import Indexer, default_indexer
from fhir_server.search.parameters import Registry
from fhir_server.search.query import Phrase, Query, Worded
from fhir_server.search.words import Wording
from fhir_server.storage.port import Unit, Write
from fhir_server.storage.sqlite import full_text
from fhir_server.storage.sqlite.store import SqliteStore

VOCABULARY = [f"word{number}" for number in range(12)]
PEOPLE = 40


def opened(folder: Path, indexer: Indexer | None = None, **more: Any) -> SqliteStore:
    indexer = indexer or default_indexer()
    words = Wording(Registry(definitions()))
    return SqliteStore(folder, index=indexer.index, part=indexer.part, type_names=definitions().resource_types, words=words, **more)


def person(rnd: random.Random, number: int) -> Write:
    text = " ".join(rnd.choices(VOCABULARY, k=3))
    return Write("PUT", "Basic", f"b{number}", {"resourceType": "Basic", "id": f"b{number}", "code": {"text": text}})


def asking(word: str) -> Query:
    return Query(("Basic",), Worded("content", (Phrase((word,)),)), limit=1000, words=True)


async def found(store: SqliteStore, word: str) -> set[str]:
    return {stored.id for stored in (await store.search(asking(word))).items}


async def expected(store: SqliteStore, word: str) -> set[str]:
    page = await store.search(Query(("Basic",), limit=1000))
    return {stored.id for stored in page.items if word in json.loads(stored.body)["code"]["text"].split()}


@pytest.mark.parametrize("seed", range(3))
async def test_finds_what_the_bodies_say(tmp_path: Path, seed: int) -> None:
    rnd = random.Random(seed)
    stores = [opened(tmp_path / "s"), opened(tmp_path / "s")]
    for store in stores:
        await store.open()
    try:
        for _ in range(60):
            store = rnd.choice(stores)
            numbers = rnd.sample(range(PEOPLE), rnd.choice((1, 2, 8)))
            deleted = rnd.random() < 0.2
            await store.transact(Unit.of(*[Write("DELETE", "Basic", f"b{one}") if deleted else person(rnd, one) for one in numbers]))
            choice = rnd.random()
            if choice < 0.1:
                await store.erase("Basic", f"b{rnd.randrange(PEOPLE)}")
            elif choice < 0.2:
                await store._sweeper.sweep(1 << 60)
            word = rnd.choice(VOCABULARY)
            asked = rnd.choice(stores)
            assert await found(asked, word) == await expected(asked, word)
    finally:
        for store in stores:
            await store.close()


async def test_an_erased_resource_leaves_no_word_behind(tmp_path: Path) -> None:
    store = opened(tmp_path / "s")
    await store.open()
    try:
        secret = {"resourceType": "Basic", "id": "b", "code": {"text": "xylophonist"}}
        await store.transact(Unit.of(Write("PUT", "Basic", "b", secret)))
        assert await found(store, "xylophonist") == {"b"}
        await store.erase("Basic", "b")
        tables = store._db.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'words%'").fetchone()
        assert tables == (0,)
        assert await found(store, "xylophonist") == set()
    finally:
        await store.close()


async def test_many_changes_make_the_words_anew_instead_of_growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_text, "SPARE", 10)
    store = opened(tmp_path / "s")
    await store.open()
    try:
        rnd = random.Random(1)
        for _ in range(40):
            await store.transact(Unit.of(*[person(rnd, number) for number in range(4)]))
            assert await found(store, "word1") == await expected(store, "word1")
            await store._sweeper.sweep(1 << 60)
        state = full_text.state_of(store._db)
        assert state is not None
        assert state.docs <= 2 * 4 + 10 + 4
    finally:
        await store.close()


async def test_other_rules_make_the_words_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rnd = random.Random(1)
    for rules in (1, 2):
        monkeypatch.setattr(words_module, "RULES", rules)
        store = opened(tmp_path / "s")
        await store.open()
        try:
            await store.transact(Unit.of(person(rnd, rules)))
            assert await found(store, "word3") == await expected(store, "word3")
            state = full_text.state_of(store._db)
            assert state is not None
            assert (state.rules, state.docs) == (store._words.rules, rules)  # type: ignore[union-attr]
        finally:
            await store.close()


async def test_a_search_that_waits_too_long_says_how_far_the_work_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_text, "PATIENCE", 0.0)
    monkeypatch.setattr(full_text, "BUDGET", 0.001)
    store = opened(tmp_path / "s")
    await store.open()
    try:
        rnd = random.Random(1)
        await store.transact(Unit.of(*[person(rnd, number) for number in range(300)]))
        with pytest.raises(FhirError) as refused:
            await found(store, "word1")
        assert refused.value.status == 503
        assert "%" in str(refused.value)
        for _ in range(500):
            await asyncio.sleep(0.02)
            try:
                ids = await found(store, "word1")
                break
            except FhirError:
                continue
        assert ids == await expected(store, "word1")
        assert ids
    finally:
        await store.close()
