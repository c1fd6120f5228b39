"""Ways to reach people: adapters of the port `subscriptions.channel`. So far e-mail and the on-screen inbox."""

from __future__ import annotations

import os
from collections.abc import Mapping

from integrations.channels.email import Email, EmailSettings
from integrations.channels.inbox import Inbox
from subscriptions.channel import Channel


def channels(environment: Mapping[str, str] = os.environ) -> list[Channel]:
    """The usable channels in the order in which they are tried: e-mail where it is configured, then the inbox, which reaches everybody.

    Raises EmailSettingsError for variables that cannot be used.
    """
    settings = EmailSettings.from_environment(environment)
    found: list[Channel] = [Email(settings)] if settings else []
    return [*found, Inbox()]
