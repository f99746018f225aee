"""The report in a real browser: what works, who can use it, and that it keeps to itself.

Wants the extra ``browser`` (Playwright, and axe-core in a package) and the system's Chromium; no
browser is downloaded. Without the extra, test_report.py still presses the page's buttons.
"""

from __future__ import annotations

import math
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fitting import fit_skills
from sweeper import Sweep
from sweeper.record.record import Outcome
from sweeper.report import report
from sweeper.search.protocol import Finished

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs the extra `browser`: pip install -e '.[browser]'"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("needs the chromium browser", allow_module_level=True)

BUDGETS = (1e11, 2e11, 4e11)
WANTS = {"knowledge": 1.5, "code": 0.7, "validation": 1.0}
PHONE, DESK = (360, 740), (1280, 900)
GRAVE = ("serious", "critical")


def table(budgets: tuple[float, ...], wants: dict[str, float]) -> pd.DataFrame:
    """Trials round the optima of every skill, the last one failed."""
    rng, rows = np.random.default_rng(0), []
    for flops in budgets:
        for i, offset in enumerate(np.linspace(-1.5, 1.5, 7)):
            params = round(0.06 * math.sqrt(flops) * math.exp(offset))
            for skill, ratio in wants.items():
                away = math.log(params / (0.06 * math.sqrt(flops) * ratio))
                loss = 1 + (1e11 / flops) ** 0.3 + 0.15 * away**2 + 0.01 * rng.normal()
                rows.append((f"{flops:g}-{i}", flops, params, flops / 6 / params, skill, loss))
    found = pd.DataFrame(rows, columns="trial_id flops params tokens skill loss".split())
    found = found.assign(seed=0, mix="base", status="finished", reason="", spent_flops=found.flops)
    last = found.trial_id == found.trial_id.iloc[-1]
    found.loc[last, ["status", "reason", "loss"]] = ["failed", "out of memory", np.nan]
    return found


def write(path: Path, budgets: tuple[float, ...], wants: dict[str, float]) -> Path:
    sweep = Sweep(budgets=BUDGETS, allowance=8e14, name="A sweep", skills=tuple(WANTS))
    runs = table(budgets, wants)
    outcome = Outcome(sweep, runs, Finished("tolerance", "Every interval is narrow enough."))
    report.write(outcome, path, fit_skills(runs))
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("report") / "report.html", BUDGETS, WANTS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as found:
        running = found.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@dataclass
class Heard:
    """What a page asked of the network, and complained of."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@dataclass
class Opener:
    """Opens the report; every page must end without a request or a complaint."""

    browser: Any
    file: Path
    heard: Heard = field(default_factory=Heard)

    def __call__(self, size: tuple[int, int] = DESK, scheme: str = "light") -> Any:
        width, height = size
        context = self.browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
        )
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda request: self.heard.requests.append(request.url))
        page.on("console", lambda message: self.heard.complaints.append(message.text))
        page.on("pageerror", lambda error: self.heard.complaints.append(str(error)))
        page.goto(self.file.as_uri())
        return page


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[Opener]:
    opener = Opener(browser, file)
    yield opener
    for context in browser.contexts:
        context.close()
    asked = {url for url in opener.heard.requests if not url.startswith("data:")}
    assert asked <= {file.as_uri()}
    assert opener.heard.complaints == []


def column(page: Any, index: int) -> list[str]:
    return page.eval_on_selector_all(
        "table.sortable tbody tr", f"rows => rows.map(r => r.cells[{index}].textContent.trim())"
    )


def value(text: str) -> float:
    """A number as the table shows it: 34.6k, 1e11."""
    unit = {"k": 1e3, "M": 1e6, "B": 1e9}.get(text[-1:], 1.0)
    return float(text.rstrip("kMB")) * unit


@pytest.mark.parametrize(("title", "number"), [("params", True), ("code", True), ("state", False)])
def test_headings_sort_by_mouse_and_keyboard(opened: Opener, title: str, number: bool) -> None:
    page = opened()
    titles = page.eval_on_selector_all(
        "table.sortable thead th", "heads => heads.map(h => h.textContent.trim())"
    )
    index = titles.index(title)
    button = page.locator("table.sortable thead button").nth(index)
    head = page.locator("table.sortable thead th").nth(index)
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    up = column(page, index)
    button.focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    down = column(page, index)
    filled = [text for text in up if text]
    keys = [value(text) if number else text for text in filled]
    assert keys == sorted(keys) and len(set(keys)) > 1
    assert [text for text in down if text] == filled[::-1] or len(set(filled)) < len(filled)
    assert up[len(filled) :] == down[len(filled) :] == [""] * (len(up) - len(filled))


def test_boxes_hide_and_show_their_series(opened: Opener) -> None:
    page = opened()
    boxes = page.locator("[data-hides]")
    shown = "document.querySelectorAll('figure svg .off, figure svg.off').length"
    assert boxes.count() == len(WANTS) + len(BUDGETS) and page.evaluate(shown) == 0
    for i in range(boxes.count()):
        box = boxes.nth(i)
        selector = box.get_attribute("data-hides")
        box.uncheck()
        hidden = page.eval_on_selector_all(
            selector, "parts => parts.every(p => getComputedStyle(p).display === 'none')"
        )
        assert hidden and page.evaluate(shown) > 0
        box.check()
        assert page.evaluate(shown) == 0


def test_anchors_bring_their_section_into_view(opened: Opener) -> None:
    page = opened(PHONE)
    links = page.locator("nav a")
    assert links.count() >= 6
    for i in range(links.count()):
        target = links.nth(i).get_attribute("href")
        links.nth(i).click()
        assert page.evaluate("location.hash") == target
        top = page.eval_on_selector(target, "part => part.getBoundingClientRect().top")
        bottom = page.evaluate("document.documentElement.scrollHeight - innerHeight - scrollY")
        assert -5 <= top <= 150 or bottom < 5  # the last sections cannot rise to the top


def test_nothing_is_wider_than_the_page(opened: Opener) -> None:
    for size in (PHONE, (768, 1000), DESK):
        page = opened(size)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wide) == 0


def test_the_answer_needs_no_scrolling_on_a_phone(opened: Opener) -> None:
    page = opened((390, 844))
    forest = "document.querySelector('.forest').closest('.wide')"
    assert page.evaluate(f"{forest}.scrollWidth - {forest}.clientWidth") == 0


def test_paper_shows_everything_in_black_on_white(opened: Opener) -> None:
    page = opened(scheme="dark")
    pages = page.pdf().count(b"/Type /Page\n")  # printing says so to the page, which opens folds
    assert pages >= 3
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print", color_scheme="dark")
    look = page.evaluate(
        "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
    )
    assert look == ["rgb(255, 255, 255)", "rgb(27, 31, 38)"]
    assert not page.locator("nav").is_visible()
    cut = "parts => parts.filter(p => p.scrollHeight > p.clientHeight + 2).length"
    assert page.eval_on_selector_all(".scroll", cut) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK])
def test_no_serious_fault_of_accessibility(
    opened: Opener, scheme: str, size: tuple[int, int]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")
    page = opened(size, scheme)
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    buttons = page.locator("table.sortable thead button")

    def faults() -> list[str]:
        found = axe.Axe().run(page).response["violations"]
        return [
            f"{fault['id']} ({fault['impact']}): {node['html'][:200]} {node['failureSummary']}"
            for fault in found
            if fault["impact"] in GRAVE
            for node in fault["nodes"][:3]
        ]

    assert faults() == []
    for box in page.locator("[data-hides]").all()[:-1]:
        box.uncheck()
    for i in range(buttons.count()):
        buttons.nth(i).click()
    buttons.first.focus()
    assert faults() == []


def test_twenty_skills_on_nine_budgets_can_still_be_mailed(tmp_path: Path) -> None:
    names = [f"skill-{i:02d}" for i in range(19)]
    wants = {name: 0.7 + 0.05 * i for i, name in enumerate(names)} | {"validation": 1.0}
    path = write(tmp_path / "r.html", tuple(1e11 * 2.0**i for i in range(9)), wants)
    assert path.stat().st_size < 1_500_000


def test_the_browser_has_no_network(opened: Opener) -> None:
    """The guard guards: a page that asks for something is heard."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        page = opened()
        page.evaluate("url => fetch(url).catch(() => {})", url)
        assert opened.heard.requests.pop() == url
        opened.heard.complaints.clear()
