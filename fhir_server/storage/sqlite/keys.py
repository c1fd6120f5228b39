"""The 64-bit integer keys of index values, and the `term` rows that make them exact.

Layout of a key, high to low: 14 bits parameter number, 16 bits hash of the space, 34 bits hash of the value; so the
values of one parameter, and in it of one space, lie together. Decision: docs/decisions/0040-postings-and-collisions.md
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

VALUE_BITS = 34
SPACE_BITS = 16
PARAMETER_SHIFT = VALUE_BITS + SPACE_BITS
VALUE_MASK = (1 << VALUE_BITS) - 1
SPACE_MASK = (1 << SPACE_BITS) - 1
MAX_PARAMETER = (1 << 14) - 1
ROOM = 1 << 16
"""The highest hashes of a space stay free, so that probing never leaves it."""

TYPE_PARAMETER = MAX_PARAMETER
"""Reserved: every live resource posts (type name, '') under it."""

SMALL_KEYS = 1 << 17
"""Below it are the keys of plain ranges (see `entries`); their `term` rows only count."""

Form = tuple[int, str, str]
"""(parameter, space, value)"""

Hash = Callable[[str], int]
"""64 bits of a text; replaced in tests to force collisions."""


def keyed_hash(secret: bytes) -> Hash:
    """A stable hash under the store's own key, so that nobody can prepare values that collide."""
    base = hashlib.blake2b(digest_size=8, key=secret)

    def hash64(text: str) -> int:
        state = base.copy()
        state.update(text.encode("utf-8", "surrogatepass"))
        return int.from_bytes(state.digest(), "big")

    return hash64


def signed(key: int) -> int:
    """A 64-bit pattern as SQLite's signed integer."""
    return key - (1 << 64) if key >> 63 else key


def parameter_of(key: int) -> int:
    """The parameter number in a (signed) key."""
    return (key >> PARAMETER_SHIFT) & MAX_PARAMETER


def parameter_bounds(parameter: int) -> tuple[int, int]:
    """First and last key of a parameter."""
    low = signed(parameter << PARAMETER_SHIFT)
    return low, low + (1 << PARAMETER_SHIFT) - 1


UNCOUNTED = -1
"""`n` of a term whose resources are not counted: references and patient-code keys, of which most have few resources, so that
looking is cheap, while counting would change one more page of the database per reference and write."""


class Term(NamedTuple):
    """A key with its form; `n` counts the live resources that have it, or is UNCOUNTED."""

    key: int
    n: int
    space: str
    value: str


class Keys:
    """Forms to keys. One per store; remembers the spaces' hashes only."""

    def __init__(self, hash64: Hash) -> None:
        self._hash = hash64
        self._spaces: dict[str, int] = {}
        self.reach = 0
        """How far beyond its hash a key may lie: 0 until two forms collided for the first time. Read with each snapshot."""

    def space_bits(self, space: str) -> int:
        bits = self._spaces.get(space)
        if bits is None:
            bits = (self._hash(space) & SPACE_MASK) << VALUE_BITS if space else 0
            if len(self._spaces) < 4096:
                self._spaces[space] = bits
        return bits

    def base(self, parameter: int, space: str, value: str) -> int:
        """Where the key of a form is, or from where on it is searched."""
        bits = self._hash(value) & VALUE_MASK
        if bits > VALUE_MASK - ROOM:
            bits -= ROOM
        return signed((parameter << PARAMETER_SHIFT) | self.space_bits(space) | bits)

    def space_bounds(self, parameter: int, space: str) -> tuple[int, int]:
        """First and last key that values of `space` can have (other spaces of the same hash may lie there too)."""
        low = signed((parameter << PARAMETER_SHIFT) | self.space_bits(space))
        return low, low + VALUE_MASK

    # --- look-up
    def find(self, db: sqlite3.Connection, parameter: int, space: str, value: str) -> Term | None:
        """The term of exactly this form."""
        base = self.base(parameter, space, value)
        if not self.reach:
            row = db.execute("SELECT key, n, space, value FROM term WHERE key = ?", (base,)).fetchone()
            return Term._make(row) if row and row[3] == value and row[2] == space else None
        for row in db.execute("SELECT key, n, space, value FROM term WHERE key BETWEEN ? AND ?", (base, base + self.reach)).fetchall():
            if row[3] == value and row[2] == space:
                return Term._make(row)
        return None

    def find_any_space(self, db: sqlite3.Connection, parameter: int, value: str) -> list[Term]:
        """The terms of a value in every space: hops from one space of the parameter to the next."""
        found: list[Term] = []
        low, high = parameter_bounds(parameter)
        value_bits = self.base(0, "", value)
        at = low
        while row := db.execute("SELECT key FROM term WHERE key >= ? ORDER BY key LIMIT 1", (at,)).fetchone():
            if row[0] > high:
                break
            start = row[0] - ((row[0] - low) & VALUE_MASK)
            base = start + value_bits
            rows = db.execute("SELECT key, n, space, value FROM term WHERE key BETWEEN ? AND ?", (base, base + self.reach)).fetchall()
            found.extend(Term._make(r) for r in rows if r[3] == value)
            at = start + VALUE_MASK + 1
        return found

    def find_prefixed(self, db: sqlite3.Connection, parameter: int, space: str | None = None) -> list[Term]:
        """All terms of a parameter (or of one space of it); only for parameters with few forms (units of a quantity)."""
        low, high = parameter_bounds(parameter) if space is None else self.space_bounds(parameter, space)
        rows = db.execute("SELECT key, n, space, value FROM term WHERE key BETWEEN ? AND ?", (low, high)).fetchall()
        return [Term._make(row) for row in rows if space is None or row[2] == space]


class TermWriter:
    """Gives keys to forms inside the write transaction and counts live resources per key.

    New terms and counts are gathered and written by `flush`. The memory of forms is bounded: two generations of a dict.
    """

    GENERATION = 40_000

    def __init__(self, db: sqlite3.Connection, keys: Keys, types: Collection[str], uncounted: Collection[int]) -> None:
        """`types`: spaces that make a form a reference; `uncounted`: further parameters whose terms are not counted."""
        self._db = db
        self._keys = keys
        self._types = types
        self._uncounted = uncounted
        self._young: dict[Form, int] = {}
        self._old: dict[Form, int] = {}
        self._new: dict[int, tuple[int, str, str]] = {}
        self._deltas: dict[int, int] = {}

    def post(self, forms: Sequence[Form], delta: int, counted: Collection[int] | None = None) -> tuple[list[int], list[int]]:
        """Keys of all forms (the first is that of the type), and those of the references among them.

        Counts `delta` for each that counts; when `counted` is given, for those of the parameters in it only.
        """
        young, deltas, types, uncounted = self._young, self._deltas, self._types, self._uncounted
        key = young.get(forms[0]) or self.key(forms[0])
        if counted is None:
            deltas[key] = deltas.get(key, 0) + delta
        keys, references = [key], []
        for form in forms[1:]:
            key = young.get(form) or self.key(form)
            keys.append(key)
            if form[1] in types:
                references.append(key)
            elif form[0] not in uncounted and (counted is None or form[0] in counted):
                deltas[key] = deltas.get(key, 0) + delta
        return keys, references

    def key(self, form: Form) -> int:
        """The key of a form, which becomes its own now if it is new."""
        key = self._young.get(form) or self._old.get(form)
        if key is None:
            key = self._resolve(form)
        if len(self._young) >= self.GENERATION:
            # The dict object stays the same: callers hold it.
            self._old = dict(self._young)
            self._young.clear()
        self._young[form] = key
        return key

    def _resolve(self, form: Form) -> int:
        parameter, space, value = form
        base = self._keys.base(parameter, space, value)
        reach = self._keys.reach
        rows = self._db.execute(
            "SELECT key, space, value FROM term WHERE key BETWEEN ? AND ?" if reach else "SELECT key, space, value FROM term WHERE key = ?",
            (base, base + reach) if reach else (base,),
        ).fetchall()
        taken = set()
        for key, its_space, its_value in rows:
            if its_value == value and its_space == space:
                return key
            taken.add(key)
        key = base
        while key in taken or key in self._new:
            if key in self._new and self._new[key][1:] == (space, value):
                return key
            key += 1
        if key > base + reach:
            # A stretch beyond the known reach may hold terms of other forms: look before taking a slot there.
            while self._db.execute("SELECT 1 FROM term WHERE key = ?", (key,)).fetchone() or key in self._new:
                key += 1
            self._keys.reach = key - base
            self._db.execute("UPDATE state SET reach = max(reach, ?)", (key - base,))
        counts = parameter == TYPE_PARAMETER or (space not in self._types and parameter not in self._uncounted)
        self._new[key] = (0 if counts else UNCOUNTED, space, value)
        return key

    def count_all(self, keys: Iterable[int], delta: int) -> None:
        """Note that `delta` more live resources have each of the keys."""
        deltas = self._deltas
        for key in keys:
            deltas[key] = deltas.get(key, 0) + delta

    def flush(self) -> None:
        """Write new terms and counts."""
        if self._new:
            pop = self._deltas.pop
            rows = sorted((key, pop(key, 0) + n, space, value) for key, (n, space, value) in self._new.items())
            self._db.executemany("INSERT INTO term(key, n, space, value) VALUES (?,?,?,?)", rows)
            self._new.clear()
        if self._deltas:
            terms: list[tuple[int, int]] = []
            plain: list[tuple[int, int]] = []
            for key, n in self._deltas.items():
                if n:
                    (plain if 0 <= key < SMALL_KEYS else terms).append((n, key))
            self._deltas.clear()
            if terms:
                self._db.executemany("UPDATE term SET n = n + ? WHERE key = ?", terms)
            if plain:
                self._db.executemany(
                    "INSERT INTO term(n, key, space, value) VALUES (?, ?, '', '') ON CONFLICT DO UPDATE SET n = n + excluded.n", plain
                )

    def forget(self) -> None:
        """After a rollback, or when another process removed terms: trust nothing that is remembered."""
        self._young.clear()
        self._old.clear()
        self._new.clear()
        self._deltas.clear()
