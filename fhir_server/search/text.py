"""Folding of strings for search: case, accents and width do not count, nor whether Chinese characters are traditional or simplified.

Specification: https://hl7.org/fhir/R4/search.html#string
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from fhir_server.search.han import HAN, has_han, simplified

_DOTS = re.compile(rf"(?:(?<=[{HAN}])|\A)[\s·•‧∙⋅・.]+(?=[{HAN}]|\Z)")
MAX_LENGTH = 400
"""Characters of a string that are indexed; longer ones are found by their beginning."""


def folded_whole(text: str) -> str:
    """Lower case without accents, full-width forms as plain ones, traditional characters as simplified ones; of any length."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    folded = "".join(one for one in unicodedata.normalize("NFKD", decomposed) if not unicodedata.combining(one))
    return simplified(folded) if has_han(folded) else folded


@lru_cache(maxsize=4096)
def _fold(text: str) -> str:
    """Between Chinese characters neither blanks nor the dots inside of names count (阿依古丽·买买提), which are typed in many ways."""
    folded = folded_whole(text)
    return _DOTS.sub("", folded) if has_han(folded) else folded


def fold(text: str) -> str:
    """Lower case without accents, full-width forms as plain ones, traditional characters as simplified ones, runs of blanks as one.

    At most MAX_LENGTH characters.
    """
    text = text[:MAX_LENGTH]
    folded = text.lower() if text.isascii() else _fold(text)
    return " ".join(folded.split()) if "  " in folded or folded != folded.strip() or "\n" in folded or "\t" in folded else folded
