"""Receivers that several files use."""

from tests.channels.test_email import postman
from tests.subscriptions.test_wire import hook

__all__ = ["hook", "postman"]
