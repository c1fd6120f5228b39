"""The live page in a real browser: the loop from HL7 v2 message to care plan closes before one's eyes, in both languages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import Server, start_server

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (scripts/setup-browser)"),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The demonstration server with its population."""
    server = start_server(
        tmp_path_factory.mktemp("demo") / "data", "--mllp-port", "0", command=("demo", "serve", "--patients", "3"), wait=90
    )
    yield server
    server.kill()


@pytest.fixture(scope="module")
def fed(demo: Server) -> Server:
    """The same after its feed."""
    answer = httpx.post(f"{demo.root}/console/demo/feed", headers={"X-Requested-With": "console"}, timeout=60)
    assert answer.status_code == 200, answer.text
    return demo


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = [
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ]
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, demo: Server) -> Iterator[Callable[[str], Page]]:
    opened = []

    def open_page(language: str) -> Page:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.faults = []  # type: ignore[attr-defined]
        page.on("pageerror", lambda fault: page.faults.append(str(fault)))  # type: ignore[attr-defined]
        page.goto(f"{demo.root}/?lang={language}")
        opened.append(page)
        return page

    yield open_page
    for page in opened:
        assert page.faults == []
        page.close()


def test_the_demo_feed_closes_the_loop_on_the_page(page: Callable[[str], Page]) -> None:
    live = page("en")
    live.get_by_role("button", name="Send demo HL7 v2 feed").click()
    expect(live.locator("#notice")).to_contain_text("12 messages sent, 0 not accepted", timeout=30_000)
    expect(live.locator("#lane-messages .card")).to_have_count(12, timeout=15_000)
    expect(live.locator("#lane-Observation .card.critical").first).to_contain_text("血钾 6.9", timeout=15_000)
    expect(live.locator("#lane-Flag .card").first).to_be_visible(timeout=15_000)
    expect(live.locator("#lane-Task .card.critical").first).to_be_visible(timeout=15_000)
    expect(live.locator("#lane-CarePlan .card")).to_have_count(4, timeout=15_000)
    expect(live.locator("#lane-notifications .card").first).to_be_visible(timeout=15_000)
    if target := os.environ.get("SCREENSHOT"):
        live.screenshot(path=Path(target))


def test_a_card_opens_its_resource_and_references_lead_on(page: Callable[[str], Page], fed: Server) -> None:
    live = page("en")
    live.locator("#lane-CarePlan .card").first.click()
    expect(live.locator("#detail-title")).to_contain_text("CarePlan/")
    expect(live.locator("#detail-body")).to_contain_text('"resourceType": "CarePlan"')
    live.locator("#detail-body button", has_text="Patient/").first.click()
    expect(live.locator("#detail-title")).to_contain_text("Patient/")


def test_a_message_opens_with_its_segments(page: Callable[[str], Page], fed: Server) -> None:
    live = page("en")
    live.locator("#lane-messages .card").first.click()
    expect(live.locator("#detail-body")).to_contain_text("MSH|^~")


def test_the_page_speaks_chinese_and_remembers_it(page: Callable[[str], Page]) -> None:
    live = page("en")
    live.get_by_role("button", name="中文").click()
    expect(live.get_by_role("heading", level=1)).to_have_text("诊疗信息实时交换")
    expect(live.locator("#lane-CarePlan h2")).to_contain_text("随访计划")
    assert live.evaluate("document.documentElement.lang") == "zh-CN"
    live.goto(live.url.split("?")[0])
    expect(live.get_by_role("heading", level=1)).to_have_text("诊疗信息实时交换")
