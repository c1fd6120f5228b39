"""The monitor and the page of jobs in a real browser, in both languages: errors are seen, tried, and put right."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import Server
from tests.console.receiver import Receiver, observation, subscription, topical, until

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (scripts/setup-browser)"),
]
SOON = 20_000
DRAWN = {"/": ".lane", "/console/subscriptions": "#rows tr", "/console/jobs": "#kinds tr"}
"""What is there when a page has been drawn."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--no-first-run"])
        yield running
        running.close()


Open = Callable[..., Page]


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Open]:
    opened: list[tuple[Page, list[str]]] = []

    def open_page(path: str, language: str = "en", width: int = 1440, height: int = 900) -> Page:
        page = browser.new_page(viewport={"width": width, "height": height})
        faults: list[str] = []
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.on("dialog", lambda dialog: faults.append(f"a dialog: {dialog.message}"))
        page.goto(f"{server.root}{path}?lang={language}")
        opened.append((page, faults))
        return page

    yield open_page
    for page, faults in opened:
        assert faults == []
        page.close()


def put(client: httpx.Client, resource: dict[str, object]) -> None:
    client.put(f"{resource['resourceType']}/{resource['id']}", json=resource).raise_for_status()


def test_a_receiver_that_refuses_turns_red_and_is_put_right_from_the_page(client: httpx.Client, page: Open, receiver: Receiver) -> None:
    put(client, subscription(receiver, "repaired", "Observation?subject=Patient/repaired", reason="Ward display"))
    monitor = page("/console/subscriptions")
    monitor.locator("#text").fill("repaired")
    shown = monitor.locator('#rows tr[data-key="repaired"]')
    expect(shown.locator(".badge")).to_have_text("active", timeout=SOON)
    put(client, observation("repaired", "repaired"))
    expect(shown.locator(".badge")).to_have_text("in error", timeout=SOON)
    expect(shown.locator("td.last-error")).to_contain_text("refused", ignore_case=True)
    expect(shown.locator("td.waiting")).to_contain_text("1")

    shown.get_by_role("button", name="Ward display").click()
    detail = monitor.locator("#detail")
    expect(detail.locator("#log tr").first).to_contain_text("✗")
    detail.get_by_role("button", name="Test-fire").click()
    expect(detail.locator("#detail-notice.bad")).to_contain_text("did not take the test", timeout=SOON)

    detail.get_by_role("button", name="Pause").click()
    expect(detail.locator("#facts .badge.held")).to_have_text("paused", timeout=SOON)
    receiver.open()
    detail.get_by_role("button", name="Test-fire").click()
    expect(detail.locator("#detail-notice")).to_contain_text("took the test: HTTP 200", timeout=SOON)
    assert all("/Observation/repaired" not in path for _, path, _ in receiver.hits)
    detail.get_by_role("button", name="Resume").click()
    expect(detail.locator("#detail-notice")).to_contain_text("Resumed", timeout=SOON)
    until(lambda: any("/Observation/repaired" in path for _, path, _ in receiver.hits), 60)
    expect(detail.locator("#log tr", has_text="event").first).to_contain_text("✓ HTTP 200", timeout=SOON)
    monitor.keyboard.press("Escape")
    put(client, subscription(receiver, "repaired", "Observation?subject=Patient/repaired", reason="Ward display"))
    expect(shown.locator(".badge")).to_have_text("active", timeout=SOON)


def test_the_monitor_speaks_chinese_and_says_what_it_may_not_do(client: httpx.Client, page: Open, receiver: Receiver) -> None:
    receiver.open()
    put(client, subscription(receiver, "zh", "Observation?subject=Patient/zh", reason="移动护理"))
    monitor = page("/console/subscriptions", "zh")
    expect(monitor.get_by_role("heading", level=1)).to_have_text("订阅监控")
    monitor.locator("#text").fill("zh")
    monitor.get_by_role("button", name="移动护理").click(timeout=SOON)
    detail = monitor.locator("#detail")
    detail.locator("#first").fill("1")
    detail.locator("#last").fill("2")
    detail.get_by_role("button", name="重发").click()
    expect(detail.locator("#detail-notice.bad")).to_contain_text("检索式订阅不保存事件", timeout=SOON)
    expect(monitor.locator("#system tr", has_text="critical-value")).to_contain_text("血钾")
    expect(monitor.locator("#readers .badge").first).to_have_text("运行中")
    assert monitor.evaluate("document.documentElement.lang") == "zh-CN"


def test_events_of_a_topic_are_replayed_from_the_page(client: httpx.Client, page: Open, receiver: Receiver) -> None:
    receiver.open()
    put(client, topical(receiver, "replayed", reason="Regional platform"))
    until(lambda: client.get("Subscription/replayed").json()["status"] == "active")
    put(client, observation("replayed"))
    monitor = page("/console/subscriptions")
    monitor.locator("#text").fill("replayed")
    monitor.get_by_role("button", name="Regional platform").click(timeout=SOON)
    detail = monitor.locator("#detail")
    expect(detail.locator("#log tr", has_text="event").first).to_contain_text("✓ HTTP 200", timeout=SOON)
    before = len(receiver.hits)
    detail.locator("#first").fill("1")
    detail.locator("#last").fill("1")
    detail.get_by_role("button", name="Replay").click()
    expect(detail.locator("#detail-notice")).to_contain_text("1 event is sent once more", timeout=SOON)
    until(lambda: len(receiver.hits) > before)
    expect(detail.locator("#first")).to_have_value("1")


def test_administrative_actions_are_listed_in_both_languages(client: httpx.Client, page: Open, receiver: Receiver) -> None:
    put(client, subscription(receiver, "listed", "Observation?subject=Patient/listed", status="off"))
    client.post("Basic/$reindex").raise_for_status()
    act = {"X-Requested-With": "console"}
    root = str(client.base_url).removesuffix("/fhir/")
    httpx.post(f"{root}/console/monitor/subscriptions/listed/hold", headers=act).raise_for_status()
    for language, paused, outcome, reindexed in (
        ("en", "Subscription paused", "done", "Indexed anew"),
        ("zh", "暂停订阅", "完成", "重建索引"),
    ):
        jobs = page("/console/jobs", language)
        row = jobs.locator("#actions tr", has_text="Subscription/listed").first
        expect(row).to_contain_text(paused, timeout=SOON)
        expect(row).to_contain_text(outcome)
        expect(row).to_contain_text("system")
        expect(jobs.locator("#actions tr", has_text=reindexed).first).to_be_visible()


def test_what_stored_data_says_is_text_and_never_part_of_the_page(client: httpx.Client, page: Open, receiver: Receiver) -> None:
    evil = "<img src=x onerror=\"document.title='broken'; alert(1)\">"
    put(client, subscription(receiver, "evil", f"Patient?name={evil}", reason=evil, status="off", error=f"<script>alert(2)</script>{evil}"))
    monitor = page("/console/subscriptions")
    monitor.locator("#text").fill("evil")
    name = monitor.locator('#rows tr[data-key="evil"] button')
    expect(name).to_have_text(evil, timeout=SOON)
    name.click()
    expect(monitor.locator("#detail-title")).to_have_text(evil)
    expect(monitor.locator("#facts")).to_contain_text("<script>alert(2)</script>")
    assert monitor.locator("main img, main script, dialog img, dialog script").count() == 0
    assert monitor.title() == "Subscriptions"


def test_what_is_typed_selected_and_focused_stays_while_the_page_renews_itself(
    client: httpx.Client, page: Open, receiver: Receiver
) -> None:
    put(client, subscription(receiver, "steady", "Observation?subject=Patient/steady", reason="Steady one"))
    monitor = page("/console/subscriptions")
    monitor.locator("#text").fill("steady")
    shown = monitor.locator('#rows tr[data-key="steady"]')
    expect(shown.locator(".badge")).to_have_text("active", timeout=SOON)
    name = shown.get_by_role("button", name="Steady one")
    name.focus()
    put(client, observation("steady", "steady"))
    expect(shown.locator("td.events")).to_have_text("1", timeout=SOON)
    expect(name).to_be_focused()
    name.press("Enter")
    expect(monitor.locator("#detail")).to_be_visible()
    monitor.locator("#first").fill("12")
    with monitor.expect_response(lambda answer: answer.url.endswith("/console/monitor/subscriptions/steady")):
        pass
    expect(monitor.locator("#first")).to_have_value("12")
    monitor.keyboard.press("Escape")
    expect(monitor.locator("#detail")).to_be_hidden()
    expect(monitor.locator("#text")).to_have_value("steady")


def test_a_status_is_chosen_by_its_tile(client: httpx.Client, page: Open, receiver: Receiver) -> None:
    put(client, subscription(receiver, "switched-off", "Observation?subject=Patient/off", status="off"))
    put(client, subscription(receiver, "switched-on", "Observation?subject=Patient/on"))
    monitor = page("/console/subscriptions")
    monitor.locator("#text").fill("switched-")
    tile = monitor.locator("#states button", has_text="off")
    tile.click(timeout=SOON)
    monitor.locator("#text").fill("Patient/off")
    expect(monitor.locator("#rows tr")).to_have_count(1, timeout=SOON)
    expect(monitor.locator("#rows tr")).to_contain_text("switched-off")
    expect(tile).to_have_attribute("aria-pressed", "true")
    monitor.locator("#text").fill("Patient/on")
    expect(monitor.locator("#none")).to_be_visible(timeout=SOON)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_dead_letter_is_retried_from_the_page_of_jobs(client: httpx.Client, page: Open, receiver: Receiver, language: str) -> None:
    id = f"dead-{language}"
    words = {"en": ("Waiting", "Set aside", "Dead letters", "Retry", "Payload"), "zh": ("待重试", "搁置", "死信", "重试", "内容")}[language]
    put(client, subscription(receiver, id, f"Observation?subject=Patient/{id}"))
    until(lambda: client.get(f"Subscription/{id}").json()["status"] == "active")
    put(client, observation(id, id))
    board = page("/console/jobs", language)
    board.locator("#filters").get_by_text(words[0], exact=True).click()
    job = board.locator("#rows tr", has_text=id)
    expect(job.locator("td.error-text")).to_contain_text("refused", ignore_case=True, timeout=SOON)
    job.get_by_role("button", name=words[1]).click()
    board.locator("#filters").get_by_text(words[2], exact=True).click()
    expect(job).to_have_count(1, timeout=SOON)
    assert f"Observation/{id}" not in board.locator("body").inner_text()
    job.get_by_role("button", name=words[4]).click()
    expect(board.locator("#detail-body")).to_contain_text(f'"id": "{id}"')
    board.keyboard.press("Escape")
    expect(board.locator("#detail-body")).to_be_empty()
    receiver.open()
    job.get_by_role("button", name=words[3]).click()
    until(lambda: any(f"/Observation/{id}" in path for _, path, _ in receiver.hits), 60)
    expect(job).to_have_count(0, timeout=SOON)
    expect(board.locator("#leader")).to_contain_text({"en": "leads", "zh": "主导中"}[language])


@pytest.mark.parametrize("path", ["/", "/console/subscriptions", "/console/jobs"])
@pytest.mark.parametrize(("width", "language"), [(1440, "en"), (390, "zh"), (390, "en")])
def test_a_page_is_as_wide_as_the_screen(
    client: httpx.Client, page: Open, receiver: Receiver, path: str, width: int, language: str
) -> None:
    long = "x" * 200
    put(client, subscription(receiver, "wide", f"Patient?name={long}", reason=long, status="off"))
    shown = page(path, language, width, 844)
    shown.locator(DRAWN[path]).first.wait_for(timeout=SOON)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("path", ["/console/subscriptions", "/console/jobs"])
def test_all_that_can_be_pressed_or_filled_has_a_name(client: httpx.Client, page: Open, receiver: Receiver, path: str) -> None:
    put(client, subscription(receiver, "named", "Observation?subject=Patient/named"))
    shown = page(path, "en")
    shown.locator(DRAWN[path]).first.wait_for(timeout=SOON)
    nameless = shown.evaluate(
        """() => [...document.querySelectorAll("button, input, select, a, [role=img], table, dialog")]
        .filter((one) => !one.hidden && one.tagName !== "TABLE")
        .filter((one) => !(one.textContent.trim() || one.ariaLabel || one.labels?.length || one.getAttribute("aria-labelledby")))
        .map((one) => one.outerHTML)"""
    )
    assert nameless == []
    for language in ("en", "zh"):
        untold = shown.evaluate(
            """async (language) => {
            const { TEXTS } = await import("/console/static/texts.js");
            return [...document.querySelectorAll("[data-text], [data-hint]")].map((one) => one.dataset.text || one.dataset.hint)
              .filter((key) => !(key in TEXTS[language]));
            }""",
            language,
        )
        assert untold == [], language


def test_the_language_goes_along_to_the_other_pages(page: Open) -> None:
    shown = page("/", "zh")
    for name, title in (("订阅", "订阅监控"), ("作业", "后台作业"), ("实时", "诊疗信息实时交换")):
        shown.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
        expect(shown.get_by_role("heading", level=1)).to_have_text(title)


def test_both_languages_say_the_same_things(page: Open) -> None:
    shown = page("/console/jobs")
    keys = shown.evaluate(
        "async () => { const { TEXTS } = await import('/console/static/texts.js'); return [TEXTS.en, TEXTS.zh].map(Object.keys) }"
    )
    assert sorted(keys[0]) == sorted(keys[1])
