"""The operator page as an operator uses it: a real browser, a real page, a real log. Pictures stay in .cache/page."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from playwright.async_api import Browser, BrowserContext, Locator, Route, WebSocket, async_playwright, expect
from playwright.async_api import Page as Tab

from adaptors.sqlite_log import SqliteLog, open_sqlite_log
from dashboards.live.feed import Listener, Subscription
from dashboards.live.server import Page, PageSettings
from loadtest.native import free_port
from streams.core import policy
from streams.core.controller import Controller
from streams.core.dead_letters import dead_letter
from streams.core.records import NewRecord
from streams.core.telemetry import ButtonPressed, Online, Rep
from streams.core.topics import TELEMETRY
from streams.engine import Engine, EngineSettings
from streams.traces import places
from tests.core.story import CAPABILITIES
from tests.shell import clinic
from tests.shell.clinic import NOW_MS, STEADY, TIRING
from tests.shell.counts import Counts

pytestmark = pytest.mark.browser

PICTURES = Path(__file__).parents[2] / ".cache" / "page"
KEY = "acme/north/lumbar-1"
TOKEN = "a token of the clinic, long enough"  # noqa: S105 - of these tests
DESK, PHONE = (1440, 900), (390, 844)
WAIT_MS = 60_000
"""Longest wait for what must show, in ms."""

START_MS = 120_000
"""Longest wait for the browser, in ms."""

expect.set_options(timeout=WAIT_MS)


def chromium() -> str:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    assert found, "no Chromium here: scripts/setup-native installs it"
    return found


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"], timeout=START_MS)
        yield opened
        await opened.close()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    async with open_sqlite_log(tmp_path / "log.db", 2, now_ms=lambda: NOW_MS) as opened:
        yield opened


@asynccontextmanager
async def page_on(
    log: Any, *, is_reading: bool = False, now_ms: Callable[[], int] = lambda: NOW_MS, **fields: Any
) -> AsyncIterator[Page]:
    page = Page(log, PageSettings(**({"port": 0} | fields)), policy.DEFAULT, now_ms=now_ms, places=places)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(page.run(stop))
        while not (page.port if is_reading else page.is_ready):
            await asyncio.sleep(0.01)
        try:
            yield page
        finally:
            stop.set()


@asynccontextmanager
async def tab_at(
    browser: Browser, url: str, size: tuple[int, int] = DESK, *, scheme: str = "light", calm: bool = True
) -> AsyncIterator[Tab]:
    """Open a page; at the end nothing may have gone wrong in it, and nothing may have been asked of anybody else."""
    context: BrowserContext = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    context.set_default_timeout(WAIT_MS)
    tab = await context.new_page()
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    tab.on(
        "console", lambda said: wrong.append(f"{said.type}: {said.text}") if said.type in {"error", "warning"} else None
    )
    tab.on("request", lambda asked: wrong.append(f"asked: {asked.url}") if "//127.0.0.1:" not in asked.url else None)
    await tab.goto(url)
    yield tab
    await context.close()
    assert not calm or wrong == []


async def picture(tab: Tab, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    await tab.screenshot(path=PICTURES / f"{name}.png", animations="disabled")


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_MS / 1_000):
        while not await holds():
            await asyncio.sleep(0.05)


def link(tab: Tab) -> Locator:
    return tab.locator("#link")


# --- The fleet


@pytest.mark.parametrize(("size", "name"), [(DESK, "desk"), (PHONE, "phone")])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_fleet_of_five_hundred_fits_the_screen_and_can_be_read(
    log: SqliteLog, browser: Browser, size: tuple[int, int], name: str, scheme: str
) -> None:
    await log.append(clinic.whole(clinic.fleet(500)))
    async with page_on(log) as page, tab_at(browser, page.url, size, scheme=scheme) as tab:
        await expect(tab.locator(".tile")).to_have_count(500)
        await expect(link(tab)).to_have_text("Live")
        await picture(tab, f"fleet-500-{name}-{scheme}")
        assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await tab.wait_for_function("() => document.body.innerText.includes('500 machines')")
        assert await poor_contrasts(tab) == []
        cut_off = await tab.eval_on_selector_all(
            ".tile .name",
            "names => names.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent)",
        )
        assert cut_off == []


@pytest.mark.parametrize("first", ["alarm", "filter"])
async def test_the_machine_in_trouble_among_five_hundred_is_two_clicks_away_and_says_why_in_one_sentence(
    log: SqliteLog, browser: Browser, first: str
) -> None:
    told = [one for one in clinic.fleet(500) if not isinstance(one[1], ButtonPressed)]
    well = [one for one in told if one[2] > NOW_MS - 30_000]  # nobody is silent either
    await log.append(clinic.whole([*well, *clinic.session("acme/south/hip-7", STEADY, stop=True)]))
    async with page_on(log) as page, tab_at(browser, page.url) as tab:
        await expect(tab.get_by_role("link", name=re.compile("hip-7")).first).to_be_visible()
        if first == "filter":
            await tab.get_by_role("button", name=re.compile("^Need attention 1$")).click()  # one
            await tab.locator(".tile").click()  # and two
        else:
            await tab.locator("#alarms").get_by_role("link", name="south/hip-7").click()  # one is enough
        await expect(tab.locator("h1")).to_have_text("hip-7")
        commands = tab.locator(".card", has=tab.get_by_role("heading", name="Commands"))
        why = commands.get_by_text("Machine stopped and locked: the stop button was pressed.", exact=True)
        await expect(why).to_be_visible()
        await expect(why).to_be_in_viewport()


async def test_a_machine_that_had_to_leave_the_view_leaves_the_screen(
    log: SqliteLog, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.live.view.MAX_MACHINES", 1)
    at_ms = [NOW_MS]
    await log.append(clinic.whole(clinic.session(KEY)))
    async with page_on(log, now_ms=lambda: at_ms[0]) as page, tab_at(browser, page.url) as tab:
        await expect(tab.locator(".tile")).to_contain_text(["lumbar-1"])
        await log.append(clinic.whole(clinic.session("acme/north/lumbar-2")))
        await expect(tab.locator(".tile")).to_contain_text(["lumbar-1", "lumbar-2"])
        at_ms[0] += 1_000  # the board looks at all machines once a second
        await expect(tab.locator(".tile")).to_have_count(1)
        await expect(tab.locator(".tile")).to_contain_text("lumbar-2")


async def test_filters_and_search_find_machines_and_patients(log: SqliteLog, browser: Browser) -> None:
    await log.append(clinic.whole(clinic.fleet(200)))
    async with page_on(log) as page, tab_at(browser, page.url) as tab:
        await expect(tab.locator(".tile")).to_have_count(200)
        await tab.get_by_role("button", name=re.compile("^Need attention")).click()
        await expect(tab.locator(".tile")).to_have_count(12)  # two stopped, ten silent
        await tab.get_by_role("button", name=re.compile("^All")).click()
        await tab.keyboard.press("/")
        await tab.keyboard.type("p0006")
        await expect(tab.locator(".tile")).to_have_count(1)
        await tab.keyboard.press("Escape")
        await expect(tab.locator(".tile")).to_have_count(200)
        await tab.locator("#find").fill("nobody at all")
        await expect(tab.locator(".empty")).to_contain_text("No machine is like that")


async def test_the_keyboard_leads_from_the_fleet_to_a_machine_and_back(log: SqliteLog, browser: Browser) -> None:
    await log.append(clinic.whole(clinic.fleet(24)))
    async with page_on(log) as page, tab_at(browser, page.url) as tab:
        await expect(tab.locator(".tile")).to_have_count(24)
        await tab.keyboard.press("Tab")
        assert await tab.evaluate("document.activeElement.className") == "skip"
        await tab.locator(".tile").first.focus()
        first = await tab.evaluate("document.activeElement.querySelector('.name').textContent")
        await tab.keyboard.press("ArrowRight")
        second = await tab.evaluate("document.activeElement.querySelector('.name').textContent")
        assert first != second
        assert await tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        await tab.keyboard.press("Enter")
        await expect(tab.locator("h1")).to_have_text(second)
        assert await tab.evaluate("document.activeElement.id") == "main"
        await tab.keyboard.press("Escape")
        await expect(tab.locator("h1")).to_have_text("Fleet")


async def test_an_address_that_nobody_can_read_leads_to_the_fleet(log: SqliteLog, browser: Browser) -> None:
    await log.append(clinic.whole(clinic.session(KEY, STEADY)))
    async with page_on(log) as page, tab_at(browser, f"{page.url}#/machine/100%") as tab:
        await expect(tab.locator("h1")).to_have_text("Fleet")
        await expect(link(tab)).to_have_text("Live")


async def test_the_page_has_landmarks_one_heading_and_names_for_everything(log: SqliteLog, browser: Browser) -> None:
    await log.append(clinic.whole([*clinic.fleet(24), *clinic.session(KEY, TIRING, stop=True)]))
    async with page_on(log) as page, tab_at(browser, page.url) as tab:
        for place in ("#/", f"#/machine/{KEY}", "#/patient/acme/p1", "#/letters", "#/health"):
            await tab.goto(page.url + place)
            await expect(tab.locator("h1")).to_have_count(1)
            for landmark in ("banner", "navigation", "main"):
                await expect(tab.get_by_role(landmark)).to_have_count(1)
            nameless = await tab.evaluate(
                """() => [...document.querySelectorAll('a, button, input, [role=img], img')].filter(one =>
                     one.checkVisibility() && !one.textContent.trim() && !one.ariaLabel && !one.labels?.length
                     && one.getAttribute('alt') === null).map(one => one.outerHTML)"""
            )
            assert nameless == []


# --- One machine


async def test_reps_appear_as_they_come_with_the_loss_the_curve_and_the_command_in_a_sentence(
    log: SqliteLog, browser: Browser
) -> None:
    told = clinic.session(KEY, TIRING)
    whole = clinic.whole(told)
    async with page_on(log) as page, tab_at(browser, f"{page.url}#/machine/{KEY}") as tab:
        await expect(tab.locator(".empty")).to_contain_text("This machine is not known here")
        await picture(tab, "machine-unknown")
        await log.append(clinic.whole(told[:-3]))
        await expect(tab.locator("h1")).to_have_text("lumbar-1")
        numbers = tab.locator(".numbers")
        await expect(numbers).to_contain_text("Repetitions3 of 10")
        await log.append([one for one in whole if one not in clinic.whole(told[:-3])])
        await expect(numbers).to_contain_text("Repetitions6 of 10")
        await expect(numbers).to_contain_text("▲ 27 % limit 20 %")
        await expect(
            tab.get_by_role("img", name=re.compile("Velocity loss by repetition. Last, 27 %; the limit is 20 %"))
        ).to_be_visible()
        await expect(
            tab.get_by_role("img", name=re.compile("Force over the movement of repetition 6: peak"))
        ).to_be_visible()
        await expect(tab.get_by_role("img", name=re.compile("Range by repetition .* Last, 100 %"))).to_be_visible()
        words = r"Set ended: velocity loss 2\d % and 27 % on two reps in a row, limit 20 %\."
        sentence = re.compile(words.replace(" ", r"\s"))  # before a unit stands a space that breaks no line
        await expect(tab.locator(".told")).to_contain_text(sentence)
        await tab.get_by_text("All repetitions and sets as tables").click()
        await expect(tab.get_by_role("row", name=re.compile("^6 27 %"))).to_be_visible()
        await picture(tab, "machine-live")


async def test_a_rep_without_any_force_leaves_the_page_alive(log: SqliteLog, browser: Browser) -> None:
    told = clinic.session(KEY, STEADY[:2])  # a load cell that says nothing but 0, and a load that nobody knows
    key, rep, at_ms = told[-1]
    assert isinstance(rep, Rep)
    silent = replace(rep, load_N=0.0, force=bytes(2 * rep.samples))
    await log.append(clinic.whole([*told[:-1], (key, silent, at_ms)]))
    async with page_on(log) as page, tab_at(browser, f"{page.url}#/machine/{KEY}") as tab:
        chart = tab.get_by_role("img", name=re.compile("Force over the movement of repetition 2: peak 0 N m"))
        await expect(chart).to_be_visible()
        await expect(chart.locator(".tick").first).to_have_text("0")
        await tab.get_by_role("button", name="STOP machine").click()
        await expect(tab.get_by_role("dialog")).to_be_visible()


async def test_who_goes_away_and_comes_back_at_once_sees_the_machine(log: SqliteLog, browser: Browser) -> None:
    await log.append(clinic.whole(clinic.session(KEY, STEADY, end=True)))  # nothing of it changes any more
    async with page_on(log) as page, tab_at(browser, f"{page.url}#/machine/{KEY}") as tab:
        await expect(tab.locator("h1")).to_have_text("lumbar-1")
        await tab.evaluate("key => { location.hash = '#/'; location.hash = `#/machine/${key}`; }", KEY)
        await tab.wait_for_function("document.activeElement.id === 'main'")  # it has heard of that
        await expect(tab.locator("h1")).to_have_text("lumbar-1", timeout=5_000)  # before the link is made anew


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("size", "name"), [(DESK, "desk"), (PHONE, "phone")])
async def test_every_page_can_be_read_on_desk_and_phone_in_light_and_dark(
    log: SqliteLog, browser: Browser, size: tuple[int, int], name: str, scheme: str
) -> None:
    paced = "acme/north/lumbar-2"
    await log.append(clinic.whole(clinic.session(KEY, TIRING, stop=True)))
    await log.append(clinic.whole(clinic.session(paced, STEADY, intent="paced", end=True)))
    letter = dead_letter(
        NewRecord(TELEMETRY, b"k", b"?", NOW_MS), stage="ingest", reason="bad_value", detail="of `seq`"
    )
    await log.append([letter])
    async with page_on(log) as page, tab_at(browser, page.url, size, scheme=scheme) as tab:
        for place in ("", f"machine/{KEY}", f"machine/{paced}", "patient/acme/p1", "letters", "health"):
            await tab.goto(f"{page.url}#/{place}")
            await expect(tab.locator("h1")).to_be_visible()
            await picture(tab, f"{place.replace('/', '-') or 'fleet'}-{name}-{scheme}")
            assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), place
            assert await poor_contrasts(tab) == [], place


@pytest.mark.parametrize("width", [320, 390])
async def test_the_longest_names_fit_the_narrowest_screen_and_no_number_is_broken(
    log: SqliteLog, browser: Browser, width: int
) -> None:
    longest = "n" * 63
    key, patient = f"{longest}/{longest}/{longest}", f"{longest}/{longest}"
    told = clinic.session(key, STEADY, patient=patient, stop=True)
    long = {"capabilities": replace(CAPABILITIES, model=longest)}
    await log.append(clinic.whole([(at, replace(m, **long) if isinstance(m, Online) else m, ms) for at, m, ms in told]))
    await log.append(clinic.whole(clinic.fleet(500)))
    async with page_on(log) as page, tab_at(browser, page.url, (width, 640)) as tab:
        for place in ("", f"machine/{key}", f"patient/{patient}", "letters", "health"):
            await tab.goto(f"{page.url}#/{place}")
            await expect(tab.locator("h1")).to_be_visible()
            await tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            await picture(tab, f"long-{place.split('/')[0] or 'fleet'}-{width}")
            assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), place
            broken = await tab.eval_on_selector_all(
                "td.n",
                """cells => cells.filter(cell => { const text = document.createRange(); text.selectNodeContents(cell);
                     return text.getClientRects().length > 1; }).map(cell => cell.textContent)""",
            )
            assert broken == [], place


async def test_a_patients_loads_have_the_unit_of_their_machine(log: SqliteLog, browser: Browser) -> None:
    await log.append(clinic.whole(clinic.session(KEY, STEADY, end=True)))
    async with page_on(log) as page, tab_at(browser, f"{page.url}#/patient/acme/p1") as tab:
        await expect(tab.locator(".numbers")).to_contain_text("Load300 N m")
        await expect(tab.get_by_role("row", name=re.compile("lumbar-1"))).to_contain_text("300 N m")


async def test_a_table_that_is_wider_than_a_phone_moves_with_the_arrows(log: SqliteLog, browser: Browser) -> None:
    await log.append(clinic.whole(clinic.session(KEY, STEADY)))
    async with page_on(log) as page, tab_at(browser, f"{page.url}#/machine/{KEY}", PHONE) as tab:
        await tab.get_by_text("All repetitions and sets as tables").focus()
        await tab.keyboard.press("Enter")
        await tab.keyboard.press("Tab")
        table = tab.get_by_role("region", name="Repetitions of set 1")
        await expect(table).to_be_focused()
        await tab.keyboard.press("ArrowRight")
        await eventually(lambda: table.evaluate("table => table.scrollLeft > 0"))


async def poor_contrasts(tab: Tab) -> list[Any]:
    """Return every visible text whose contrast with its ground is below 4.5 to 1 (WCAG 2.2 AA)."""
    found: list[Any] = await tab.evaluate(CONTRAST)
    return found


CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(one => one / 255)
    .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, n) => sum + one * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(at).backgroundColor);
      if (a > 0.5) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const one of document.querySelectorAll('body *')) {
    const own = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !one.checkVisibility() || one.closest('.unseen, .long, .skip, option')) continue;
    const style = getComputedStyle(one);
    const isSvg = one instanceof SVGElement;
    const [a, b] = [light(parse(isSvg ? style.fill : style.color)), light(ground(one))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push([one.outerHTML.slice(0, 200), ratio]);
  }
  return poor;
}"""


# --- What an operator asks for


@asynccontextmanager
async def controller_on(log: SqliteLog) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(Engine(Controller(), log, Counts(), EngineSettings(checkpoint_s=0.01)).run(stop))
        yield
        stop.set()


async def test_an_operator_stops_a_machine_with_name_and_reason_and_sees_what_became_of_it(
    log: SqliteLog, browser: Browser
) -> None:
    await log.append(clinic.spoken(clinic.session(KEY, STEADY)))
    async with controller_on(log), page_on(log) as page, tab_at(browser, f"{page.url}#/machine/{KEY}") as tab:
        await tab.get_by_role("button", name="STOP machine").click()
        dialog = tab.get_by_role("dialog", name="STOP lumbar-1")
        await dialog.get_by_role("button", name="STOP now").click()
        await expect(dialog).to_be_visible()  # without a name and a reason nothing happens
        await dialog.get_by_label("Your name").fill("Kim")
        await dialog.get_by_role("button", name="Patient feels unwell").click()
        await picture(tab, "stop-dialog")
        await tab.keyboard.press("Enter")
        await expect(dialog).to_be_hidden()
        asked = tab.locator(".card", has=tab.get_by_role("heading", name="Asked by operators"))
        await expect(asked).to_contain_text("STOP by Kim: Patient feels unwell")
        await expect(asked).to_contain_text("sent to the machine, not confirmed yet")
        await expect(tab.locator(".badge")).to_have_text("Stopped")
        sentence = "Machine stopped and locked: Kim pressed STOP on this page (“Patient feels unwell”)."
        await expect(tab.locator(".told li.stop", has_text=sentence)).to_be_visible()
        await expect(tab.locator("#alarms")).to_contain_text(sentence)
        await picture(tab, "machine-stopped")


async def test_an_alarm_is_told_to_those_who_hear_the_page_and_goes_when_it_is_acknowledged(
    log: SqliteLog, browser: Browser
) -> None:
    async with page_on(log) as page, tab_at(browser, page.url) as tab:
        await expect(link(tab)).to_have_text("Live")
        await expect(tab.locator("#alarms")).to_be_hidden()
        await log.append(clinic.whole(clinic.session(KEY, STEADY, stop=True)))
        await expect(tab.locator("[aria-live=assertive]")).to_have_text(
            "Alarm. lumbar-1: Machine stopped and locked: the stop button was pressed."
        )
        assert (await tab.title()).startswith("(1) ")
        await tab.get_by_role("button", name="Acknowledge the alarm of north/lumbar-1").click()
        await tab.get_by_label("Your name").fill("Kim")
        await tab.get_by_label("Reason").fill("looked after the patient")
        await tab.get_by_role("dialog").get_by_role("button", name="Acknowledge").click()
        await expect(tab.locator("#alarms")).to_be_hidden()
        await tab.goto(f"{page.url}#/machine/{KEY}")
        await expect(tab.locator("main")).to_contain_text("seen by Kim: looked after the patient")


async def test_of_alarms_that_come_together_none_is_left_unsaid(log: SqliteLog, browser: Browser) -> None:
    stops = [one for n in range(1, 6) for one in clinic.session(f"acme/north/lumbar-{n}", STEADY, stop=True)]
    async with page_on(log) as page, tab_at(browser, page.url) as tab:
        await expect(link(tab)).to_have_text("Live")
        await log.append(clinic.whole(stops))
        said = tab.locator("[aria-live=assertive] span")
        await expect(said).to_have_count(5)
        assert {text.split(":")[0] for text in await said.all_text_contents()} == {
            f"Alarm. lumbar-{n}" for n in range(1, 6)
        }


async def test_a_name_is_remembered_and_markup_in_a_reason_stays_text(log: SqliteLog, browser: Browser) -> None:
    await log.append(clinic.whole(clinic.session(KEY, STEADY)))
    opened: list[str] = []
    async with page_on(log) as page, tab_at(browser, f"{page.url}#/machine/{KEY}") as tab:
        tab.on("dialog", lambda dialog: opened.append(dialog.message))
        for reason in ("<img src=x onerror=alert(1)>", "second reason"):
            await tab.get_by_role("button", name="STOP machine").click()
            if reason.startswith("<"):
                await tab.get_by_label("Your name").fill("<b>Kim</b>")
            await tab.get_by_label("Reason").fill(reason)
            await tab.get_by_role("button", name="STOP now").click()
            await expect(tab.get_by_role("dialog")).to_be_hidden()
            await expect(tab.locator("main")).to_contain_text(f"STOP by <b>Kim</b>: {reason}")
        assert opened == []


async def test_a_wish_that_was_not_recorded_says_so_and_can_be_sent_again(log: SqliteLog, browser: Browser) -> None:
    await log.append(clinic.whole(clinic.session(KEY, STEADY)))
    async with page_on(log) as page, tab_at(browser, f"{page.url}#/machine/{KEY}", calm=False) as tab:
        await tab.get_by_role("button", name="STOP machine").click()
        await tab.get_by_label("Your name").fill("Kim")
        await tab.get_by_label("Reason").fill("patient unwell")
        await tab.route("**/api/asked", lambda route: route.abort())
        await tab.get_by_role("button", name="STOP now").click()
        await expect(tab.locator("#ask-error")).to_contain_text("use the button on the machine")
        await tab.unroute("**/api/asked")
        await tab.get_by_role("button", name="STOP now").click()
        await expect(tab.locator("main")).to_contain_text("STOP by Kim: patient unwell")


@pytest.mark.parametrize("is_recorded", [True, False])
async def test_an_answer_that_comes_after_cancel_touches_no_dialog_of_another_machine_and_is_told(
    log: SqliteLog, browser: Browser, is_recorded: bool
) -> None:
    other = "acme/north/lumbar-2"
    await log.append([*clinic.whole(clinic.session(KEY)), *clinic.whole(clinic.session(other))])
    held: list[Route] = []
    async with page_on(log) as page, tab_at(browser, f"{page.url}#/machine/{KEY}", calm=is_recorded) as tab:

        async def is_held() -> bool:
            return len(held) == 1

        await tab.route("**/api/asked", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks its handlers
        await tab.get_by_role("button", name="STOP machine").click()
        await tab.get_by_label("Your name").fill("Kim")
        await tab.get_by_label("Reason").fill("patient unwell")
        await tab.get_by_role("button", name="STOP now").click()
        await eventually(is_held)
        await tab.get_by_role("button", name="Cancel").click()
        await tab.goto(f"{page.url}#/machine/{other}")
        await expect(tab.locator("h1")).to_contain_text("lumbar-2")
        await tab.get_by_role("button", name="STOP machine").click()
        await (held[0].continue_() if is_recorded else held[0].abort())
        dialog = tab.get_by_role("dialog", name="STOP lumbar-2")
        told = "STOP of lumbar-1 is recorded" if is_recorded else "STOP of lumbar-1: The page can't reach its server"
        await expect(dialog.locator(".outcomes")).to_contain_text(told)
        await expect(dialog).to_be_visible()
        await expect(tab.locator("#ask-error")).to_be_hidden()
        await tab.unroute("**/api/asked")
        await tab.get_by_label("Your name").fill("Kim")
        await tab.get_by_label("Reason").fill("the other patient, too")
        await dialog.get_by_role("button", name="STOP now").click()
        await expect(dialog).to_be_hidden()
        await expect(tab.locator("main")).to_contain_text("STOP by Kim: the other patient, too")
        await tab.locator("body > .outcomes").get_by_role("button", name="Close").click()
        await expect(tab.locator("body > .outcomes")).to_be_hidden()


# --- The link


class Held:
    """A log of which nothing is read until it is let go."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log
        self.let_go = asyncio.Event()
        self.append, self.bounds, self.read, self.offset_at = log.append, log.bounds, log.read, log.offset_at

    @asynccontextmanager
    async def subscribe(self, topic: str, group: str, listener: Listener | None = None) -> AsyncIterator[Subscription]:
        await self.let_go.wait()
        async with self._log.subscribe(topic, group, listener) as subscription:
            yield subscription


async def test_a_page_that_still_reads_what_was_before_does_not_say_that_it_is_live(
    log: SqliteLog, browser: Browser
) -> None:
    await log.append(clinic.whole(clinic.session(KEY)))
    held = Held(log)
    async with page_on(held, is_reading=True) as page, tab_at(browser, page.url) as tab:
        await expect(tab.locator(".head")).to_be_visible()  # it has heard of a fleet without machines
        await expect(link(tab)).to_have_text("Reading the log")
        held.let_go.set()
        await expect(link(tab)).to_have_text("Live")
        await expect(tab.locator("main")).to_contain_text("lumbar-1")


@pytest.mark.parametrize("place", [f"machine/{KEY}", "patient/acme/p1"])
async def test_to_a_page_that_still_reads_nothing_is_unknown(log: SqliteLog, browser: Browser, place: str) -> None:
    await log.append(clinic.whole(clinic.session(KEY, end=True)))
    held, frames = Held(log), list[str]()

    async def is_told_that_it_is_unknown() -> bool:
        return any('"known":false' in frame for frame in frames)

    async with page_on(held, is_reading=True) as page, tab_at(browser, f"{page.url}#/{place}") as tab:
        await expect(link(tab)).to_have_text("Reading the log")
        tab.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(str(frame))))
        await tab.reload()
        await eventually(is_told_that_it_is_unknown)
        await expect(tab.locator("main")).to_have_text("Reading the log.")
        held.let_go.set()
        await expect(tab.locator("h1")).to_contain_text(re.compile("lumbar-1|p1"))


async def test_a_lost_connection_is_shown_and_mends_itself_with_all_that_happened_meanwhile(
    log: SqliteLog, browser: Browser
) -> None:
    await log.append(clinic.whole(clinic.session(KEY, STEADY)))
    port = free_port()
    async with page_on(log, port=port) as page:
        tab_is_open = tab_at(browser, page.url, calm=False)
        tab = await tab_is_open.__aenter__()
        await expect(link(tab)).to_have_text("Live")
    await expect(link(tab)).to_have_text("Connection lost")
    await expect(tab.get_by_role("alert").first).to_contain_text("Trying again")
    await expect(tab.locator(".tile")).to_have_count(1)  # what was seen last stays, and is marked as old
    await picture(tab, "connection-lost")
    await log.append(clinic.whole(clinic.session("acme/north/lumbar-2", STEADY)))
    async with page_on(log, port=port):
        await expect(link(tab)).to_have_text("Live")
        await expect(tab.locator("#banner")).to_be_hidden()
        await expect(tab.locator(".tile")).to_have_count(2)
        await tab_is_open.__aexit__(None, None, None)


async def test_a_lost_connection_is_said_once_and_its_age_is_only_shown(log: SqliteLog, browser: Browser) -> None:
    await log.append(clinic.whole(clinic.session(KEY, STEADY)))
    async with page_on(log) as page:
        tab_is_open = tab_at(browser, page.url, calm=False)
        tab = await tab_is_open.__aenter__()
        await expect(link(tab)).to_have_text("Live")
        await tab.evaluate(
            """() => { window.said = []; new MutationObserver((changes) => changes.forEach(({ target }) => {
                 const alert = target.parentElement?.closest('[role=alert]') ?? target.closest?.('[role=alert]');
                 if (alert?.textContent) said.push(alert.textContent);
               })).observe(document.body, { subtree: true, childList: true, characterData: true }); }"""
        )
    await expect(tab.locator("#banner")).to_contain_text(re.compile(r"from ([3-9]|\d\d) s ago"))
    assert await tab.evaluate("said") == ["Connection lost. Trying again."]
    await tab_is_open.__aexit__(None, None, None)


async def test_a_browser_that_slept_for_an_hour_takes_up_again_with_a_full_snapshot(
    log: SqliteLog, browser: Browser
) -> None:
    await log.append(clinic.whole(clinic.session(KEY, STEADY)))
    async with page_on(log) as page, tab_at(browser, "about:blank") as tab:
        await tab.clock.install()
        first_words: list[str] = []

        def opened(socket: WebSocket) -> None:
            heard: list[str] = []

            def listen(frame: bytes | str) -> None:
                if not heard:
                    first_words.append(str(frame))
                heard.append(str(frame))

            socket.on("framereceived", listen)

        tab.on("websocket", opened)
        await tab.goto(page.url)
        await expect(link(tab)).to_have_text("Live")
        await tab.clock.fast_forward("01:00:00")

        async def is_back() -> bool:
            await tab.clock.run_for(1_000)
            return len(first_words) > 1

        await eventually(is_back)
        assert all('"all":true' in words for words in first_words)
        await expect(link(tab)).to_have_text("Live")


async def test_a_page_in_reach_of_others_asks_for_the_token_first(log: SqliteLog, browser: Browser) -> None:
    await log.append(clinic.whole(clinic.session(KEY, STEADY)))
    async with page_on(log, token=TOKEN) as page, tab_at(browser, page.url, PHONE, calm=False) as tab:
        await tab.get_by_label("Token").fill("wrong")
        await tab.keyboard.press("Enter")
        await expect(tab.locator("#sign-error")).to_have_text("The token is wrong.")
        await picture(tab, "sign-in")
        await tab.get_by_label("Token").fill(TOKEN)
        await tab.keyboard.press("Enter")
        await expect(tab.locator(".tile")).to_have_count(1)
        await tab.get_by_role("button", name="Sign out").click()
        await expect(tab.get_by_label("Token")).to_be_visible()
