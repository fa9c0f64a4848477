"""The page of a grid in a real browser, from a file, without a network: keys, zoom, parameters."""

from __future__ import annotations

import pytest
from PIL import Image

pytest.importorskip("playwright.sync_api")

from tests.grid.test_axes import prompt, run  # noqa: F401 - a fixture
from tests.grid.test_cells import made
from tests.web import browser as real
from trainer.grid import loras, page
from trainer.grid.axes import GridContent

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(real.find() is None, reason="no Chromium is installed"),
]


@pytest.fixture
def opened(run, tmp_path):  # noqa: F811
    evil = '<img src=x onerror="document.title=1">'
    content = GridContent(loras.read([run]), (prompt("kitsu, 1girl"), prompt(evil)))
    grid = made(("epoch=2,4", "prompt", "seed=1,2"), content)
    (tmp_path / "images").mkdir()
    for file in grid.unique:
        Image.new("RGB", (64, 64), "red").save(tmp_path / file)
    (tmp_path / "index.html").write_text(page.html(grid, "t", "s", "p"), encoding="utf-8")
    with real.chromium() as browser:
        context = browser.new_context(viewport={"width": 1200, "height": 800}, offline=True)
        tab = context.new_page()
        tab.set_default_timeout(20_000)
        problems: list[str] = []
        tab.on("console", lambda message: problems.append(message.text))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("requestfailed", lambda request: problems.append(request.url))
        tab.goto((tmp_path / "index.html").as_uri())
        yield tab
        assert problems == [] and tab.title() == "t"


def labels(tab):
    return tab.locator("#labels dd").all_inner_texts()


def test_images_are_shown_and_arrow_keys_move_through_the_grid(opened):
    seen = "[...document.querySelectorAll('section:not([hidden]) img')]"
    assert opened.evaluate(f"{seen}.length") == 6
    opened.wait_for_function(f"{seen}.every((i) => i.complete && i.naturalWidth === 64)")
    opened.locator("section:not([hidden]) a.cell").nth(1).click()
    assert labels(opened)[0].startswith("epoch 2") and labels(opened)[2] == "seed 1"
    assert "<lora:k-000002:1>" in opened.locator("#parameters").inner_text()
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("ArrowRight")  # there is no further one
    assert labels(opened)[0].startswith("epoch 4")
    opened.keyboard.press("ArrowDown")
    assert labels(opened)[1].startswith("<img")
    opened.keyboard.press("PageDown")
    assert labels(opened)[2] == "seed 2"
    opened.keyboard.down("b")
    assert labels(opened)[0].startswith("without")
    opened.keyboard.up("b")
    assert labels(opened)[0].startswith("epoch 4")
    opened.keyboard.press("z")
    assert "real" in opened.locator("#stage").get_attribute("class")
    opened.keyboard.press("Escape")
    assert not opened.locator("#viewer").is_visible()
    assert opened.locator("section:not([hidden])").get_attribute("data-z") == "1"
    before = opened.evaluate("document.querySelector('section:not([hidden]) .cell').offsetWidth")
    opened.keyboard.press("+")
    after = opened.evaluate("document.querySelector('section:not([hidden]) .cell').offsetWidth")
    assert after == before + 32
