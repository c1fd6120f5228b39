"""Folding of strings for search: case, accents and width do not count.

Specification: https://hl7.org/fhir/R4/search.html#string
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

MAX_LENGTH = 400
"""Characters of a string that are indexed; longer ones are found by their beginning."""


@lru_cache(maxsize=4096)
def _fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    return "".join(one for one in unicodedata.normalize("NFKD", decomposed) if not unicodedata.combining(one))


def fold(text: str) -> str:
    """Lower case without accents, full-width forms as plain ones, runs of blanks as one; at most MAX_LENGTH characters."""
    text = text[:MAX_LENGTH]
    folded = text.lower() if text.isascii() else _fold(text)
    return " ".join(folded.split()) if "  " in folded or folded != folded.strip() or "\n" in folded or "\t" in folded else folded
