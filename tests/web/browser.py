"""Run `dsk review` and a real browser, and measure the delays that a person notices."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WINDOW = {"width": 1440, "height": 900}
START_SECONDS = 120

# Milliseconds from a key to the next frame: the second callback runs after that frame was drawn.
KEYS_JS = """() => {
  window.keyTimes = [];
  window.longTasks = [];
  new PerformanceObserver((list) =>
      list.getEntries().forEach((entry) => window.longTasks.push(entry.duration)))
    .observe({ entryTypes: ["longtask"] });
  document.addEventListener("keydown", (event) => {
    const began = event.timeStamp;
    requestAnimationFrame(() => requestAnimationFrame((now) => window.keyTimes.push(now - began)));
  }, { capture: true });
}"""

# Milliseconds from the last typed letter to the frame in which the grid shows the matching images.
FILTER_JS = """(wanted) => {
  let typed = 0;
  document.addEventListener("input", (event) => { typed = event.timeStamp; }, { capture: true });
  window.filtered = new Promise((done, failed) => {
    setTimeout(() => failed(new Error(`the grid does not show ${wanted.count} images`)), 30000);
    const look = (now) => {
      const shown = document.querySelector("[role=grid]");
      const right = typed && document.querySelector("#filter").value === wanted.filter
        && document.querySelector(".scope button:nth-of-type(2) b").textContent === wanted.count
        && shown.querySelector(".cell .name").textContent === wanted.first;
      if (right) done(now - typed); else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  });
}"""

# Scroll the grid from top to end within a second, then wait until every visible image is drawn.
FLING_JS = """async () => {
  const grid = document.querySelector("[role=grid]");
  const end = grid.scrollHeight - grid.clientHeight;
  for (let frame = 1; frame <= 60; frame++) {
    grid.scrollTop = end * frame / 60;
    await new Promise(requestAnimationFrame);
  }
  const began = performance.now();
  const settled = () => {
    const box = grid.getBoundingClientRect();
    const seen = [...grid.querySelectorAll(".cell")].filter((cell) => {
      const at = cell.getBoundingClientRect();
      return at.bottom > box.top && at.top < box.bottom;
    });
    return seen.length > 0 && seen.every((cell) => {
      const image = cell.querySelector("img");
      return image && image.complete && image.naturalWidth > 0;
    });
  };
  while (!settled()) await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""


def find() -> str | None:
    """Return the path of Chromium, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the installed Chromium without a window; Playwright downloads no browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's sandbox does not work for root, for example in a container.
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        browser = playwright.chromium.launch(
            executable_path=find(), args=["--no-sandbox"] if root else []
        )
        yield browser
        browser.close()


class Served:
    """A running `dsk review` or `dsk studio`, and the links that it prints: the first, then one for
    each Enter.
    """

    def __init__(self, server: subprocess.Popen[str], first: str) -> None:
        self.server, self.unused = server, [first]

    def link(self) -> str:
        """Return a link that was not used yet: each lets one browser in, once."""
        if self.unused:
            return self.unused.pop()
        assert self.server.stdin is not None and self.server.stdout is not None
        self.server.stdin.write("\n")
        self.server.stdin.flush()
        return self.server.stdout.readline().strip()


def review(folder: Path, *options: str) -> contextlib.AbstractContextManager[Served]:
    """Run `dsk review` as a process, or the command in the environment variable DSK."""
    return serve("review", folder, *options)


@contextlib.contextmanager
def serve(verb: str, folder: Path, *options: str) -> Iterator[Served]:
    """The same, with `review` or `studio`."""
    dsk = os.environ.get("DSK")
    command = [
        *([dsk] if dsk else [sys.executable, "-m", "datasetkit"]),
        verb,
        str(folder),
        "--no-open",
        *options,
    ]
    # Nothing else is on the PATH, not even Node: the package contains the built page.
    environment = {**os.environ, "PATH": str(Path(command[0]).parent)}
    server = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment,
    )
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        if not url.startswith("http://127.0.0.1:"):
            server.kill()
            raise RuntimeError(f"dsk {verb} printed {url!r}: {server.communicate()[1]}")
        yield Served(server, url)
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=START_SECONDS)


def open_page(browser: Browser, served: Served, **context: object) -> Page:
    """Open the page in a new browser context and wait for the first images."""
    page = browser.new_context(viewport=WINDOW, **context).new_page()  # type: ignore[arg-type]
    page.goto(served.link())
    page.wait_for_selector(".cell img")
    return page


def seconds_to_thumbnails(page: Page, served: Served, wanted: int = 8, tab: str = "") -> float:
    """Return the seconds from opening a link to so many drawn thumbnails. tab: of the studio."""
    url = served.link() + (f"#/{tab}" if tab else "")
    began = time.perf_counter()
    page.goto(url)
    drawn = (
        "(n) => [...document.querySelectorAll('.cell img')].filter((i) => i.complete && "
        "i.naturalWidth).length >= n"
    )
    page.wait_for_function(drawn, arg=wanted, polling="raf", timeout=START_SECONDS * 1000)
    return time.perf_counter() - began


def seconds_to_paint(page: Page) -> float:
    """Return the seconds from the request of the page to the first paint with content."""
    entry = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    return float(page.evaluate(entry)) / 1000


def key_times(page: Page, keys: list[str]) -> tuple[list[float], list[float]]:
    """Return the milliseconds from each key to its frame, and of every task longer than 50 ms."""
    page.evaluate(KEYS_JS)
    page.locator("#images").focus()
    for key in keys:
        page.keyboard.press(key)
    page.wait_for_function("(n) => window.keyTimes.length === n", arg=len(keys))
    return page.evaluate("window.keyTimes"), page.evaluate("window.longTasks")


def filter_time(page: Page, expression: str, count: int, first: str) -> float:
    """Return the milliseconds from the last letter of a filter to the grid with the matches."""
    page.evaluate(FILTER_JS, {"filter": expression, "count": f"{count:,}", "first": first})
    page.keyboard.press("/")
    page.keyboard.type(expression)
    return float(page.evaluate("window.filtered"))


def fling_time(page: Page) -> float:
    """Return the milliseconds from a fling to the last image until all visible images are drawn."""
    return float(page.evaluate(FLING_JS))


def elements(page: Page) -> int:
    """Return the number of elements in the page."""
    return int(page.evaluate("document.getElementsByTagName('*').length"))


def percentile(values: list[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
