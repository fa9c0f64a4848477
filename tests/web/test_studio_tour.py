"""The tour on the example, from an empty folder to the LoRA that is kept: by mouse, and by keyboard
alone. All runs for real, on the tiny base; nothing leaves the machine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
tabs = pytest.importorskip("tests.web.test_studio_tabs", exc_type=ImportError)

from playwright.sync_api import Browser, Page, expect  # noqa: E402

from tests.web import browser as real  # noqa: E402

# To a running training: the example, Prepare, Prune, Start, which lays the dataset out first.
TO_TRAINING, IN_ALL = 4, 12
# All of it on two cores. On a busy machine the time of the processor counts, not the clock.
SECONDS = 180
# The test fails where no file of the project or of its jobs has changed for so long.
STALLED = 180


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with real.chromium() as started:
        yield started


class Mouse:
    """Does everything by clicks. actions: how many."""

    def __init__(self, page: Page) -> None:
        self.page, self.actions = page, 0

    def press(self, name: str) -> None:
        """Press a button whose name begins like this."""
        self.actions += 1
        self.page.get_by_role("button", name=name).first.click()

    def main_button(self) -> None:
        self.actions += 1
        self.page.locator(".primary-action .primary").click()

    def go(self, tab: str) -> None:
        self.actions += 1
        self.page.locator(f"#tab-{tab}").click()

    def last_column(self) -> None:
        self.actions += 1
        self.page.get_by_role("row").nth(1).get_by_role("gridcell").last.click()

    def keep(self) -> None:
        self.press("Keep epoch")

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_label(label).fill(text)


class Keyboard(Mouse):
    """Does everything by keys. actions: those that do something, without Tab and arrows."""

    def _key(self, key: str) -> None:
        self.actions += 1
        self.page.keyboard.press(key)

    def _tab_to(self, script: str) -> None:
        """Press Tab until the element that has the focus is the wanted one."""
        for _ in range(200):
            if self.page.evaluate(f"(() => {{ const e = document.activeElement; {script} }})()"):
                return
            self.page.keyboard.press("Tab")
        pytest.fail(f"no Tab leads there: {script}")

    def press(self, name: str) -> None:
        wanted = json.dumps(name)
        self._tab_to(f"return e.tagName === 'BUTTON' && e.textContent.startsWith({wanted})")
        self._key("Enter")

    def main_button(self) -> None:
        self._key("Control+Enter")

    def go(self, tab: str) -> None:
        self.page.keyboard.press("Control+k")
        self.page.keyboard.type(f"Go to {tab.capitalize()}")
        self._key("Enter")

    def last_column(self) -> None:
        self._tab_to("return e.getAttribute('role') === 'grid'")
        self.page.keyboard.press("End")

    def keep(self) -> None:
        self._key("k")

    def fill(self, label: str, text: str) -> None:
        self._tab_to(f"return e.labels?.[0]?.textContent.includes({json.dumps(label)}) ?? false")
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)


@dataclass
class Watched:
    """The folder of a test with the project and the state of its jobs. cpu: seconds of a core that
    each process of a job has used, as far as it was seen.
    """

    folder: Path
    cpu: dict[str, float] = field(default_factory=dict)

    def files(self) -> set[tuple[str, int, int]]:
        """Return size and time of all files: they change while something happens."""
        found = set()
        for path in self.folder.rglob("*"):
            with suppress(OSError):
                state = path.stat()
                found.add((str(path), state.st_size, state.st_mtime_ns))
        return found

    def look_at_jobs(self) -> None:
        for path in self.folder.glob("state/**/jobs/*/pid.json"):
            with suppress(OSError, ValueError):
                pid = json.loads(path.read_text())["pid"]
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks = int(fields[11]) + int(fields[12])
                self.cpu[path.parent.name] = ticks / os.sysconf("SC_CLK_TCK")

    def until(self, page: Page, condition: Callable[[], Any]) -> Any:
        """Wait as long as anything moves."""
        seen, moved = self.files(), time.monotonic()
        while not (value := condition()):
            page.wait_for_timeout(300)
            self.look_at_jobs()
            now = self.files()
            if now != seen:
                seen, moved = now, time.monotonic()
            assert time.monotonic() < moved + STALLED, f"nothing has changed for {STALLED} s"
        return value

    def enabled(self, page: Page, text: str) -> None:
        """Wait until the main button says this and can be pressed."""
        button = page.locator(".primary-action .primary[aria-disabled=false]").filter(has_text=text)
        self.until(page, button.count)


def status(project: Path) -> str:
    path = project / "output" / "kitsu-run.json"
    return str(json.loads(path.read_text())["status"]) if path.is_file() else ""


def walk(page: Page, hand: Mouse, watched: Watched, project: Path, kept: Path) -> dict[str, float]:
    """Do the tour; return the actions and seconds to a running training, and to the end."""
    began = time.monotonic()

    def note(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s, {hand.actions} actions: {what}", flush=True)

    hand.press("Try the example")
    watched.enabled(page, "Prepare")
    hand.main_button()  # the tour leads to Captions, and from there to Train
    watched.enabled(page, "Prune 24 captions")
    note("prepared")
    hand.main_button()
    watched.enabled(page, "Start")
    note("pruned")
    hand.main_button()
    watched.until(page, lambda: status(project))
    note("the training runs")
    numbers: dict[str, float] = {
        "to a running training": hand.actions,
        "seconds to it": round(time.monotonic() - began),
    }
    watched.until(page, lambda: status(project) != "running")
    assert status(project) == "finished"
    note("trained")
    hand.go("compare")
    expect(page.get_by_role("gridcell").first).to_be_visible()
    hand.last_column()
    hand.keep()
    dialog = page.get_by_role("dialog")
    hand.fill("Where to", str(kept))
    expect(dialog).to_contain_text("kitsu.preview.png")
    hand.press("Keep as kitsu")
    expect(dialog).to_contain_text("<lora:kitsu:1>")
    return {**numbers, "actions": hand.actions, "seconds": round(time.monotonic() - began)}


@pytest.mark.slow
@pytest.mark.parametrize("hand", [Mouse, Keyboard], ids=["mouse", "keyboard"])
def test_the_tour_from_an_empty_folder_to_the_kept_lora(
    chromium, tmp_path_factory, monkeypatch, hand
):
    home = tmp_path_factory.mktemp("home")  # on a disk: nothing is kept below /dev
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    project, kept = home / "project", home / "webui" / "models" / "Lora"
    project.mkdir()
    watched = Watched(home)
    with tabs.opened(chromium, project) as page:  # nothing from elsewhere, nothing refused
        numbers = walk(page, hand(page), watched, project, kept)
    print(numbers, watched.cpu)
    assert (kept / "kitsu.safetensors").read_bytes() == (
        project / "output" / "kitsu.safetensors"
    ).read_bytes()
    trained = [path.read_text() for path in (project / "dataset/train/3_kitsu").glob("*.txt")]
    assert len(trained) == 24
    assert not any("fox ears" in text for text in trained), "they were pruned before"
    assert numbers["to a running training"] <= TO_TRAINING
    assert numbers["actions"] <= IN_ALL
    # What two cores can do in that time.
    assert sum(watched.cpu.values()) < 2 * SECONDS
