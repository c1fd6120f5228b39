"""Message types and events, and the map of each."""

from __future__ import annotations

from integrations.hl7v2.mapping import Handler
from integrations.hl7v2.maps.admission import patient_update, visit
from integrations.hl7v2.maps.orders import orders
from integrations.hl7v2.maps.results import results
from integrations.hl7v2.maps.schedule import appointment

HANDLERS: dict[str, dict[str, Handler]] = {
    "ADT": {
        "A01": visit("in-progress"),
        "A02": visit("in-progress"),
        "A03": visit("finished"),
        "A04": visit("in-progress"),
        "A05": visit("planned"),
        "A06": visit("in-progress"),
        "A07": visit("in-progress"),
        "A08": visit(None),
        "A11": visit("cancelled"),
        "A13": visit("in-progress", reopened=True),
        "A14": visit("planned"),
        "A28": patient_update,
        "A31": patient_update,
    },
    "ORU": {"R01": results},
    "ORM": {"O01": orders},
    "OML": {"O21": orders},
    "SIU": {
        "S12": appointment("booked"),
        "S13": appointment("booked"),
        "S14": appointment("booked"),
        "S15": appointment("cancelled"),
        "S17": appointment("entered-in-error"),
        "S26": appointment("noshow"),
    },
}
