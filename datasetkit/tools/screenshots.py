"""Make the images in docs/img: the contact sheet of `dsk check`, of images with one fault each,
screenshots of the review page, of the quickstart's images with captions from what is known about
each, and of the studio, along the way of its example from an empty folder to a grid of epochs:

    python -m datasetkit.tools.screenshots [check] [review] [studio]

The screenshots need playwright and Chromium; those of the studio also PyTorch, and some minutes.
"""

from __future__ import annotations

import io
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from datasetkit import api
from datasetkit.verbs.review import RunningServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "img"
QUICKSTART = ROOT / "examples" / "quickstart"
ASSETS = ROOT / "examples" / "assets"
WINDOW = {"width": 1440, "height": 900}
QUALITY = 82
# The name of a folder is shown: that of the project, or of the dataset.
FOLDERS = {"check": "imgs", "review": "sylvie", "studio": "kitsu"}
STUDIO_TIMEOUT = 3_600_000  # milliseconds: on a busy machine the training of the example takes long

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


def scene(background: str, mood: str, left: int) -> Image.Image:
    """Return the character in front of a background, 1280 x 720."""
    with Image.open(ASSETS / "backgrounds" / f"bg_{background}.jpg") as opened_file:
        image = opened_file.convert("RGB").resize((1280, 720))
    with Image.open(ASSETS / "sylvie" / f"sylvie_{mood}.png") as sprite:
        image.paste(sprite, (left, 60), sprite.convert("RGBA"))
    return image


def make_faulty_dataset(folder: Path) -> None:
    """Write images and captions, most of which have a fault that `dsk check` finds."""
    folder.mkdir()
    sylvie = "sylvie, 1girl, solo, long hair, red hair"
    crew = [f"orange jumpsuit with badge {number} of the crew" for number in range(16)]
    captions = {
        "sylvie_00": f"\ufeff{sylvie}, smile, outdoors\na second line",
        "sylvie_01": "1girl, sylvie, solo, long hair, red hair, smile, smile, indoors",
        "sylvie_03": f"{sylvie}, smile, outdoors",
        "sylvie_04": f"{sylvie}, open mouth, outdoors",
        "sylvie_05": f"{sylvie}, green dress, indoors",
        "sylvie_06": f"{sylvie}, blue shirt, outdoors",
        "sylvie_07": f"{sylvie}, blue shirt, outdoors",
        "sylvie_08": f"{sylvie}, green dress, outdoors",
        "small": f"{sylvie}, blue shirt, outdoors",
        "sprite": "sylvie, 1girl, solo, long hiar, red hair, smile",
        "turned": f"{sylvie}, green dress, indoors, outdoors",
        "two": ", ".join(["sylvie, long hair, very long hair", *crew]),
        "broken": f"{sylvie}, smile, outdoors",
    }
    for stem, text in captions.items():
        (folder / f"{stem}.txt").write_text(text + "\n", encoding="utf-8")
    scene("uni", "blue_giggle", 640).save(folder / "sylvie_00.png")
    scene("lecturehall", "blue_giggle", 280).save(folder / "sylvie_01.png")
    scene("meadow", "blue_normal", 300).save(folder / "sylvie_03.jpg", "PNG")
    blurred = scene("meadow", "blue_surprised", 100).filter(ImageFilter.GaussianBlur(9))
    blurred.save(folder / "sylvie_04.png")
    scene("lecturehall", "green_normal", 700).save(folder / "sylvie_05.png")
    large = scene("club", "blue_normal", 100)
    large.save(folder / "sylvie_06.png")
    large.resize((640, 360)).save(folder / "small.jpg", quality=90)
    signed = scene("uni", "blue_normal", 300)
    draw = ImageDraw.Draw(signed)
    draw.rectangle((20, 655, 560, 712), fill="#3c3c46")
    draw.text((30, 660), "art.somebody.example", fill="white", font=ImageFont.load_default(42))
    signed.save(folder / "sylvie_07.png")
    scene("club", "green_smile", 500).save(folder / "sylvie_08.png")
    shutil.copy(ASSETS / "sylvie" / "sylvie_blue_giggle.png", folder / "sprite.png")
    turned = scene("uni", "green_giggle", 500).transpose(Image.Transpose.ROTATE_90)
    orientation = Image.Exif()
    orientation[0x112] = 6
    turned.save(folder / "turned.jpg", exif=orientation, quality=90)
    with Image.open(ASSETS / "photos" / "astronaut.png") as photo:
        two = Image.new("RGB", (1024, 512))
        two.paste(photo, (0, 0))
        two.paste(photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (512, 0))
    two.save(folder / "two.png")
    whole = io.BytesIO()
    scene("club", "blue_smile", 200).save(whole, "JPEG")
    (folder / "broken.jpg").write_bytes(whole.getvalue()[:-30])


def draw_contact_sheet(folder: Path) -> None:
    """Write the contact sheet of `dsk check` for such a dataset."""
    make_faulty_dataset(folder)
    path = folder.parent / "check.png"
    api.check(folder, api.CheckOptions(sheet=str(path)))
    with Image.open(path) as sheet:
        sheet.convert("RGB").save(IMAGES / "check.webp", quality=QUALITY, method=6)


@contextmanager
def opened(
    folder: Path, serve_page: Callable[..., None] = api.review, **options: Any
) -> Iterator[Page]:
    """Serve the page of a folder; yield it in a browser."""
    from playwright.sync_api import sync_playwright

    running: list[RunningServer] = []
    started = Event()

    def ready(server: RunningServer) -> None:
        running.append(server)
        started.set()

    def serve() -> None:
        serve_page(folder, api.ReviewOptions(open=False), ready=ready)

    thread = Thread(target=serve, daemon=True)
    thread.start()
    started.wait(60)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_context(viewport=WINDOW, **options).new_page()  # type: ignore[arg-type]
        page.goto(running[0].url)
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


def shoot_review(folder: Path) -> None:
    """Take the screenshots of the review page."""
    make_dataset(folder)
    with opened(folder) as page:
        page.wait_for_selector(".cell img")
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
        page.wait_for_selector(".cell img")
        press(page, "g")
        page.get_by_text("compared)").wait_for(state="hidden")
        save(page, "review-near-duplicates")


def shoot_studio(folder: Path) -> None:
    """Go the way of the example in the studio, and take a screenshot of each tab."""
    folder.mkdir()
    with opened(folder, api.studio, locale="en", reduced_motion="reduce") as page:
        page.set_default_timeout(STUDIO_TIMEOUT)
        page.get_by_role("button", name="Try the example").click()
        for label in ("Prepare 24", "Prune 24", "Start"):  # the tour leads from each to the next
            main_button(page, label)
        page.locator("#tab-watch[aria-selected=true]").wait_for()
        press(page, "Escape")  # the note of the tour
        shoot_tabs(page)


def shoot_tabs(page: Page) -> None:
    """Take a screenshot of each tab, once the training has ended."""
    page.locator(".run-header .is-finished").wait_for()
    page.locator(".previews img").nth(29).wait_for()  # six prompts before and at four epochs
    save(page, "studio-watch")
    show(page, "captions")
    page.locator(".captions-tab .image-tag").first.wait_for()
    press(page, "p")
    save(page, "studio-captions")
    show(page, "train")
    # With the laid-out dataset and the pace of the run, the plan has memory and time.
    page.locator(".plan-panel[aria-busy=false] .plan-memory").wait_for()
    page.get_by_role("button", name="Find it: at most").wait_for()
    save(page, "studio-train")
    show(page, "check")
    main_button(page, "Check")
    page.get_by_role("button", name="Check again").wait_for()
    page.locator(".toast").first.wait_for(state="detached")
    save(page, "studio-check")
    show(page, "images")
    page.get_by_role("gridcell").first.click()
    save(page, "studio-images")
    show(page, "plan")
    page.locator(".plan-kept").first.wait_for()
    page.locator(".plan-facts").get_by_text("Memory").wait_for()
    save(page, "studio-plan")
    show(page, "compare")
    page.get_by_role("gridcell").first.wait_for()
    save(page, "studio-compare")


def main_button(page: Page, label: str) -> None:
    """Press the main button of a tab once it can be pressed."""
    button = page.locator(".primary-action .primary[aria-disabled=false]")
    button.filter(has_text=label).click()


def show(page: Page, tab: str) -> None:
    """Open a tab, once the messages at the bottom have gone."""
    page.locator(f"#tab-{tab}").click()
    page.locator(".toast").first.wait_for(state="detached")
    page.mouse.move(700, 890)


SHOTS = {"check": draw_contact_sheet, "review": shoot_review, "studio": shoot_studio}


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["XDG_STATE_HOME"] = temporary  # jobs, and where files are kept
        for name in names or SHOTS:
            (Path(temporary) / name).mkdir()
            SHOTS[name](Path(temporary) / name / FOLDERS[name])


if __name__ == "__main__":
    main(sys.argv[1:])
