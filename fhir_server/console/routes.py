"""All routes of the console, and its files."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.staticfiles import StaticFiles

from fhir_server.auth.gate import Principal
from fhir_server.console.feed_readers import Readers
from fhir_server.console.pages import jobs, live, subscriptions
from fhir_server.console.site import STATIC, Console, Remembered
from fhir_server.interactions.context import Context


def router(context: Context, principal: Principal) -> APIRouter:
    """The pages with their data and actions, in the name of `principal`."""
    console = Console(context, principal)
    readers = Readers(console)
    counts = Remembered(console.store.count_jobs)
    routes = APIRouter(include_in_schema=False)
    routes.include_router(live.routes(console))
    routes.include_router(subscriptions.routes(console, readers, counts))
    routes.include_router(jobs.routes(console, readers, counts))
    return routes


def static_files() -> StaticFiles:
    """The console's style sheet and scripts, mounted at /console/static."""
    return StaticFiles(directory=STATIC)
