"""A plug-in of fhir-server that uses each hook once; every hook's work stands in a file of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from fhir_example_plugin.counting import Counter
from fhir_example_plugin.initials import INITIALS
from fhir_example_plugin.letters import Letters
from fhir_example_plugin.masking import masked, restored
from fhir_example_plugin.telephones import require_telephone, zpi
from fhir_server.plugins import Committed, Leaving, Operation, Plugin, Writing
from integrations.hl7v2.mapping import Handler
from subscriptions.channel import Channel
from subscriptions.jobs.feed import FeedReader


class Example(Plugin):
    """Patients have a telephone, their resident identity numbers leave masked, and what is written is counted."""

    before_write_types = ("Patient",)
    before_answer_types = ("Patient",)

    def __init__(self) -> None:
        self._counter = Counter()

    def before_write(self, writing: Writing) -> dict[str, Any] | None:
        if writing.resource is None:
            return None
        require_telephone(writing.resource)
        return restored(writing.resource, writing.previous)

    def after_commit(self, commit: Committed) -> None:
        self._counter.count(commit.versions)

    def before_answer(self, leaving: Leaving) -> dict[str, Any] | None:
        return None if leaving.view.principal.purpose == "TREAT" else masked(leaving.resource)

    def operations(self) -> Sequence[Operation]:
        return (INITIALS,)

    def channels(self) -> Sequence[Channel]:
        folder = os.environ.get("EXAMPLE_LETTERS")
        return (Letters(folder),) if folder else ()

    def v2_maps(self) -> Mapping[str, Handler]:
        return {"ZPI": zpi}

    def readers(self) -> Sequence[FeedReader]:
        return (self._counter.reader(),)
