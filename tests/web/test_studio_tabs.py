"""The tabs of the studio in a real Chromium: what a person does there, by mouse and by keyboard."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from zipfile import ZipFile

import pytest

from tests.web import browser as real
from tests.web import datasets

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
sync_api = pytest.importorskip("playwright.sync_api")
if real.find() is None:
    pytest.skip(
        "no Chromium is installed: apt-get install chromium (or Chrome)", allow_module_level=True
    )

from playwright.sync_api import Browser, Page, expect  # noqa: E402

from datasetkit import api  # noqa: E402
from datasetkit.verbs.studio import studio as serve_studio  # noqa: E402
from tests.grid.test_axes import LAYER  # noqa: E402
from tests.grid.test_grid import Drawer  # noqa: E402
from tests.lora_files.files import pair, save  # noqa: E402
from tests.web.client import run_server  # noqa: E402
from trainer.grid import draw  # noqa: E402

pytestmark = pytest.mark.long
expect.set_options(timeout=30_000)  # a busy machine

UI = Path(__file__).parents[2] / "datasetkit" / "web" / "ui"
AXE = UI / "node_modules" / "axe-core" / "axe.min.js"
REPORT_VIOLATIONS = """
  window.refused = [];
  document.addEventListener("securitypolicyviolation", (event) =>
    window.refused.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with real.chromium() as browser:
        yield browser


@contextmanager
def opened(chromium: Browser, folder: Path, **context: object) -> Iterator[Page]:
    """Open the studio of a folder. Nothing may be loaded from elsewhere, or refused by the policy
    of the page.
    """
    context = {"viewport": real.WINDOW, "locale": "en", **context}
    with run_server(folder, serve_studio) as server:
        page = chromium.new_context(**context).new_page()  # type: ignore[arg-type]
        page.add_init_script(REPORT_VIOLATIONS)
        hosts: set[str | None] = set()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        page.goto(server.server.link(lambda: None))
        expect(page.locator("#tab-images")).to_be_visible()
        yield page
        assert page.evaluate("window.refused") == []
        assert hosts <= {"127.0.0.1", None}
        page.context.close()


def require_accessible(page: Page, name: str) -> None:
    """Fail for what axe finds on the page as it is now."""
    if not AXE.is_file():
        return
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    report = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    violations = [
        (violation["id"], [node["html"][:160] for node in violation["nodes"]])
        for violation in report["violations"]
    ]
    assert not violations, f"{name}: {violations}"


def test_dropped_images_are_imported_and_shown(chromium, tmp_path):
    """From an empty folder to a concept with images: what is left out is listed beforehand."""
    project, dropped = tmp_path / "project", tmp_path / "set"
    project.mkdir()
    for n in range(4):
        datasets.drawing(dropped / f"p{n}.jpg", n)
    (dropped / "p0.txt").write_text("kitsu, smile", encoding="utf-8")
    (dropped / "alone.txt").write_text("kitsu", encoding="utf-8")
    (dropped / "page.jpg").write_text("<html>", encoding="utf-8")
    with opened(chromium, project) as page:
        expect(page.get_by_role("heading", name="From images to a LoRA")).to_be_visible()
        require_accessible(page, "first page")
        page.locator("input[type=file]").set_input_files(dropped)
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("4 images, 1 caption")
        expect(dialog.get_by_role("listitem")).to_have_text(
            [re.compile("alone.txt.*without an image"), re.compile("page.jpg.*not an image")],
            use_inner_text=True,
        )
        require_accessible(page, "upload")
        page.get_by_role("button", name="Copy 4 images").click()
        expect(dialog).to_contain_text("4 images were imported")
        page.keyboard.press("Escape")
        grid = page.get_by_role("grid", name="Images of set")
        expect(grid.get_by_role("gridcell")).to_have_count(4)
        require_accessible(page, "images")

        # By keyboard: to the last image, then large and back.
        grid.focus()
        page.keyboard.press("End")
        expect(page.get_by_role("heading", name="p3.jpg")).to_be_visible()
        page.keyboard.press("Enter")
        pane = page.get_by_role("group", name="p3.jpg").first
        expect(pane.locator("img").first).to_be_visible()
        pane.focus()
        page.keyboard.press("Escape")
        expect(grid).to_be_visible()
    names = sorted(path.name for path in (project / "set").iterdir())
    assert names == ["p0.jpg", "p0.txt", "p1.jpg", "p2.jpg", "p3.jpg"]
    assert 'name = "set"' in (project / "dsk.toml").read_text(encoding="utf-8")


def test_the_tour_stays_where_nothing_began_and_ctrl_enter_is_the_main_button(chromium, tmp_path):
    """Also where a list has the focus, whose Enter opens an image."""
    project = tmp_path / "project"
    project.mkdir()
    with opened(chromium, project) as page:
        page.get_by_role("button", name="Try the example").first.click()
        main = page.locator(".primary-action .primary[aria-disabled=false]")
        expect(main).to_contain_text("Prepare")
        refusal = {"error": "another dsk run is working", "hint": "wait for it to end"}
        page.route("**/api/prepare", lambda route: route.fulfill(status=423, json=refusal))
        with page.expect_response("**/api/prepare"):
            page.keyboard.press("Control+Enter")
        expect(page.get_by_text("another dsk run is working")).to_be_visible()
        expect(page.locator("#tab-images")).to_have_attribute("aria-selected", "true")
        page.unroute("**/api/prepare")
        main.click()
        expect(page.locator("#tab-captions")).to_have_attribute("aria-selected", "true")
        expect(main).to_contain_text("Prune 24 captions")
        page.locator("#images").focus()
        with page.expect_request(lambda request: request.method == "POST") as sent:
            page.keyboard.press("Control+Enter")
        assert json.loads(sent.value.post_data or "")["verb"] == "rules"
        expect(page.locator("#tab-train")).to_have_attribute("aria-selected", "true")


@pytest.fixture(scope="module")
def compared(chromium, module_path) -> Iterator[tuple[Page, Path]]:
    """The tab Compare of a run with two epochs, at two weights and two prompts."""
    project = module_path / "project"
    for n, epoch in enumerate((2, 4)):
        header = {"ss_epoch": str(epoch), "ss_resolution": "(64, 64)", "ss_steps": str(epoch * 10),
                  "ss_base_model_version": "sd_v1", "ss_network_module": "networks.lora",
                  "ss_dataset_dirs": '{"5_kitsu": {}}',
                  "ss_tag_frequency": '{"5_kitsu": {"kitsu": 3}}'}  # fmt: skip
        save(project / "out" / f"k-{epoch:06d}.safetensors", pair(LAYER, 8, 8, 2, seed=n), header)
    (project / "dsk.toml").write_text("[train]\noutput_dir = 'out'\n", encoding="utf-8")
    options = api.GridOptions(
        base="tiny",
        prompt=("kitsu", "1girl, smile"),
        steps=3,
        seed=0,
        size=(64, 64),
        y="prompt",
        z="weight=1,2",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(module_path / "home"))
        patch.setenv("XDG_STATE_HOME", str(module_path / "state"))
        patch.setattr(draw, "GridDrawer", Drawer)
        api.grid(project / "out", options)
        with opened(chromium, project) as page:
            yield page, project


@pytest.fixture
def compare(compared: tuple[Page, Path]) -> Page:
    """The table of the grid, as it is at first."""
    page, _ = compared
    page.goto(f"{page.url.partition('#')[0]}#/images")
    page.goto(f"{page.url.partition('#')[0]}#/compare")
    page.reload()
    expect(page.get_by_role("gridcell").first).to_be_visible()
    return page


def headings(page: Page) -> list[str]:
    return page.get_by_role("grid").get_by_role("columnheader").all_inner_texts()


def test_the_base_model_is_the_first_column_and_keys_move(compare):
    page = compare
    assert headings(page) == ["without", "epoch 2", "epoch 4"]
    expect(page.get_by_role("gridcell")).to_have_count(3 * 2 * 2)
    require_accessible(page, "grid")
    grid = page.get_by_role("grid")
    grid.focus()
    active = page.locator(".compare-cell.active")
    at_first = active.get_attribute("id")
    for key in ("ArrowLeft", "ArrowDown", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    assert active.get_attribute("id") == at_first == "compare-0-2"
    page.keyboard.press("Home")
    expect(page.get_by_role("button", name="Keep")).to_have_attribute("aria-disabled", "true")


def test_the_pixels_stay_where_they_are_when_the_image_changes(compare):
    """Zoomed in or not: another file, another prompt, another view."""
    page = compare
    page.get_by_role("grid").focus()
    page.keyboard.press("Enter")
    large = page.get_by_role("group", name="Two images under one zoom")
    panes = large.locator(".zoom-pane")
    expect(panes).to_have_count(2)
    require_accessible(page, "side by side")

    def places() -> list[dict[str, float]]:
        boxes = [panes.nth(n).locator("img").first.bounding_box() for n in range(2)]
        return [box for box in boxes if box is not None]

    def sources() -> list[str | None]:
        return [panes.nth(n).locator("img").first.get_attribute("src") for n in range(2)]

    before = places()
    page.mouse.move(before[1]["x"] + 200, before[1]["y"] + 150)
    page.mouse.wheel(0, -600)
    page.wait_for_function("(w) => document.querySelectorAll('.zoom-pane img')[1].width > 2 * w",
                           arg=before[1]["width"])  # fmt: skip
    zoomed = places()
    assert zoomed[0]["width"] == zoomed[1]["width"], "both panes have one zoom"
    shown = sources()
    large.focus()
    page.keyboard.press("ArrowUp")
    expect(panes.nth(1).locator("img").first).not_to_have_attribute("src", str(shown[1]))
    assert sources()[0] == shown[0], "only the right image moves"
    assert places() == zoomed
    # The base model draws the same at both weights: the second step is to the other prompt.
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(panes.nth(0).locator("img").first).not_to_have_attribute("src", str(shown[0]))
    assert places() == zoomed
    for view in ("slider", "blink", "difference"):
        page.keyboard.press("v")
        expect(panes).to_have_count(1)
        widths = {box["width"] for image in panes.locator("img").all()
                  if (box := image.bounding_box())}  # fmt: skip
        assert widths == {zoomed[0]["width"]}, view
    page.keyboard.press("z")
    large.focus()
    page.keyboard.press("Escape")
    expect(page.get_by_role("grid")).to_be_focused()


def test_the_slider_is_moved_by_keys(compare):
    page = compare
    page.get_by_role("button", name="Slider").click()
    slider = page.get_by_role("slider", name="Border between the two images")
    slider.focus()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuenow", "61")
    require_accessible(page, "slider")
    cut = page.locator(".zoom-layer").nth(1).evaluate("e => getComputedStyle(e).clipPath")
    assert "61%" in cut


def test_a_blind_comparison_hides_which_file_is_which(compare):
    page = compare
    page.get_by_role("grid").focus()
    page.keyboard.press("y")
    assert headings(page) == ["without", "A", "B"]
    expect(page.locator(".compare-cell.active")).to_have_attribute("id", "compare-0-0")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
        assert not re.search(r"epoch \d|k-0000", page.locator("#work").inner_text())
    page.keyboard.press("Enter")
    large = page.get_by_role("group", name="Two images under one zoom")
    expect(large).to_contain_text("B · kitsu")
    assert not re.search(r"epoch \d|k-0000", page.locator("#work").inner_html())
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Keep")).to_have_attribute("aria-disabled", "true")
    require_accessible(page, "blind")
    page.keyboard.press("y")
    assert sorted(headings(page)) == ["epoch 2", "epoch 4", "without"]


def test_an_epoch_is_marked_and_kept(compare, compared):
    page, project = compare, compared[1]
    page.get_by_role("grid").focus()
    page.keyboard.press("4")
    expect(page.locator(".compare-cell.active")).to_contain_text("4")
    marks = project / "out" / "grid" / "grid-marks.json"
    assert list(json.loads(marks.read_text(encoding="utf-8"))["marks"].values()) == [4]
    page.keyboard.press("k")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Where to").fill(str(project / "webui" / "models" / "Lora"))
    expect(dialog).to_contain_text("k.preview.png")
    require_accessible(page, "keep")
    kept = project / "webui" / "models" / "Lora" / "k.safetensors"
    assert not kept.exists(), "nothing is written before it is asked for"
    with page.expect_download() as download:
        dialog.get_by_role("link", name="Download as zip").click()
    assert download.value.suggested_filename == "k.zip"
    with ZipFile(download.value.path()) as archive:
        assert archive.namelist() == ["k.preview.png", "k.json", "k.safetensors"]
    dialog.get_by_role("button", name="Keep as k").click()
    expect(dialog).to_contain_text("<lora:k:1>")
    page.keyboard.press("Escape")
    expect(page.locator("#work")).to_contain_text("kept as k, weight 1")
    assert kept.read_bytes() == (project / "out" / "k-000004.safetensors").read_bytes()


@pytest.fixture(scope="module")
def checked(chromium, module_path) -> Iterator[tuple[Page, Path]]:
    """A project of three images, one of which has a tag twice, that was checked once."""
    project = module_path / "checked"
    for n, size in enumerate(((320, 240), (256, 256), (300, 200))):
        datasets.drawing(project / "faces" / f"a{n}.png", n, size)
        caption = "kitsu, hat, hat" if n == 1 else f"kitsu, smile, tag{n}"
        (project / "faces" / f"a{n}.txt").write_text(caption + "\n", encoding="utf-8")
    (project / "dsk.toml").write_text(
        '[[concept]]\nname = "kitsu"  # hers\nfolder = "faces"\nrepeats = 5\n'
        "[train]\nresolution = 128\nmax_train_epochs = 2\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "XDG_STATE_HOME": str(module_path / "state")}
    command = [sys.executable, "-m", "datasetkit", "check", "."]
    subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(module_path / "state"))
        with opened(chromium, project) as page:
            yield page, project


def test_a_fix_is_shown_before_it_is_made(checked):
    page, project = checked
    page.goto(f"{page.url.partition('#')[0]}#/check")
    caption = project / "faces" / "a1.txt"
    card = page.get_by_role("listitem").filter(has_text="twice").first
    expect(card).to_be_visible()
    require_accessible(page, "check")
    card.get_by_role("button", name=re.compile("^Fix")).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("list", name="Changes")).to_contain_text("a1.txt")
    expect(dialog).to_contain_text("dsk check . --only tag-twice --fix")
    assert caption.read_text(encoding="utf-8") == "kitsu, hat, hat\n"
    dialog.get_by_role("button", name="Make 1 change").click()
    expect(dialog).to_have_count(0)
    assert caption.read_text(encoding="utf-8") == "kitsu, hat\n"


def test_repeats_are_written_to_the_configuration_and_the_steps_follow(checked):
    page, project = checked
    page.goto(f"{page.url.partition('#')[0]}#/plan")
    expect(page.get_by_text("30 optimizer steps").first).to_be_visible()
    expect(page.locator(".plan-kept")).to_have_count(3)
    require_accessible(page, "plan")
    # What remains of an image has the shape of its bucket.
    box = page.locator(".plan-kept").first.bounding_box()
    assert box is not None
    name = page.get_by_role("gridcell").first.inner_text()
    assert "cut" in name
    repeats = page.get_by_label("repeats").first
    repeats.fill("7")
    repeats.press("Enter")
    expect(page.get_by_text("42 optimizer steps").first).to_be_visible()
    text = (project / "dsk.toml").read_text(encoding="utf-8")
    assert "repeats = 7" in text and "# hers" in text


def test_the_history_shows_what_changed_and_goes_back(checked):
    page, project = checked
    api.resize(project / "faces", project / "small", api.ResizeOptions(max=64))
    page.goto(f"{page.url.partition('#')[0]}#/images")
    page.goto(f"{page.url.partition('#')[0]}#/history")
    command = page.locator("code", has_text=re.compile("^resize$"))
    row = page.get_by_role("row").filter(has=command)
    expect(row).to_be_visible()
    row.get_by_role("button", name="What changed").click()
    expect(page.get_by_role("list", name="What changed")).to_contain_text("a0.png")
    require_accessible(page, "history")
    row.get_by_role("button", name="Undo to here").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("dsk undo --to")
    assert (project / "small" / "a0.png").is_file(), "nothing is undone before it is asked for"
    dialog.get_by_role("button", name="Undo 1 entry").click()
    expect(dialog).to_have_count(0)
    assert not (project / "small" / "a0.png").exists()
    expect(row).to_contain_text("undone")


def test_images_without_a_caption_are_tagged_by_a_click(chromium, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    project = tmp_path / "project"
    for n in range(3):
        datasets.drawing(project / "faces" / f"a{n}.png", n)
    (project / "dsk.toml").write_text(
        '[[concept]]\nname = "kitsu"\nfolder = "faces"\ntrigger = ["kitsu"]\n'
        '[tag]\ntagger = "basic"\n',
        encoding="utf-8",
    )
    with opened(chromium, project) as page:
        page.locator("#tab-captions").click()
        step = page.locator(".caption-step")
        expect(step).to_contain_text("3 without a caption")
        expect(page.locator(".command")).to_contain_text("dsk tag faces --trigger kitsu")
        require_accessible(page, "before tagging")
        step.get_by_role("button", name="Tag 3 images").click()
        expect(step.get_by_role("button", name="Next: Plan")).to_be_visible(timeout=120_000)
        # The main button of every tab is at the right.
        box = step.get_by_role("button").bounding_box()
        assert box is not None and box["x"] + box["width"] > real.WINDOW["width"] - 40
    captions = [path.read_text(encoding="utf-8") for path in (project / "faces").glob("*.txt")]
    assert len(captions) == 3 and all(text.startswith("kitsu, ") for text in captions)
