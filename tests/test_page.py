"""The page: its numbers come from the run, its file is whole and closed, and what does not add up is not drawn.

One short training on small cuts of the images serves all tests; the browser's tests, where there is a browser, open
the very page that it gives.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autograd import lens, page
from autograd.data import ImageDataset, fashion_mnist
from autograd.learn import Learned, train
from autograd.page import story

pytest.importorskip("jinja2", reason="jinja2 is not installed")
pytest.importorskip("plotly", reason="plotly is not installed")

STEPS = 24


@pytest.fixture(scope="module")
def data() -> ImageDataset:
    """Cuts of 12 x 12 pixels from the middle, where every class has something."""
    whole = fashion_mnist()
    middle = np.s_[:, :, 8:20, 8:20]
    return dataclasses.replace(
        whole,
        train_images=whole.train_images[:640][middle],
        train_labels=whole.train_labels[:640],
        test_images=whole.test_images[:150][middle],
        test_labels=whole.test_labels[:150],
    )


@pytest.fixture(scope="module")
def learned(data: ImageDataset) -> Learned:
    return train(data, steps=STEPS)


@pytest.fixture(scope="module")
def told(learned: Learned, data: ImageDataset) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(story, "PROBE_PIXELS", 2 * 12 * 12)
        patch.setattr(story, "LEDGER_POSITIONS", 6 * 12 * 12)
        told = story.tell(learned, data, steps=8, on_section=lambda name: None)
    told["run"]["source"] += "/longer/than/a/phone/is/wide" * 3
    return told


@pytest.fixture(scope="module")
def path(told: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "new" / "report.html"
    page.write_page(told, path)
    return path


@pytest.fixture(scope="module")
def html(path: Path) -> str:
    return path.read_text(encoding="utf-8")


class TestNumbers:
    def test_every_ledger_of_the_page_adds_up(self, told: dict[str, Any]) -> None:
        """The page's script multiplies and adds the same numbers in the same way."""
        pixels, upstream = (told["ledger"][name].astype(np.float64) for name in ("pixels", "upstream"))
        kh, kw = told["run"]["kernel"]
        top, left = told["run"]["padding"]
        height, width = pixels.shape[2:]
        padded = np.pad(pixels, ((0, 0), (0, 0), (top, kh - 1 - top), (left, kw - 1 - left)))
        sums = np.empty_like(told["ledger"]["gradient"], np.float64)
        for u in range(kh):
            for v in range(kw):
                window = padded[:, :, u : u + height, v : v + width]
                sums[:, :, u, v] = np.einsum("nohw,nchw->oc", upstream, window)
        difference = np.abs(sums - told["ledger"]["gradient"])
        assert (difference <= told["ledger"]["tolerance"]).all()
        assert np.abs(sums).max() > 100 * difference.max()

    def test_the_film_ends_with_the_network(self, told: dict[str, Any], learned: Learned) -> None:
        film = told["film"]
        assert film["steps"][0] == 0
        assert film["steps"][-1] == STEPS == len(film["losses"])
        np.testing.assert_array_equal(film["weights"][-1], learned.layer.weight.data)
        example = film["example"]
        assert example["start"] + example["moved"] == pytest.approx(example["end"], abs=film["discrepancy"])

    def test_the_slices_pass_through_the_loss(self, told: dict[str, Any]) -> None:
        """Between its points a curve is at most as far from the loss as its neighbours are from each other."""
        slices = told["slices"]
        for index in ((0, 0, 3, 3), (15, 0, 0, 6)):
            x, y = slices["weights"][index], slices["losses"][index]
            at = np.interp(slices["now"][index], x, y)
            assert at == pytest.approx(slices["loss"], abs=float(np.abs(np.diff(y)).max()))
        np.testing.assert_allclose(slices["next"], slices["now"] - slices["rate"] * slices["slopes"], rtol=1e-12)

    def test_chain_rule_and_nudges_agree(self, told: dict[str, Any]) -> None:
        # float64, a nudge of about 1e-5: truncation and rounding are both near 1e-10; a kink of ReLU or of the pooling
        # within the nudge would show as a jump, so the median is what is looked at.
        numeric = told["numeric"]
        assert np.median(np.abs(numeric["analytic"] - numeric["numeric"])) < 1e-8
        assert numeric["forwards"] == 2 * told["run"]["weights"]

    def test_what_is_dead_is_known(self, told: dict[str, Any]) -> None:
        cases = {case["name"].split(",")[0]: case for case in told["activation"]["cases"]}
        assert cases["0"]["filter_is_zero"]
        assert not cases["1"]["filter_is_zero"]
        assert cases["1"]["map_is_zero"]
        assert cases["1"]["gradient_is_zero"]
        assert not any(value is True for value in cases["2"].values())

    def test_a_ledger_that_does_not_add_up_is_refused(
        self, learned: Learned, data: ImageDataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = lens.activation_step
        changed = lambda *args: dataclasses.replace(  # noqa: E731
            step := whole(*args), filter_gradient=step.filter_gradient * np.float32(1.001)
        )
        monkeypatch.setattr(lens, "activation_step", changed)
        with pytest.raises(lens.LensError, match="ledger"):
            story._ledger(learned, data)


class TestFile:
    def test_size(self, path: Path) -> None:
        assert path.stat().st_size < 8e6

    def test_it_answers_both_questions_first(self, html: str, told: dict[str, Any]) -> None:
        answers = html[html.index("<body>") : html.index("<main>")]
        assert answers.index("What exactly learns in a convolution?") < answers.index("Does ReLU blank out bad ones?")
        for number in ("784", f"{told['run']['accuracy']:.1%}", f"{told['saturation']['share_zero']:.1%}"):
            assert number in answers

    def test_it_has_all_sections(self, html: str) -> None:
        assert re.findall(r'<section id="([\w-]+)"', html) == list(page.SECTIONS)
        for id, title in page.SECTIONS.items():
            assert f'<a href="#{id}">' in html
            assert title.replace("'", "&#39;") in html

    def test_it_names_no_other_file(self, html: str) -> None:
        outside = re.sub(r"<script>.*?</script>", "", html, flags=re.S)
        assert not re.search(r'(?:src|href)="(?!#|data:,")', outside)
        assert "url(" not in outside
        assert "@import" not in outside

    def test_its_policy_allows_its_own_scripts_and_nothing_else(self, html: str) -> None:
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
        assert policy is not None
        assert policy[1].startswith("default-src 'none';")
        scripts = re.findall(r"<script>(.*?)</script>", html, re.S)
        hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
        assert re.findall(r"'sha256-([^']*)'", policy[1]) == hashes
        assert len(scripts) == 3

    def test_its_arrays_are_the_story_s(self, html: str, told: dict[str, Any]) -> None:
        payload = re.search(r'id="run">([^<]*)<', html)
        assert payload is not None
        stored = json.loads(zlib.decompress(base64.b64decode(payload[1])))
        assert stored.keys() == told.keys()
        weights = stored["film"]["weights"]
        array = np.frombuffer(base64.b64decode(weights["data"]), f"<{weights['dtype']}").reshape(weights["shape"])
        np.testing.assert_array_equal(array, told["film"]["weights"])

    def test_names_of_classes_and_folders_are_text(self, told: dict[str, Any]) -> None:
        changed = {**told, "run": {**told["run"], "source": "<script>alert(1)</script>"}}
        assert "<script>alert(1)" not in page.render(changed)

    @pytest.mark.parametrize("name", ["page", "page.png", "."])
    def test_a_path_that_cannot_be_a_page(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"page's name must end in \.html"):
            page.check_page(tmp_path / name)
        (tmp_path / "folder.html").mkdir()
        with pytest.raises(ValueError, match="is a folder"):
            page.check_page(tmp_path / "folder.html")


@pytest.fixture(scope="module")
def browser(path: Path) -> Iterator[Any]:
    """The page in a headless browser, drawn."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chrome.set_page_load_timeout(120)
    chrome.set_script_timeout(120)
    try:
        chrome.get(path.as_uri())
        wait(chrome, "return document.body.dataset.ready === 'true'")
        yield chrome
    finally:
        chrome.quit()


def wait(browser: Any, condition: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60).until(lambda chrome: chrome.execute_script(condition))


def text(browser: Any, id: str) -> str:
    return str(browser.find_element("id", id).text)


class TestBrowser:
    def test_it_loads_nothing_but_itself(self, browser: Any, path: Path) -> None:
        events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        urls = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
        assert path.as_uri() in urls
        assert not {url for url in urls if not url.startswith((path.as_uri(), "data:", "blob:"))}

    def test_the_slider_shows_the_film(self, browser: Any, told: dict[str, Any]) -> None:
        from selenium.webdriver.common.keys import Keys

        slider = browser.find_element("id", "step")
        picture = "return document.querySelectorAll('#filters label:first-of-type canvas')[2].toDataURL()"
        end = browser.execute_script(picture)
        slider.send_keys(Keys.HOME)
        assert slider.get_attribute("aria-valuetext") == f"after 0 of {STEPS} steps"
        start = browser.execute_script(picture)
        assert start != end
        assert start == browser.execute_script(picture.replace("[2]", "[0]"))
        slider.send_keys(Keys.ARROW_RIGHT)
        step = told["film"]["steps"][1]
        output = browser.find_element("css selector", ".step output").text
        assert output == f"after {step} of {STEPS} steps, loss {told['film']['losses'][step - 1]:.3f}"
        slider.send_keys(Keys.END)
        assert browser.execute_script(picture) == end

    def test_a_weight_is_picked_and_its_ledger_read(self, browser: Any, told: dict[str, Any]) -> None:
        from selenium.webdriver.support.ui import Select

        for key, value in (("filter", 5), ("row", 2), ("column", 6)):
            Select(browser.find_element("id", f"choose-{key}")).select_by_value(str(value))
        said = text(browser, "ledger-sum").replace("\N{MINUS SIGN}", "-")
        assert said.startswith("Filter 5, row 2, column 6: sum of ")
        found = re.search(r"terms = ([-+.\de]+), \.grad = ([-+.\de]+), ", said)
        assert found is not None
        total, gradient = map(float, found.groups())
        index = (5, 0, 2, 6)
        assert gradient == pytest.approx(float(told["ledger"]["gradient"][index]), rel=1e-8)  # nine digits are shown
        assert abs(total - gradient) <= told["ledger"]["tolerance"][index] + 1e-8 * abs(gradient)
        weights = browser.find_elements("css selector", "#weights input")
        assert weights[2 * 7 + 6].is_selected()

    def test_weights_and_filters_are_chosen_by_keyboard(self, browser: Any) -> None:
        from selenium.webdriver.common.keys import Keys

        weights = browser.find_elements("css selector", "#weights input")
        weights[0].send_keys(Keys.SPACE)
        assert text(browser, "ledger-sum").startswith("Filter 5, row 0, column 0:")
        weights[0].send_keys(Keys.ARROW_DOWN)
        assert browser.switch_to.active_element == weights[7]
        assert text(browser, "ledger-sum").startswith("Filter 5, row 1, column 0:")
        browser.find_elements("css selector", "#filters input")[5].send_keys(Keys.ARROW_RIGHT)
        assert text(browser, "ledger-sum").startswith("Filter 6, row 1, column 0:")

    def test_a_sum_that_is_wrong_is_not_drawn(self, browser: Any) -> None:
        browser.execute_script("told.ledger.gradient.data.fill(7); choose({ row: 4 })")
        box = browser.find_element("id", "ledger-sum")
        assert "failed" in box.get_attribute("class")
        assert not browser.find_element("id", "ledger-picture").is_displayed()
        browser.refresh()
        wait(browser, "return document.body.dataset.ready === 'true'")
        assert browser.find_element("id", "ledger-picture").is_displayed()

    def test_every_check_holds(self, browser: Any) -> None:
        checks = browser.find_elements("css selector", ".check")
        assert len(checks) >= len(page.SECTIONS)
        assert all(check.text and "failed" not in check.get_attribute("class") for check in checks)

    def test_every_picture_has_an_alternative(self, browser: Any) -> None:
        script = "return [...document.querySelectorAll('canvas, .chart')].filter((e) => !e.ariaLabel || !e.role).length"
        assert browser.execute_script(script) == 0
        assert browser.execute_script("return document.querySelectorAll('canvas').length") > 80
        charts = browser.find_elements("css selector", ".chart")
        tables = browser.find_elements("css selector", ".chart + details")
        assert len(charts) == len(tables) > 10
        browser.execute_script("arguments[0].open = true", tables[0])
        wait(browser, "return document.querySelectorAll('.chart + details tbody tr').length > 10")

    def test_light_dark_and_a_phone_s_width(self, browser: Any) -> None:
        colour = "return getComputedStyle(document.body).backgroundColor"
        light = browser.execute_script(colour)
        browser.find_element("id", "theme").click()
        assert browser.execute_script(colour) != light
        assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"
        size = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            browser.refresh()
            wait(browser, "return document.body.dataset.ready === 'true'")
            wait(browser, "return document.documentElement.scrollWidth === 375")
        finally:
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            browser.refresh()
            wait(browser, "return document.body.dataset.ready === 'true'")

    def test_it_is_accessible_by_axe(self, browser: Any) -> None:
        """Contrast, names, roles, order of headings, keyboard access of what scrolls: in both themes."""
        axe = pytest.importorskip("axe_core_python.selenium", reason="axe-core-python is not installed")
        for _ in range(2):
            violations = axe.Axe().run(browser)["violations"]
            assert not violations
            browser.find_element("id", "theme").click()

    def test_the_console_is_silent(self, browser: Any) -> None:
        assert browser.get_log("browser") == []
