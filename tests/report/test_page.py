"""The report's page as people meet it: in a browser, on a phone, at night."""

import re
import shutil

import pytest

from tests import report_runs
from tfadv.report import page

webdriver = pytest.importorskip("selenium.webdriver")

PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 3, "mobile": True}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium, without a window and without a network."""
    chromium, driver = map(shutil.which, ("chromium", "chromedriver"))
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver; .ci/run installs them")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A report's page."""
    folders = report_runs.write_all(tmp_path_factory.mktemp("runs"))
    output = tmp_path_factory.mktemp("report")
    page.write(folders, output)
    return (output / page.PAGE).as_uri()


@pytest.fixture
def opened(browser, address):
    """The browser with the page, on a wide screen, in daylight."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    prefer(browser, "light")
    browser.get(address)
    return browser


def prefer(browser, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": features}
    )


def of(browser, selector, expression):
    """Evaluates JavaScript of `e` for every element that is selected."""
    return browser.execute_script(
        f"return [...document.querySelectorAll('{selector}')]"
        f".map(e => {expression})"
    )


def test_every_table_and_picture_is_seen(opened):
    titles = of(
        opened,
        "table",
        "document.getElementById(e.getAttribute('aria-labelledby')).innerText",
    )
    assert len(set(titles)) == 8
    assert all(titles)
    for rows in of(opened, "tbody", "e.rows.length"):
        assert rows >= 1
    pictures = of(
        opened,
        "img",
        "[e.complete, e.naturalWidth, e.clientWidth, e.clientHeight, e.alt]",
    )
    assert len(pictures) == 3
    for complete, natural, width, height, alt in pictures:
        assert complete
        assert min(natural, width, height) > 100
        assert len(alt) > 40
    assert len(of(opened, "main h2", "e.innerText")) >= 2


def test_the_console_stays_silent_and_nothing_is_fetched(opened):
    assert opened.get_log("browser") == []
    fetched = opened.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert all(name.startswith("data:") for name in fetched)


def test_a_phone_shows_it_without_scrolling_sideways(opened):
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    assert opened.execute_script("return window.innerWidth") == 390
    assert (
        opened.execute_script("return document.documentElement.scrollWidth")
        == 390
    )
    # Tables that are wider scroll by themselves.
    for inner, outer, overflow in of(
        opened,
        ".wide",
        "[e.scrollWidth, e.clientWidth, getComputedStyle(e).overflowX]",
    ):
        assert inner <= outer or overflow == "auto"
    # So do pictures, rather than shrink until nobody can read them.
    for width in of(opened, "img", "e.clientWidth"):
        assert width > 390
    for size in of(opened, "body", "parseFloat(getComputedStyle(e).fontSize)"):
        assert size >= 16


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_by_day_and_by_night(opened, scheme):
    prefer(opened, scheme)
    [paper] = of(opened, "body", "getComputedStyle(e).backgroundColor")
    paper = color(paper)
    assert (luminance(paper) < 0.05) == (scheme == "dark")
    for selector in ("td", "h3", "mark", ".note", ".sentence span"):
        found = of(
            opened,
            selector,
            "[getComputedStyle(e).color, getComputedStyle(e).backgroundColor, "
            "getComputedStyle(e).opacity]",
        )
        assert found
        for ink, background, opacity in found:
            ground = over(color(background), paper)
            ink = color(ink)
            ink = over((*ink[:3], ink[3] * float(opacity)), ground)
            # WCAG 2.1, level AA.
            assert contrast(ink, ground) >= 4.5, (selector, ink, ground)


def color(text):
    numbers = [float(n) for n in re.findall(r"[\d.]+", text)]
    return (*numbers, 1.0)[:4] if len(numbers) == 3 else tuple(numbers)


def over(top, ground):
    share = top[3]
    mixed = (
        share * t + (1 - share) * g
        for t, g in zip(top[:3], ground[:3], strict=True)
    )
    return (*mixed, 1.0)


def luminance(rgb):
    channels = [c / 255 for c in rgb[:3]]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in channels
    ]
    return sum(
        weight * c
        for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )


def contrast(one, other):
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)
