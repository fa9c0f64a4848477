"""The tabs of the studio in a real Chromium: what a person does there, by mouse and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

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

from datasetkit.verbs.studio import studio as serve_studio  # noqa: E402
from tests.web.client import run_server  # noqa: E402

pytestmark = pytest.mark.long

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
        expect(page.get_by_role("tab", name=re.compile("^Images"))).to_be_visible()
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
