"""How long the review page lets a person wait on ten thousand images, in a real Chromium."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tests.web import browser as real
from tests.web import datasets

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = 10_000
KEYS = ["ArrowRight", "ArrowDown", "ArrowRight", "ArrowUp", "ArrowDown", "ArrowDown"] * 50
NO_BROWSER = (
    "playwright or Chromium is not installed: pip install playwright, apt-get install chromium"
)


@dataclass(slots=True)
class Figure:
    """One thing that was measured, once a round. goal: the most that it may be. unit: of both."""

    what: str
    goal: float
    unit: str
    found: list[float] = field(default_factory=list)


def possible() -> bool:
    """Tell whether there is a browser, and what drives it."""
    return find_spec("playwright") is not None and real.find() is not None


def figures() -> dict[str, Figure]:
    return {
        "made": Figure("8 thumbnails drawn, none made before", 10, "s"),
        "first": Figure("8 thumbnails drawn", 2, "s"),
        "keys": Figure("300 arrow keys to their frame, 95 of 100 within", 100, "ms"),
        "task": Figure("longest task meanwhile", 200, "ms"),
        "filter": Figure("typed filter to the grid", 150, "ms"),
        "fling": Figure("fling from first to last, images drawn", 1500, "ms"),
        "asked": Figure("images asked for by that", 300, ""),
        "nodes": Figure("elements in the page, at the end and back", 1500, ""),
        "remove": Figure("Del: a tag out of every caption, on disk", 5, "s"),
        "undo": Figure("and back", 5, "s"),
    }


def measure(work: Path, images: int, rounds: int) -> list[Figure]:
    """Measure all of it `rounds` times, in a fresh browser profile each; the first start makes the
    thumbnails.
    """
    folder = work / "review" / "set"
    if not folder.is_dir():
        datasets.many(folder, images)
    found = figures()
    with real.chromium() as browser:
        for once in range(rounds):
            # A start of its own, so that the server remembers nothing either.
            with real.review(folder) as address:
                page = browser.new_context(viewport=real.WINDOW).new_page()  # type: ignore[arg-type]
                found["first" if once else "made"].found.append(
                    real.seconds_to_thumbnails(page, address)
                )
                page.context.close()
                if not once:
                    warm(browser, address, found)
                measure_once(browser, address, images, found)
    return [figure for figure in found.values() if figure.found]


def warm(browser: Browser, address: str, found: dict[str, Figure]) -> None:
    """See every distinct image once, then measure the first thumbnails as a second sample has
    them.
    """
    page = real.open_page(browser, address)
    real.fling_time(page)
    page.context.close()
    page = browser.new_context(viewport=real.WINDOW).new_page()  # type: ignore[arg-type]
    found["first"].found.append(real.seconds_to_thumbnails(page, address))
    page.context.close()


def measure_once(browser: Browser, address: str, images: int, found: dict[str, Figure]) -> None:
    page = real.open_page(browser, address)
    asked: list[str] = []
    page.on(
        "request", lambda request: asked.append(request.url) if "/thumb/" in request.url else None
    )
    found["fling"].found.append(real.fling_time(page))
    found["asked"].found.append(len(asked))
    times, tasks = real.key_times(page, KEYS)
    found["keys"].found.append(real.percentile(times, 0.95))
    found["task"].found.append(max(tasks, default=0))
    for key in ("End", "Home"):
        page.keyboard.press(key)
        page.wait_for_timeout(300)
        found["nodes"].found.append(real.elements(page))
    found["filter"].found.append(real.filter_time(page, "tag:lips", images // 4, "p00000.jpg"))
    for key in ("Escape", "Escape"):
        page.keyboard.press(key)
    remove_and_undo(page, found)
    page.context.close()


def remove_and_undo(page: Page, found: dict[str, Figure]) -> None:
    """Take `solo` out of the captions, all of which have it, and back."""
    page.keyboard.press("f")
    page.keyboard.type("solo")
    page.wait_for_function("document.querySelector('.tag-row.active .name').textContent === 'solo'")
    page.keyboard.press("Enter")
    for name, key, says in (("remove", "Delete", "remove solo"), ("undo", "u", "taken back")):
        began = time.perf_counter()
        page.keyboard.press(key)
        page.locator(".toast", has_text=re.compile(says, re.IGNORECASE)).wait_for(timeout=60_000)
        found[name].found.append(time.perf_counter() - began)


def table(title: str, measured: Sequence[Figure]) -> str:
    """Lay the figures out as a Markdown table: median and worst of the rounds, beside the goal."""
    head = ("what", "median", "worst", "goal")
    cells: list[tuple[str, ...]] = [head]
    for one in measured:
        digits = 2 if one.unit == "s" else 0
        numbers = (statistics.median(one.found), max(one.found), one.goal)
        cells.append(
            (one.what, *(f"{number:,.{digits}f} {one.unit}".strip() for number in numbers))
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    padded = (
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells
    )
    lines = ["| " + " | ".join(line) + " |" for line in padded]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join((f"## {title}", "", lines[0], rule, *lines[1:], ""))
