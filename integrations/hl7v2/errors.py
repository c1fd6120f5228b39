"""Why a message is refused, as an acknowledgement says it.

Specification: HL7 v2.5.1 chapter 2.9.2, tables 0008 and 0357
"""

from __future__ import annotations

SEQUENCE, REQUIRED, DATA_TYPE, TABLE_VALUE = "100", "101", "102", "103"
TYPE, EVENT, PROCESSING_ID, VERSION, UNKNOWN_KEY, DUPLICATE_KEY, LOCKED, INTERNAL = "200", "201", "202", "203", "204", "205", "206", "207"
TEXTS = {
    "0": "Message accepted",
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application internal error",
}


class Refusal(Exception):
    """`code`: AE (content, may be corrected and resent) or AR (cannot be processed). `error`: table 0357.

    `location`: 'PID', 'PID-3', or 'OBX[2]-5' for the second OBX.
    """

    def __init__(self, code: str, error: str, text: str, location: str = "") -> None:
        super().__init__(text)
        self.code, self.error, self.text, self.location = code, error, text, location
