"""The delays of the review page with ten thousand images, in a real Chromium."""

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
    """A measurement with one value per round. goal: the highest acceptable value, in `unit`."""

    what: str
    goal: float
    unit: str
    values: list[float] = field(default_factory=list)


def possible() -> bool:
    """Tell whether Playwright and a browser are installed."""
    return find_spec("playwright") is not None and real.find() is not None


def figures() -> dict[str, Figure]:
    return {
        "made": Figure("8 thumbnails drawn, none cached", 10, "s"),
        "first": Figure("8 thumbnails drawn", 2, "s"),
        "keys": Figure("300 arrow keys to their frame, 95 of 100 within", 100, "ms"),
        "task": Figure("longest task meanwhile", 200, "ms"),
        "filter": Figure("typed filter to the grid", 150, "ms"),
        "fling": Figure("fling from first to last, images drawn", 1500, "ms"),
        "requests": Figure("images requested by that", 300, ""),
        "nodes": Figure("elements in the page, at the end and back", 1500, ""),
        "remove": Figure("Del: remove a tag from all captions, on disk", 5, "s"),
        "undo": Figure("undo that", 5, "s"),
    }


def measure(work: Path, images: int, rounds: int) -> list[Figure]:
    """Measure everything `rounds` times, each in a new browser context. The first round makes the
    thumbnails.
    """
    folder = work / "review" / "set"
    if not folder.is_dir():
        datasets.many(folder, images)
    measured = figures()
    with real.chromium() as browser:
        for once in range(rounds):
            # A new server too, with nothing cached in memory.
            with real.review(folder) as served:
                page = browser.new_context(viewport=real.WINDOW).new_page()  # type: ignore[arg-type]
                measured["first" if once else "made"].values.append(
                    real.seconds_to_thumbnails(page, served)
                )
                page.context.close()
                if not once:
                    warm(browser, served, measured)
                measure_once(browser, served, images, measured)
    return [figure for figure in measured.values() if figure.values]


def warm(browser: Browser, served: real.Served, measured: dict[str, Figure]) -> None:
    """View every distinct image once, then measure the first thumbnails from the cache."""
    page = real.open_page(browser, served)
    real.fling_time(page)
    page.context.close()
    page = browser.new_context(viewport=real.WINDOW).new_page()  # type: ignore[arg-type]
    measured["first"].values.append(real.seconds_to_thumbnails(page, served))
    page.context.close()


def measure_once(
    browser: Browser, served: real.Served, images: int, measured: dict[str, Figure]
) -> None:
    page = real.open_page(browser, served)
    requests: list[str] = []
    page.on(
        "request",
        lambda request: requests.append(request.url) if "/thumb/" in request.url else None,
    )
    measured["fling"].values.append(real.fling_time(page))
    measured["requests"].values.append(len(requests))
    times, tasks = real.key_times(page, KEYS)
    measured["keys"].values.append(real.percentile(times, 0.95))
    measured["task"].values.append(max(tasks, default=0))
    for key in ("End", "Home"):
        page.keyboard.press(key)
        page.wait_for_timeout(300)
        measured["nodes"].values.append(real.elements(page))
    measured["filter"].values.append(real.filter_time(page, "tag:lips", images // 4, "p00000.jpg"))
    for key in ("Escape", "Escape"):
        page.keyboard.press(key)
    remove_and_undo(page, measured)
    page.context.close()


def remove_and_undo(page: Page, measured: dict[str, Figure]) -> None:
    """Remove `solo`, which all captions have, and undo that."""
    page.keyboard.press("f")
    page.keyboard.type("solo")
    page.wait_for_function("document.querySelector('.tag-row.active .name').textContent === 'solo'")
    page.keyboard.press("Enter")
    for name, key, message in (("remove", "Delete", "remove solo"), ("undo", "u", "undone")):
        began = time.perf_counter()
        page.keyboard.press(key)
        page.locator(".toast", has_text=re.compile(message, re.IGNORECASE)).wait_for(timeout=60_000)
        measured[name].values.append(time.perf_counter() - began)


def table(title: str, measured: Sequence[Figure]) -> str:
    """Lay the figures out as a Markdown table: median and worst of the rounds, beside the goal."""
    head = ("what", "median", "worst", "goal")
    cells: list[tuple[str, ...]] = [head]
    for one in measured:
        digits = 2 if one.unit == "s" else 0
        numbers = (statistics.median(one.values), max(one.values), one.goal)
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
