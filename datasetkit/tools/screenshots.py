"""Take the screenshots of the review page in docs/img, of the quickstart's images with captions
from what is known about each:

    python -m datasetkit.tools.screenshots

Needs playwright and Chromium.
"""

from __future__ import annotations

import io
import runpy
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from PIL import Image

from datasetkit import api
from datasetkit.verbs.review import RunningServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "img"
QUICKSTART = ROOT / "examples" / "quickstart"
WINDOW = {"width": 1440, "height": 900}
QUALITY = 82

ALWAYS = "sylvie, 1girl, solo, long hair, red hair, bangs"
EYES = {"giggle": "closed eyes"}
MOOD = {
    "smile": "smile, open mouth, lips",
    "normal": "smile, closed mouth, lips",
    "giggle": "smile, grin, blush, teeth",
    "surprised": "open mouth, surprised",
}
OUTFIT = {
    "blue": "blue shirt, short sleeves, scarf, earrings",
    "green": "green dress, short sleeves, puffy sleeves, scarf, bow, holding book",
}
FRAMING = {
    "full": "cowboy shot, looking at viewer",
    "waist": "upper body, looking at viewer",
    "portrait": "portrait, looking at viewer",
    "close-up": "close-up, portrait",
}
BACKGROUND = {
    "bg_uni": "outdoors, day, building",
    "bg_meadow": "outdoors, day, tree",
    "bg_club": "outdoors, palm tree",
    "bg_lecturehall": "indoors, classroom",
}


def caption(shot: Any) -> str:
    """Return the tags of one of the quickstart's images."""
    return ", ".join(
        [
            ALWAYS,
            EYES.get(shot.mood, "blue eyes"),
            MOOD[shot.mood],
            OUTFIT[shot.outfit],
            FRAMING[shot.framing],
            BACKGROUND.get(shot.background, "simple background"),
        ]
    )


def make_dataset(folder: Path) -> None:
    """Copy the images, caption them, and store the fallback tagger's scores."""
    folder.mkdir()
    shots = runpy.run_path(str(QUICKSTART / "make_images.py"))["SHOTS"]
    for shot in shots:
        shutil.copy(QUICKSTART / "images" / shot.name, folder)
        if shot.name not in ("a.png", "scan0001.JPEG"):  # a.png shares its stem with a.jpg
            path = (folder / shot.name).with_suffix(".txt")
            path.write_text(caption(shot) + "\n", encoding="utf-8")
    (folder / "a.png").rename(folder / "b.png")
    api.tag(folder, api.TagOptions(tagger="basic"))


@contextmanager
def opened(folder: Path, **options: Any) -> Iterator[Page]:
    """Serve the review page of a folder; yield it in a browser."""
    from playwright.sync_api import sync_playwright

    running: list[RunningServer] = []
    started = Event()

    def ready(server: RunningServer) -> None:
        running.append(server)
        started.set()

    def serve() -> None:
        api.review(folder, api.ReviewOptions(open=False), ready=ready)

    thread = Thread(target=serve, daemon=True)
    thread.start()
    started.wait(60)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_context(viewport=WINDOW, **options).new_page()  # type: ignore[arg-type]
        page.goto(running[0].url)
        page.wait_for_selector(".cell img")
        yield page
        browser.close()
    running[0].stop()
    thread.join()


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def save(page: Page, name: str) -> None:
    """Write a screenshot as WebP, once all images are drawn."""
    page.wait_for_function(
        "() => [...document.querySelectorAll('img')].every((i) => i.complete && i.naturalWidth)"
    )
    page.wait_for_timeout(500)
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        shot.convert("RGB").save(IMAGES / f"{name}.webp", quality=QUALITY, method=6)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "sylvie"
        make_dataset(folder)
        with opened(folder) as page:
            # The group of face tags selected, before they are removed.
            press(page, "f")
            page.keyboard.type("@face")
            press(page, "Enter")
            page.locator("#search-tags").fill("")
            page.get_by_role("button", name="@face").click()
            page.mouse.move(700, 500)
            press(page, "p", "ArrowRight", "ArrowRight", "l")
            save(page, "review")
            press(page, "Escape", "f")
            page.keyboard.type("palm")
            press(page, "Enter", "r")
            page.keyboard.type("tropical")
            save(page, "review-replace")
            press(page, "Escape")
        with opened(folder, color_scheme="dark") as page:
            press(page, "g")
            page.get_by_text("compared)").wait_for(state="hidden")
            save(page, "review-near-duplicates")


if __name__ == "__main__":
    main()
