"""HL7 v2 messages of a demonstration day: admissions, laboratory results (one of them critical) and discharges.

Messages follow HL7 v2.5.1 (ADT^A01, ORU^R01, ADT^A03); every second sender speaks GB18030, as hospital systems in China do.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from fhir_server.demo.people import ILLNESSES, Person, person

_ZONE = ZoneInfo("Asia/Shanghai")
_CHARSETS = {"utf-8": "UNICODE UTF-8", "gb18030": "GB 18030-2000"}


@dataclass(frozen=True, slots=True)
class FeedMessage:
    """One message ready to be sent: what it tells (English, Chinese), its bytes, and the name of its charset."""

    title: str
    zh: str
    content: bytes
    charset: str


def _time(when: dt.datetime) -> str:
    return when.strftime("%Y%m%d%H%M%S%z")


class _Stay:
    """One person's hospital stay, told in messages."""

    def __init__(self, who: Person, run: str, admitted: dt.datetime, charset: str) -> None:
        self.who, self.run, self.admitted, self.charset = who, run, admitted, charset
        self.visit = f"ZY{run}{who.number:03d}"
        self._messages = 0

    def _message(self, sender: str, event: str, structure: str, when: dt.datetime, segments: list[str], title: str, zh: str) -> FeedMessage:
        self._messages += 1
        control = f"{self.visit}-{self._messages}"
        header = (
            f"MSH|^~\\&|{sender}|示例医院|FHIR|HUB|{_time(when)}||{event}^{structure}|{control}|P|2.5.1|||||CHN|{_CHARSETS[self.charset]}"
        )
        text = "\r".join([header, *segments]) + "\r"
        return FeedMessage(f"{title}: {self.who.name}", f"{zh}：{self.who.name}", text.encode(self.charset), self.charset)

    def _pid(self) -> str:
        who = self.who
        return (
            f"PID|1||{who.record_number}^^^HIS^MR~{who.resident_id}^^^PRC^NI||{who.family}^{who.given}^^^^^L||{who.birth:%Y%m%d}|"
            f"{'M' if who.male else 'F'}|||{who.address}^^^^^CHN^H||{who.mobile}"
        )

    def _pv1(self, discharged: dt.datetime | None = None) -> str:
        fields = [""] * 46
        fields[1:4] = ["1", "I", "心内科^12^03"]
        fields[7] = f"10{self.who.number % 6}^王^敏"
        fields[19] = self.visit
        fields[36] = "1" if discharged else ""
        fields[44] = _time(self.admitted)
        fields[45] = _time(discharged) if discharged else ""
        return "PV1" + "|".join(fields).rstrip("|")

    def _diagnosis(self, when: dt.datetime) -> str:
        code, text = ILLNESSES[self.who.illnesses[0] if self.who.illnesses else "hypertension"]
        return f"DG1|1||{code}^{text}^ICD-10|{text}|{_time(when)}|A"

    def admission(self) -> FeedMessage:
        when = self.admitted
        segments = [f"EVN|A01|{_time(when)}", self._pid(), self._pv1(), self._diagnosis(when)]
        return self._message("HIS", "ADT^A01", "ADT_A01", when, segments, "Admission", "入院")

    def results(self, draw: random.Random, *, critical: bool) -> FeedMessage:
        when = self.admitted + dt.timedelta(hours=3)
        filler = f"L{self.visit}"
        potassium, flag = (6.9, "HH") if critical else (round(draw.uniform(3.7, 5.1), 1), "N")
        glucose = round(draw.uniform(4.5, 9.5), 1)
        observations = [
            f"OBX|1|NM|2823-3^血钾^LN||{potassium}|mmol/L^mmol/L^UCUM|3.5-5.3|{flag}|||F|||{_time(when)}",
            f"OBX|2|NM|1558-6^空腹血糖^LN||{glucose}|mmol/L^mmol/L^UCUM|3.9～6.1|{'↑' if glucose > 6.1 else 'N'}|||F|||{_time(when)}",
            f"OBX|3|NM|718-7^血红蛋白^LN||{draw.randrange(118, 170)}|g/L^g/L^UCUM|115-175|N|||F|||{_time(when)}",
        ]
        order = f"OBR|1|P{filler}^HIS|{filler}^LIS|SH01^急诊生化^L|||{_time(when)}|||||||||||||||{_time(when)}||LAB|F"
        segments = [self._pid(), f"ORC|RE|P{filler}^HIS|{filler}^LIS", order, *observations]
        title, zh = ("Critical potassium", "危急值：血钾") if critical else ("Laboratory results", "检验结果")
        return self._message("LIS", "ORU^R01", "ORU_R01", when, segments, title, zh)

    def discharge(self) -> FeedMessage:
        when = self.admitted + dt.timedelta(days=4, hours=2)
        segments = [f"EVN|A03|{_time(when)}", self._pid(), self._pv1(when)]
        return self._message("HIS", "ADT^A03", "ADT_A03", when, segments, "Discharge", "出院")


def demo_messages(stays: int = 4, *, seed: int = 1, run: str = "1", now: dt.datetime | None = None) -> Iterator[FeedMessage]:
    """The day's messages in the order in which they are sent; the first person's potassium is critical.

    `run` tells feeds apart: another run means other visits and message numbers of the same people.
    """
    now = (now or dt.datetime.now(_ZONE)).astimezone(_ZONE).replace(microsecond=0)
    draw = random.Random(f"feed/{seed}/{run}")
    shift = draw.randrange(8)
    visits = [
        _Stay(person(number + shift, seed), run, now - dt.timedelta(days=4, hours=3 + number), ("utf-8", "gb18030")[number % 2])
        for number in range(stays)
    ]
    for stay in visits:
        yield stay.admission()
    for number, stay in enumerate(visits):
        yield stay.results(draw, critical=number == 0)
    for stay in visits:
        yield stay.discharge()
