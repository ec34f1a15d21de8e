"""An ONNX export with a page runs in a browser alone: no network, no markup from texts, our own words."""

import functools
import http.server
import json
import os
import re
import shutil
import threading
import time
from pathlib import Path

import export as tool
import pytest
from exports import files_of, judged_copy, source_of, variant

from llm60_jax import generate
from llm60_jax.errors import DamageError, InputError
from llm60_jax.export import browser, onnx
from llm60_jax.generate import Choice, Request

pytest.importorskip("onnx")
pytest.importorskip("tokenizers")

# The unpacked npm package @huggingface/transformers, for the test in a browser.
PACKAGE = os.environ.get("LLM60_TRANSFORMERS_JS", "")


@pytest.fixture
def npm(tmp_path) -> Path:
    """Folders like those of npm, with files of a few bytes."""
    modules = tmp_path / "node_modules"
    package, runtime = modules / "@huggingface" / "transformers", modules / "onnxruntime-web"
    describe(package, name="@huggingface/transformers", version="4.3.1", licence="Apache-2.0", wants="1.31.0")
    describe(runtime, name="onnxruntime-web", version="1.31.0", licence="MIT")
    (package / "dist" / "transformers.min.js").write_text("// library")
    (package / "LICENSE").write_text("the terms")
    for name in ("ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (runtime / "dist" / name).write_text(name)
    return package


def describe(folder: Path, name: str, version: str, licence: str = "", wants: str = "") -> None:
    (folder / "dist").mkdir(parents=True, exist_ok=True)
    about = {"name": name, "version": version, "license": licence, "dependencies": {"onnxruntime-web": wants}}
    (folder / "package.json").write_text(json.dumps(about))


@pytest.fixture(scope="module")
def run(base, tmp_path_factory) -> Path:
    return judged_copy(base, tmp_path_factory)


def test_the_page_is_beside_the_model(run, npm, tmp_path):
    out = tmp_path / "out"
    assert tool.main([str(run), "--to", "onnx", "--with-page", str(npm), "--out", str(out)]) == 0
    written = files_of(out)
    page = {name.removeprefix("page/") for name in written if name.startswith("page/")}
    assert page == {
        "licences.txt", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm", "page.css", "page.js",
        "transformers-LICENSE.txt", "transformers.min.js", "worker.js",
    }  # fmt: skip
    assert {"index.html", "config.json", "onnx/model.onnx"} <= written.keys()
    assert written["page/licences.txt"] == (
        b"@huggingface/transformers 4.3.1, licence Apache-2.0, transformers-LICENSE.txt\n"
        b"onnxruntime-web 1.31.0, licence MIT, text: https://www.npmjs.com/package/onnxruntime-web\n"
    )
    assert written["page/transformers-LICENSE.txt"] == b"the terms"
    assert b"python -m http.server --bind 127.0.0.1" in written["README.md"]
    home = [str(path).encode() for path in (run, tmp_path, Path.home())]
    assert not [name for name, content in written.items() for place in home if place in content]
    for name in ("index.html", "page/page.js", "page/worker.js", "page/page.css"):
        assert not re.search(rb"https?:", written[name]), name


def test_the_page_allows_no_other_server_and_shows_names_as_text(run, npm, tmp_path):
    source = source_of(variant(run, "gelu"), name="<script>alert(1)</script>", page=npm)
    browser.write(source, tmp_path, browser.package(npm))
    page = (tmp_path / browser.INDEX).read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert re.findall(r"<script[^>]*>", page) == ['<script type="module" src="page/page.js">']
    assert "<style" not in page
    assert " on" not in re.sub(r">[^<]*<", "><", page)  # no handler in an attribute
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == rules["style-src"] == "'self'"
    assert rules["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert "innerHTML" not in (tmp_path / "page" / "page.js").read_text()


def test_other_packages_are_refused(run, npm, tmp_path, capsys):
    runtime = npm.parents[1] / "onnxruntime-web"
    with pytest.raises(InputError, match=r"is onnxruntime-web 1\.31\.0, not @huggingface/transformers"):
        browser.package(runtime)
    for version in ("3.8.1", "4.2.0", "5.0.0"):
        describe(npm, "@huggingface/transformers", version, wants="1.31.0")
        with pytest.raises(InputError, match=rf"{re.escape(version)}, not @huggingface/transformers from 4\.3"):
            browser.package(npm)
    describe(npm, "@huggingface/transformers", "4.10.0", wants="1.32.0")
    with pytest.raises(InputError, match=r"is version 1\.31\.0, but @huggingface/transformers 4\.10\.0 needs 1\.32\.0"):
        browser.package(npm)
    describe(npm, "@huggingface/transformers", "4.10.0", wants="1.31.0")
    browser.package(npm)
    (runtime / "dist" / "ort-wasm-simd-threaded.wasm").unlink()
    with pytest.raises(InputError, match=r"ort-wasm-simd-threaded\.wasm is missing"):
        browser.package(npm)
    shutil.rmtree(runtime)
    with pytest.raises(InputError, match=r"onnxruntime-web 1\.31\.0 is neither in"):
        browser.package(npm)
    for needs in (None, ["onnxruntime-web"], {}):
        (npm / "package.json").write_text(
            json.dumps({"name": "@huggingface/transformers", "version": "4.3.1", "dependencies": needs})
        )
        with pytest.raises(InputError, match="onnxruntime-web None is neither in"):
            browser.package(npm)
    with pytest.raises(InputError, match="no description of an npm package"):
        browser.package(tmp_path / "nothing")
    out = tmp_path / "out"
    assert tool.main([str(run), "--to", "onnx", "--with-page", str(tmp_path / "nothing"), "--out", str(out)]) == 2
    assert tool.main([str(run), "--to", "gguf", "--with-page", str(npm), "--out", str(out)]) == 2
    assert "--with-page does not belong to --to gguf" in capsys.readouterr().err
    assert not out.exists()


def test_descriptions_without_names_break_nothing(npm):
    (npm.parents[1] / "onnxruntime-web" / "package.json").write_text(
        json.dumps({"version": "1.31.0", "license": {"type": "MIT"}, "homepage": "https://ort.example\n"})
    )
    assert "onnxruntime-web 1.31.0, licence not stated, text: https://ort.example\n" in browser.package(npm).about


def test_a_changed_file_is_seen(run, npm, tmp_path):
    bundled = browser.package(npm)
    browser.write(source_of(variant(run, "gelu"), page=npm), tmp_path, bundled)
    browser.verify(tmp_path, bundled)
    (tmp_path / "page" / "transformers.min.js").write_text("// other")
    with pytest.raises(DamageError, match=r"transformers\.min\.js: differs"):
        browser.verify(tmp_path, bundled)


# --- In a browser ---------------------------------------------------------------------------------


class Files(http.server.SimpleHTTPRequestHandler):
    """Plain files, or nothing at all with a folder that does not exist."""

    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def do_CONNECT(self):
        self.server.asked.append(self.path)
        self.send_error(403)

    def log_message(self, *arguments):
        pass


def served(folder: Path) -> http.server.ThreadingHTTPServer:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=str(folder)))
    server.daemon_threads = True
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def chromium(tmp_path):
    """A headless browser. Requests to another computer go to a proxy, which lists them."""
    webdriver = pytest.importorskip("selenium.webdriver")
    binary, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    if not (binary and driver and PACKAGE):
        pytest.skip("needs chromium, chromedriver, and LLM60_TRANSFORMERS_JS: a folder of the npm package")
    proxy = served(tmp_path / "nothing")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    quiet = ("background-networking", "component-update", "sync", "domain-reliability", "dev-shm-usage", "gpu")
    for option in ("headless=new", "no-sandbox", "no-first-run", *(f"disable-{word}" for word in quiet)):
        options.add_argument(f"--{option}")
    options.add_argument(f"--proxy-server=127.0.0.1:{proxy.server_port}")
    options.add_argument("--window-size=390,800")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    found.proxy = proxy
    yield found
    found.quit()
    proxy.shutdown()
    proxy.server_close()


def waited(chromium, *words: str) -> str:
    """The page's status line, once it has one of the words."""
    status = ""
    for _ in range(2400):
        status = chromium.execute_script("return document.getElementById('status').textContent")
        if any(word in status for word in words):
            return status
        time.sleep(0.05)
    raise AssertionError(f"{status}; {chromium.get_log('browser')}")


def written(chromium, prompt: str, **settings) -> str:
    """The text that the page writes."""
    for name, value in {"prompt": prompt, "temperature": 0, "tokens": 20, **settings}.items():
        chromium.execute_script("document.getElementById(arguments[0]).value = arguments[1]", name, value)
    chromium.execute_script("document.getElementById('write').click()")
    assert "a second" in waited(chromium, "a second", "failed")
    return chromium.execute_script("return document.getElementById('text').textContent")


FETCH = """
const [address, done] = arguments;
const code = `fetch("${address}/worker").then(() => postMessage("came"), () => postMessage("refused"));`;
const worker = new Worker(URL.createObjectURL(new Blob([code], {type: "text/javascript"})));
worker.onmessage = async ({data}) => done([data, await fetch(address + "/page").then(() => "came", () => "refused")]);
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["gelu", "all"])
def test_the_page_writes_our_own_words(run, name, tmp_path, chromium):
    folder = tmp_path / "a folder" / "export"
    folder.mkdir(parents=True)
    source = source_of(variant(run, name), name="<b>tiny</b>", page=Path(PACKAGE))
    onnx.refuse(source)
    onnx.write(source, folder)
    server, other = served(tmp_path), served(tmp_path / "nothing")
    chromium.get(f"http://127.0.0.1:{server.server_port}/a%20folder/export/")
    assert waited(chromium, "Ready.", "cannot") == "Ready."
    trained = source.trained
    model = trained.model, trained.plain_params, trained.tokenizer
    prompts = ["The quiet", "", "a\nb <i>c</i>", "caf\u00e9 " * 40]
    greedy = Choice(trained.tokenizer.eos, temperature=0.0)
    ours = generate.write(*model, [Request(prompt, 20, 0) for prompt in prompts], greedy)
    assert [written(chromium, prompt) for prompt in prompts] == [text.text for text in ours.texts]
    penal = greedy._replace(repetition_penalty=3.0)
    ours = generate.write(*model, [Request("The", 30, 0)], penal)
    assert written(chromium, "The", tokens=30, repetition_penalty=3) == ours.texts[0].text
    drawn = [written(chromium, "The", temperature=1, top_k=0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert written(chromium, "The", temperature=2, top_k=1) == written(chromium, "The")
    assert written(chromium, "The", temperature=2, top_k=0, top_p=0.000001) == written(chromium, "The", top_p=1)
    assert chromium.execute_script("return document.querySelector('h1').textContent") == "<b>tiny</b>"
    assert chromium.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert [entry for entry in chromium.get_log("browser") if entry["level"] != "INFO"] == []
    assert {path.split("/")[2] for path in server.asked} == {"export"}
    refused = chromium.execute_async_script(FETCH, f"http://127.0.0.1:{other.server_port}")
    assert (refused, other.asked) == (["refused", "refused"], [])
    # the browser's own requests to its maker apart
    assert [host for host in chromium.proxy.asked if not re.search(r"\b(google|googleapis|gvt1)\.com\b", host)] == []
    for each in (server, other):
        each.shutdown()
        each.server_close()
