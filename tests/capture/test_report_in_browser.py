"""Reports in a browser (docs/report.md): charts drawn in either theme, a table that answers, room on a telephone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).resolve().parents[2]
CASE = ROOT / "examples" / "ssh-cut"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Debian's chromium and chromium-driver are needed")
# It looks for nothing outside: no updates, no services of its maker.
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars"),
)
SECONDS = 60


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose policy has names that would be markup."""
    folder = tmp_path_factory.mktemp("page")
    policy = (CASE / "policy.yaml").read_text().replace("A-out", '"</script><img src=x onerror=document.title=1>"')
    (folder / "policy.yaml").write_text(policy)
    subprocess.run(
        [
            *(sys.executable, "-m", "dataplane", "replay", "policy.yaml", str(ROOT / "pcaps" / "ssh-cut.pcap")),
            *("--changes", str(CASE / "changes.yaml"), "--report", "report.html"),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def shown(page: Path, browser: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """The page once its charts are drawn; whatever a test does, the console has no error and no network is used."""
    _open(browser, page)
    yield browser
    assert browser.get_log("browser") == []
    told = [entry["message"] for entry in browser.get_log("performance")]
    assert not [message for message in told if '"Network.requestWillBeSent"' in message and '"url":"http' in message]


def _open(browser: webdriver.Chrome, page: Path, width: int = 1280, theme: str = "light") -> None:
    _media(browser, theme)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    _until(browser, "return document.documentElement.dataset.ready === 'true'")


def _media(browser: webdriver.Chrome, theme: str, kind: str = "") -> None:
    # Without smooth scrolling what is clicked stands still.
    features = [{"name": "prefers-color-scheme", "value": theme}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": features})


def _until(browser: webdriver.Chrome, script: str) -> None:
    WebDriverWait(browser, SECONDS, 0.05).until(lambda driver: driver.execute_script(script))


def _rows(browser: webdriver.Chrome) -> list[list[str]]:
    found: list[list[str]] = browser.execute_script(
        "return [...document.querySelectorAll('#flow-table tr.row')].map(r => [...r.cells].map(c => c.textContent))"
    )
    return found


def _head(browser: webdriver.Chrome, name: str) -> WebElement:
    heads = browser.find_elements(By.CSS_SELECTOR, "#flow-table th")
    return next(head for head in heads if head.text.split()[0] == name)


def _colours(browser: webdriver.Chrome) -> tuple[str, ...]:
    """The ground of the page, its text, and the text and a bar of a chart."""
    found: list[str] = browser.execute_script(
        "const style = (s) => getComputedStyle(document.querySelector(s));"
        "const body = style('body');"
        "return [body.backgroundColor, body.color, style('.xtick text').fill, style('.bars path').fill]"
    )
    return tuple(found)


def test_the_charts_are_drawn(shown: webdriver.Chrome) -> None:
    drawn: list[Any] = shown.execute_script(
        "return [...document.querySelectorAll('.chart')].map(c => [c.id, c.querySelectorAll('path').length > 2])"
    )
    assert [name for name, _ in drawn][:3] == ["traffic-chart", "denied-chart", "connections-chart"]
    assert all(has for _, has in drawn)
    marks = shown.execute_script(
        "return [...document.querySelectorAll('#traffic-chart .annotation')].map(t => t.textContent)"
    )
    assert marks == ["1", "2"]
    labels = shown.execute_script(
        "return [...document.querySelectorAll('#rules-chart .ytick')].map(t => t.textContent)"
    )
    assert "</script>" in "".join(labels)
    assert shown.title == "What a policy did to traffic"


def test_the_table_is_sorted_filtered_and_searched(shown: webdriver.Chrome) -> None:
    """By mouse and by keys; how many are left is told."""
    before = _rows(shown)
    assert len(before) == 6
    _head(shown, "denied").find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert _head(shown, "denied").get_attribute("aria-sort") == "descending"
    column = 6
    denied = [int(row[column]) for row in _rows(shown)]
    assert denied == sorted(denied, reverse=True) != sorted(denied)
    _head(shown, "denied").find_element(By.TAG_NAME, "button").click()
    assert _head(shown, "denied").get_attribute("aria-sort") == "ascending"
    assert [int(row[column]) for row in _rows(shown)] == sorted(denied)

    verdict = shown.find_element(By.XPATH, "//label[contains(., 'verdict')]/select")
    verdict.send_keys("deny")
    assert {row[1] for row in _rows(shown)} == {"deny"}
    status = shown.find_element(By.CSS_SELECTOR, "#flow-table [role=status]")
    assert status.text == f"{len(_rows(shown))} of 6 flows"
    search = shown.find_element(By.CSS_SELECTOR, "#flow-table input[type=search]")
    search.send_keys("no-rule 203.0.113")
    _until(shown, "return document.querySelectorAll('#flow-table tr.row').length === 1")
    shown.find_element(By.XPATH, "//button[text()='Clear']").click()
    assert sorted(_rows(shown)) == sorted(before)
    # What stands in a story is found too.
    search.send_keys("near miss")
    _until(shown, "return document.querySelectorAll('#flow-table tr.row').length === 1")


def test_a_line_opens_its_story(shown: webdriver.Chrome) -> None:
    row = next(
        button for button in shown.find_elements(By.CSS_SELECTOR, ".open") if "203.0.113.10:50023" in button.text
    )
    row.send_keys(Keys.SPACE)
    assert row.get_attribute("aria-expanded") == "true"
    story = shown.find_element(By.ID, str(row.get_attribute("aria-controls")))
    assert "near miss: A01 allows tcp 22" in story.text
    assert "dataplane explain policy.yaml" in story.text
    row.send_keys(Keys.SPACE)
    assert row.get_attribute("aria-expanded") == "false"
    assert not shown.find_elements(By.CSS_SELECTOR, "tr.story")


def test_light_and_dark_and_on_paper(shown: webdriver.Chrome) -> None:
    """As the system has it, as the button says, and light on paper; the charts go with the page."""
    light = _colours(shown)
    _media(shown, "dark")
    _until(shown, f"return getComputedStyle(document.querySelector('.xtick text')).fill !== '{light[2]}'")
    dark = _colours(shown)
    assert not set(light) & set(dark)
    button = shown.find_element(By.ID, "theme")
    button.click()
    _until(shown, f"return getComputedStyle(document.querySelector('.xtick text')).fill === '{light[2]}'")
    assert _colours(shown) == light
    assert button.text == "Theme: light"
    button.click()
    _until(shown, f"return getComputedStyle(document.querySelector('.xtick text')).fill === '{dark[2]}'")
    _media(shown, "dark", "print")
    _until(shown, f"return getComputedStyle(document.querySelector('.xtick text')).fill === '{light[2]}'")
    assert _colours(shown) == light
    assert not shown.find_element(By.CSS_SELECTOR, ".asked").is_displayed()
    # A sheet of A4 has 680 pixels between its margins.
    _until(
        shown, "return [...document.querySelectorAll('.main-svg')].every(s => s.getBoundingClientRect().width <= 680)"
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read(shown: webdriver.Chrome, page: Path, theme: str) -> None:
    """Contrast of at least 4.5 : 1 for all text (WCAG 2.2, 1.4.3), in either theme."""
    _open(shown, page, theme=theme)
    worst: float = shown.execute_script(
        """
        const channel = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
        const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
        const parse = (text) => text.match(/[0-9.]+/g).map(Number);
        const ground = (node) => {
          for (; node; node = node.parentElement) {
            const colour = parse(getComputedStyle(node).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
          }
        };
        let worst = 21;
        for (const node of document.querySelectorAll('body *')) {
          const own = [...node.childNodes].some(c => c.nodeType === 3 && c.data.trim());
          if (!own || ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(node.tagName) || !node.getClientRects().length) continue;
          const style = getComputedStyle(node);
          const text = parse(node instanceof SVGElement ? style.fill : style.color);
          const [a, b] = [light(text), light(ground(node))].sort((x, y) => y - x);
          worst = Math.min(worst, (a + 0.05) / (b + 0.05));
        }
        return worst;
        """
    )
    assert 4.5 <= worst < 21


def test_a_telephone_has_room_for_it(shown: webdriver.Chrome, page: Path) -> None:
    """At 390 pixels nothing goes beyond the side, stories open too."""
    _open(shown, page, width=390)
    for button in shown.find_elements(By.CSS_SELECTOR, ".open"):
        shown.execute_script("arguments[0].click()", button)
    assert shown.execute_script("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390]
    beyond = shown.execute_script(
        "return [...document.querySelectorAll('body *')].filter(n => n.getBoundingClientRect().right > 391"
        " && !n.closest('.wide') && !n.closest('.chart') && !n.closest('.skip')).map(n => n.outerHTML.slice(0, 80))"
    )
    assert beyond == []
