"""Chinese names as people look for them: in simplified and traditional characters, by pinyin and by initials.

Readings come from pypinyin, one for each character; where names are read differently, or in more than one way, the tables below say so.
Traditional characters fold into simplified ones one by one (OpenCC), so that the beginning of a text stays its beginning.
Decision: docs/decisions/0049-chinese-names.md
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from itertools import product

INITIALS = "~"
"""Stands before initials in the index: behind all letters, so that orders by pinyin do not meet them."""
LONGEST = 24
"""Characters of a name that are spelled."""
MOST = 8
"""Most spellings of one name."""
HAN = r"㐀-䶿一-鿿豈-﫿\U00020000-\U0003ffff"
"""Chinese characters, as a class of regular expressions."""
_HAN = re.compile(f"[{HAN}]")
_NOT_SPELLED = re.compile(r"[\s'’·•\-.0-9]")

_SURNAMES = {
    "万俟": "moqi", "尉迟": "yuchi", "长孙": "zhangsun", "澹台": "tantai", "单于": "chanyu", "令狐": "linghu", "单": "shan",
    "解": "xie", "仇": "qiu", "区": "ou", "查": "zha", "曾": "zeng", "朴": "piao", "盖": "ge gai", "翟": "zhai", "缪": "miao",
    "宓": "mi fu", "乐": "yue le", "召": "shao", "员": "yun", "秘": "bi", "繁": "po", "覃": "qin tan", "洗": "xian", "贠": "yun",
    "种": "chong", "折": "she", "祭": "zhai", "牟": "mu mou", "隗": "wei kui", "黑": "he hei", "郇": "xun huan",
    "谌": "chen shen", "柏": "bai bo", "薄": "bo", "佴": "nai", "适": "kuo", "六": "lu liu", "会": "gui", "都": "du",
}  # fmt: skip
"""Readings of surnames that differ from the commonest reading of the character; several where families differ."""
_SEVERAL = {
    "乐": "le yue", "长": "chang zhang", "朝": "chao zhao", "行": "xing hang", "重": "chong zhong", "单": "dan shan",
    "盛": "sheng cheng", "晟": "sheng cheng", "茜": "qian xi", "娜": "na nuo", "柏": "bai bo", "劲": "jin jing",
    "隽": "juan jun", "尉": "wei yu", "传": "chuan zhuan", "朴": "pu piao", "曾": "zeng ceng", "调": "diao tiao",
    "降": "jiang xiang", "莎": "sha suo", "还": "huan hai", "弹": "dan tan", "洗": "xi xian", "参": "shen can", "差": "cha chai",
    "奇": "qi ji", "佛": "fo fu", "芥": "jie gai", "率": "shuai",
}  # fmt: skip
"""Readings of other characters of names, where there is more than one or the commonest of a dictionary is not that of names."""


def has_han(text: str) -> bool:
    """Whether a text holds a Chinese character."""
    return not text.isascii() and _HAN.search(text) is not None


@lru_cache(maxsize=1)
def _simpler() -> dict[int, str]:
    from opencc import OpenCC

    convert = OpenCC("t2s").convert
    found = {}
    for point in (*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000), *range(0xF900, 0xFB00)):
        other = convert(chr(point))
        if other != chr(point) and len(other) == 1:
            found[point] = other
    return found


def simplified(text: str) -> str:
    """The text with each traditional character as its simplified form."""
    return text.translate(_simpler())


@lru_cache(maxsize=1)
def _readings() -> dict[int, str]:
    # Phrases tell nothing about names, and take more memory than all else.
    os.environ.setdefault("PYPINYIN_NO_PHRASES", "true")
    os.environ.setdefault("PYPINYIN_NO_DICT_COPY", "true")
    from pypinyin.constants import PINYIN_DICT

    readings: dict[int, str] = PINYIN_DICT
    return readings


@lru_cache(maxsize=8192)
def _reading(character: str) -> tuple[str, ...]:
    """The readings of a character without tones; ü as v. A character without a reading stands for itself."""
    if character in _SEVERAL:
        return tuple(_SEVERAL[character].split())
    marked = _readings().get(ord(character), "").partition(",")[0]
    return (plain(marked),) if marked else (character.lower(),)


_MARKS = str.maketrans(
    "āáǎàēéěèếềḿńňǹōóǒòīíǐìūúǔùüǖǘǚǜ", "a" * 4 + "e" * 6 + "m" + "n" * 3 + "o" * 4 + "i" * 4 + "u" * 4 + "v" * 5
)  # fmt: skip


def plain(pinyin: str) -> str:
    """Pinyin without tones: letters a to z, ü as v."""
    return pinyin.translate(_MARKS).replace("ê", "e").replace("\u0304", "").replace("\u030c", "")


def _syllables(name: str) -> list[tuple[str, ...]]:
    """The readings of each character, those of the surname first."""
    for length in (2, 1):
        if name[:length] in _SURNAMES:
            return [tuple(_SURNAMES[name[:length]].split()), *(_reading(one) for one in name[length:])]
    return [_reading(one) for one in name]


@lru_cache(maxsize=4096)
def spellings(text: str) -> tuple[str, ...]:
    """How a Chinese name is spelled: its pinyin in one word, and INITIALS + its initials; () without a Chinese character.

    A syllable with ü is spelled with v and u, which are typed, and yu, which stands in passports (吕 LYU).
    """
    name = simplified(_NOT_SPELLED.sub("", text))[:LONGEST]
    if not has_han(name):
        return ()
    syllables = _syllables(name)
    found: dict[str, None] = {}
    for chosen in product(*syllables):
        word = "".join(chosen)
        for form in dict.fromkeys((word, word.replace("v", "u"), word.replace("v", "yu"))):
            found[form] = None
        initials = "".join(_initial(name, chosen, at) for at in range(len(chosen)))
        found[INITIALS + initials] = None
        if len(found) >= MOST:
            break
    return tuple(found)


def _initial(name: str, chosen: tuple[str, ...], at: int) -> str:
    """The initial of a syllable; a surname of two characters, read as one word, has two."""
    if at == 0 and len(chosen) < len(name) and name[:2] in _SURNAMES:
        return _DOUBLE.get(chosen[0], chosen[0][:1])
    return chosen[at][:1]


_DOUBLE = {"moqi": "mq", "yuchi": "yc", "zhangsun": "zs", "tantai": "tt", "chanyu": "cy", "linghu": "lh"}


def typed(folded: str) -> str | None:
    """A search text as pinyin or initials in one word (tones and blanks left out), or None where it can be neither."""
    word = _NOT_SPELLED.sub("", folded)
    return word if word.isascii() and word.isalpha() else None
