"""Invented people of the demonstration clinic; no number here can belong to a real person.

Resident identity numbers follow GB 11643-1999 but begin with the area code 990101, which does not exist; telephone numbers use
the unassigned prefix 100.
"""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass

SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧"
GIVEN = "建国志明秀英桂兰玉珍淑华海燕晓东文军春梅丽娟立新永强国平红霞俊杰思远雨桐子涵"
ILLNESSES = {
    "hypertension": ("I10", "原发性高血压"),
    "diabetes": ("E11.9", "2型糖尿病"),
    "copd": ("J44.9", "慢性阻塞性肺病"),
    "stroke": ("I63.9", "脑梗死"),
}
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK = "10X98765432"


@dataclass(frozen=True, slots=True)
class Person:
    """One invented patient. `number` tells people apart; `illnesses` are keys of ILLNESSES."""

    number: int
    seed: int
    family: str
    given: str
    male: bool
    birth: dt.date
    resident_id: str
    mobile: str
    address: str
    illnesses: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"demo-p{self.seed}-{self.number}"

    @property
    def record_number(self) -> str:
        return f"D{self.seed}{self.number:06d}"

    @property
    def name(self) -> str:
        return self.family + self.given


def resident_id(birth: dt.date, male: bool, draw: random.Random) -> str:
    """An 18-character identity number of the area 990101 with a right check character (GB 11643-1999)."""
    body = "990101" + birth.strftime("%Y%m%d") + f"{draw.randrange(50):02d}" + str(draw.randrange(5) * 2 + int(male))
    return body + _CHECK[sum(int(c) * w for c, w in zip(body, _WEIGHTS, strict=True)) % 11]


def person(number: int, seed: int) -> Person:
    """The person of this number: the same for the same seed, whoever else is drawn."""
    draw = random.Random(f"{seed}/{number}")
    male = draw.random() < 0.5
    birth = dt.date(draw.randrange(1940, 1998), draw.randrange(1, 13), draw.randrange(1, 29))
    ill = tuple(name for name, odds in zip(ILLNESSES, (0.45, 0.3, 0.12, 0.1), strict=True) if draw.random() < odds)
    return Person(
        number=number,
        seed=seed,
        family=draw.choice(SURNAMES),
        given="".join(draw.sample(GIVEN, draw.choice((1, 2, 2)))),
        male=male,
        birth=birth,
        resident_id=resident_id(birth, male, draw),
        mobile=f"100{draw.randrange(10**8):08d}",
        address=f"示例省示例市{draw.choice('东西南北')}区和平路{draw.randrange(1, 400)}号",
        illnesses=ill,
    )
