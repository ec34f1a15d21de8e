"""The page of tools/serve.py in a real browser: Debian's chromium without a window, driven by selenium."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import PROJECT, tiny_tree, to_toml, write_corpus

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
webdriver = pytest.importorskip("selenium.webdriver")
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">'\"&\u202etxet\0"
HOSTILE += "W" * 400
SHORT = "<img src=x onerror=alert()>'\"&\u202etxet\0"  # the tiny model's context has 64 tokens
HOSTILE_NAME = "<img src=x onerror=document.title='taken'> & \"quoted\""


@pytest.fixture(scope="module")
def runs(base, tmp_path_factory):
    """A folder of three runs of one training; one of them is hostile."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("first", "second", HOSTILE_NAME):
        shutil.copytree(base, folder / name)
    run = folder / HOSTILE_NAME
    text = {"prompt": HOSTILE, "text": HOSTILE, "kind": "short"}
    (run / "samples" / "00000002.json").write_text(json.dumps({"step": 2, "phase": "grammar", "texts": [text]}))
    check = {"name": HOSTILE, "found": 1.0, "asked": HOSTILE, "passed": False}
    gate = {"passed": False, "override": HOSTILE, "checks": [check]}
    (run / "gates" / "grammar.json").write_text(json.dumps(gate))
    return folder


@pytest.fixture(scope="module")
def address(runs):
    process, url = serve(runs)
    yield url
    stop(process)


def serve(*places):
    """Start the server; return its process and the address that it prints."""
    command = [sys.executable, str(PROJECT / "tools" / "serve.py"), *map(str, places), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def stop(process):
    process.send_signal(signal.SIGINT)
    process.wait(30)
    process.stdout.close()


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Page:
    """The page in the browser."""

    def __init__(self, browser, address):
        self.browser, self.address = browser, address
        browser.get_log("browser")
        browser.get(address)
        self.until(lambda: self.all("#models input"))

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.one(selector).text

    def until(self, holds, seconds=60):
        """Wait; the page may draw itself anew while it is looked at."""
        return WebDriverWait(self.browser, seconds, 0.1, [StaleElementReferenceException]).until(lambda _: holds())

    def go(self, part):
        self.one(f"header a[href='#{part}']").click()
        self.until(lambda: self.one(f"#{part}").is_displayed())

    def fill(self, selector, value):
        element = self.one(selector)
        element.clear()
        element.send_keys(value)

    def choose(self, names, within):
        """Choose these boxes and no others."""
        for box in self.all(f"{within} input"):
            if box.is_selected() != (box.get_attribute("value") in names):
                box.click()

    def written(self):
        """Whether all texts have ended."""
        ends = [element.text for element in self.all("#texts .ends")]
        return ends and len(ends) == len(self.all("#texts article")) and all("seed" in end for end in ends)

    def size(self, width, height=900):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def errors(self):
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture
def page(browser, address):
    found = Page(browser, address)
    found.size(1280)
    yield found
    assert found.errors() == []
    assert browser.title == "llm60"  # what is hostile would have changed it


def write(page, prompt="The quiet river", **settings):
    page.go("write")
    page.fill("#prompt", prompt)
    for name, value in ({"max_tokens": "8", "seed": "3"} | settings).items():
        page.fill(f"#{name}", value)
    page.one("#start").click()
    page.until(page.written)


# --- Write -----------------------------------------------------------------------------------------------------------


def test_words_come_and_show_their_alternatives(page):
    assert "token=" not in page.browser.current_url
    page.choose(["first"], "#models")
    write(page)
    words = page.text("#texts .words")
    assert words.startswith("The quiet river")
    assert len(words) > len("The quiet river")
    assert page.text("#texts .ends").startswith("8 tokens")
    page.all("#texts .token")[2].click()
    rows = page.all("#texts .others tr")
    shares = [float(row.text.split()[-2]) for row in rows[1:]]
    assert len(shares) >= 8
    assert shares == sorted(shares, reverse=True)
    assert page.text("#texts .others tr.taken")
    page.all("#texts .others button")[1].click()  # go on after another token
    page.until(page.written)
    assert len(page.text("#texts .words")) > len("The quiet river")
    write(page)
    assert page.text("#texts .words") == words  # an equal seed


def test_one_prompt_goes_through_several_checkpoints(page):
    page.choose(["first", "second", "first/phases/grammar"], "#models")
    write(page)
    texts = [element.text for element in page.all("#texts .words")]
    assert len(texts) == 3
    assert len(set(texts)) == 1  # one model under three names, and one seed
    assert sorted(element.text for element in page.all("#texts h3")) == ["first", "first: grammar", "second"]


@pytest.mark.slow
def test_a_text_can_be_stopped(page):
    page.choose(["first", "second"], "#models")
    page.go("write")
    page.fill("#prompt", "The")
    page.fill("#max_tokens", "60")
    page.one("#start").click()
    page.until(lambda: page.one("#stop").is_enabled())
    page.one("#stop").click()
    page.until(lambda: not page.one("#stop").is_enabled())
    time.sleep(0.3)
    assert len([end for end in page.all("#texts .ends") if end.text]) <= 1
    assert "waits" not in page.text("#texts")
    assert page.one("#start").is_enabled()


@pytest.mark.slow
def test_keys_alone_suffice(page):
    def press(*keys):
        webdriver.ActionChains(page.browser).send_keys(*keys).perform()

    def focused():
        return page.browser.switch_to.active_element

    def tab_to(holds):
        for _ in range(60):
            press(Keys.TAB)
            if holds(focused()):
                return
        pytest.fail("the Tab key does not reach it")

    page.browser.execute_script("document.body.focus()")
    tab_to(lambda element: element.get_attribute("href") == f"{page.browser.current_url.split('#')[0]}#write")
    tab_to(lambda element: element.get_attribute("id") == "prompt")
    press("It was")
    tab_to(lambda element: element.get_attribute("id") == "max_tokens")
    webdriver.ActionChains(page.browser).key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL).perform()
    press("6")
    tab_to(lambda element: element.get_attribute("id") == "start")
    press(Keys.ENTER)
    page.until(page.written)
    tab_to(lambda element: "token" in (element.get_attribute("class") or ""))
    press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert focused() == page.all("#texts .token")[2]
    assert focused().value_of_css_property("outline-style") == "solid"
    press(Keys.ENTER)
    assert focused().get_attribute("aria-expanded") == "true"
    assert page.one("#texts .others").is_displayed()
    press(Keys.ESCAPE)
    assert not page.one("#texts .others").is_displayed()
    while not (focused().get_attribute("href") or "").endswith("#watch"):
        assert focused().get_attribute("class") != "skip"
        webdriver.ActionChains(page.browser).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
    press(Keys.ENTER)
    page.until(lambda: page.all("#curves figure"))
    tab_to(lambda element: element.get_attribute("value") == "second")
    press(Keys.SPACE)
    page.until(lambda: page.one("#runs input[value=second]").is_selected())


@pytest.mark.slow
def test_runs_and_checkpoints_that_come_and_go(browser, base, tmp_path):
    for name in ("first", "second"):
        shutil.copytree(base, tmp_path / name)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{")  # cannot be read, and comes first
    process, url = serve(tmp_path)
    try:
        page = Page(browser, url)
        page.choose(["second"], "#models")
        page.one("#models input[value=second]").send_keys("")
        (tmp_path / "first" / "checkpoints").mkdir(exist_ok=True)
        made = shutil.copytree(base / "phases" / "grammar", tmp_path / ".made")
        made.rename(tmp_path / "first" / "checkpoints" / "7")
        page.until(lambda: page.all("#models input[value='first/checkpoints/7']"))
        assert [box.get_attribute("value") for box in page.all("#models input") if box.is_selected()] == ["second"]
        assert browser.switch_to.active_element.get_attribute("value") == "second"
        page.go("watch")
        page.until(lambda: page.all("#curves figure"))
        assert page.one("#runs input[value=first]").is_selected()  # the first that can be read
        page.choose(["first", "second"], "#runs")
        (tmp_path / "second").rename(tmp_path / ".gone")
        page.until(lambda: not page.all("#runs input[value=second]"))
        page.until(lambda: "held-out loss" in page.text("#now"))
    finally:
        stop(process)
        browser.get_log("browser")  # the answers about the run that was deleted


def test_an_error_is_one_line(page):
    page.choose(["first"], "#models")
    page.fill("#prompt", "The")
    page.fill("#temperature", "")
    page.one("#start").click()
    assert page.text("#trouble") == "Give a number for temperature."
    page.choose([], "#models")
    page.fill("#temperature", "0.8")
    page.one("#start").click()
    assert page.text("#trouble") == "Choose a checkpoint first."


# --- Watch -----------------------------------------------------------------------------------------------------------


def test_a_run_and_two_over_one_another(page):
    page.go("watch")
    page.until(lambda: page.all("#curves figure"))
    assert "held-out loss" in page.text("#now")
    for title in ("Loss", "Schedule", "Grammar", "Gates", "What the doctor says", "Texts the model writes"):
        assert title in page.text("#curves")
    page.choose(["first", "second"], "#runs")
    page.until(lambda: "training loss" in page.text("#curves"))
    legends = [element.text for element in page.all("#curves .legend")]
    assert len(legends) >= 2
    assert {tuple(legend.split("\n")) for legend in legends} == {("first", "second")}
    assert page.text("#now") == ""
    page.choose([], "#runs")
    assert page.text("#heard") == "Choose a run."
    assert page.text("#curves") == ""


@pytest.mark.slow
def test_curves_move_while_a_run_trains(browser, tmp_path):
    """Train a really small model in another process, and watch it."""
    folder = tmp_path / "training"
    write_corpus(folder / "text" / "grammar", 200, 0)
    tree = tiny_tree(folder)
    tree["phase"] = [tree["phase"][0] | {"tokens": 6000 * 128}]
    tree["tokenizer"] = {"phases": ["grammar"]}
    tree["train"] |= {"evaluate_every": 1000, "save_every": 2000}
    (tmp_path / "tiny.toml").write_text(to_toml(tree), encoding="utf-8")
    command = [sys.executable, str(PROJECT / "tests" / "quick_launch.py"), str(tmp_path / "tiny.toml")]
    with (tmp_path / "output").open("w") as output:
        training = subprocess.Popen(command, stdout=output, stderr=output, cwd=tmp_path, env=dict(os.environ))
    server = None
    try:
        rows = folder / "run" / "metrics.jsonl"
        limit = time.monotonic() + 150
        while not rows.exists() or rows.stat().st_size < 2000:
            assert training.poll() is None, (tmp_path / "output").read_text()
            assert time.monotonic() < limit
            time.sleep(0.2)
        server, url = serve(folder / "run")
        browser.get_log("browser")
        browser.get(url)
        browser.get(url.split("?")[0] + "#watch")
        page = Page.__new__(Page)
        page.browser, page.address = browser, url
        page.until(lambda: page.all("#curves #loss polyline"))
        page.until(lambda: "under way" in page.text("#now"))
        seen = {}  # by the sections that are there: lines of the loss

        def moved():
            sections = tuple(section.get_attribute("id") for section in page.all("#curves section"))
            seen.setdefault(sections, set()).add(page.one("#loss polyline").get_attribute("points"))
            return len(seen[sections]) >= 3

        page.until(moved, 90)
        assert "left" in page.text("#now .done")
        assert page.errors() == []
    finally:
        training.send_signal(signal.SIGINT)
        training.wait(40)
        if server:
            stop(server)


# --- Look inside -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_text_is_looked_at_token_by_token(page):
    page.go("watch")
    page.until(lambda: page.all("#curves #text"))  # the report has a section of that name
    page.go("inside")
    ids = [element.get_attribute("id") for element in page.all("[id]")]
    assert len(ids) == len(set(ids))
    page.fill("#inside-text", "The quiet river crossed the harbour.")
    page.one("#inside-form button").click()
    page.until(lambda: page.all("#looked figure"))
    assert page.text("#looked .words") == "The quiet river crossed the harbour."
    assert len(page.all("#looked figure")) == 2
    page.one("#looked .surprises button").click()
    first = page.one("#looked .surprises li").text
    figures = page.text("#looked .others h4")
    assert first.split()[-4] in figures  # the bits
    assert len(page.all("#looked .others tr.taken")) == 1


# --- All of it -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(page, width):
    page.size(width)
    page.choose(["first", "second"], "#models")
    write(page, "W" * 45)
    page.all("#texts .token")[1].click()

    def fits():
        wide = page.browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        return wide[0] <= wide[1] == width

    assert fits()
    page.go("watch")
    page.until(lambda: page.all("#curves figure"))
    page.choose([HOSTILE_NAME], "#runs")
    page.until(lambda: "quoted" in page.text("#now"))
    page.until(lambda: page.all("#curves #samples"))
    assert fits()
    page.choose(["first", HOSTILE_NAME], "#runs")
    page.until(lambda: "training loss" in page.text("#curves"))
    assert fits()
    page.go("inside")
    page.fill("#inside-text", "W" * 45)
    page.one("#inside-form button").click()
    page.until(lambda: page.all("#looked figure"))
    assert fits()


@pytest.mark.slow
def test_hostile_text_stays_text(page):
    page.choose([HOSTILE_NAME], "#models")
    page.browser.execute_script("document.getElementById('prompt').value = arguments[0]", SHORT)
    page.fill("#max_tokens", "8")
    page.one("#start").click()
    page.until(page.written)
    assert page.one("#texts .given").get_property("textContent") == SHORT
    assert page.text("#texts h3") == HOSTILE_NAME
    page.go("watch")
    page.until(lambda: page.all("#runs input"))
    page.choose([HOSTILE_NAME], "#runs")
    page.until(lambda: "quoted" in page.text("#now"))
    page.until(lambda: page.all("#curves #samples"))
    assert HOSTILE_NAME in page.text("#now h2")
    shown = HOSTILE.replace("\u202e", "\\u202e").replace("\0", "\\x00")
    assert page.text("#samples article p") == shown
    assert shown in page.text("#gates")
    assert page.all("main img, main script, svg script, [onerror]") == []
    page.go("inside")
    page.browser.execute_script("document.getElementById('inside-text').value = arguments[0]", SHORT)
    page.one("#inside-form button").click()
    page.until(lambda: page.all("#looked .words"))
    assert page.all("main img, main script") == []


@pytest.mark.slow
def test_it_says_that_the_server_is_gone_and_goes_on_when_it_is_back(browser, base):
    process, url = serve(base)
    page = Page(browser, url)
    port = url.split(":")[2].split("/")[0]
    page.go("watch")
    page.until(lambda: page.all("#curves figure"))
    stop(process)
    page.until(lambda: "The server does not answer" in page.text("#trouble"))
    assert page.all("#curves figure")  # what was there stays
    command = [sys.executable, str(PROJECT / "tools" / "serve.py"), str(base), "--port", port, "--no-token"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        page.until(lambda: not page.one("#trouble").is_displayed(), 60)
    finally:
        stop(process)
    browser.get_log("browser")  # the browser's own lines about the refused connection
