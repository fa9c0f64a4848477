"""The tour on the example, from an empty folder to the LoRA that is kept: by mouse, and by keyboard
alone. All runs for real, on the tiny base; nothing leaves the machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
tabs = pytest.importorskip("tests.web.test_studio_tabs", exc_type=ImportError)

from playwright.sync_api import Browser, Page, expect  # noqa: E402

from tests.web import browser as real  # noqa: E402

# To a running training: the example, Prepare, Prune, Start, which lays the dataset out first.
TO_TRAINING, IN_ALL = 4, 12
# On two quiet cores; a test may take three times as long, and the machine of a test is busy.
SECONDS = 180
WAIT = 1000 * 3 * SECONDS


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


def until(page: Page, condition: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        page.wait_for_timeout(200)
    return value


def enabled(page: Page, text: str) -> None:
    """Wait until the main button says this and can be pressed."""
    button = page.locator(".primary-action .primary")
    expect(button).to_contain_text(text, timeout=WAIT)
    expect(button).to_have_attribute("aria-disabled", "false", timeout=WAIT)


def status(project: Path) -> str:
    path = project / "output" / "kitsu-run.json"
    return str(json.loads(path.read_text())["status"]) if path.is_file() else ""


def walk(page: Page, hand: Mouse, project: Path, kept: Path) -> dict[str, float]:
    """Do the tour; return the actions and seconds to a running training, and to the end."""
    began = time.monotonic()

    def note(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s, {hand.actions} actions: {what}", flush=True)

    hand.press("Try the example")
    enabled(page, "Prepare")
    hand.main_button()  # the tour leads to Captions, and from there to Train
    enabled(page, "Prune 24 captions")
    note("prepared")
    hand.main_button()
    enabled(page, "Start")
    note("pruned")
    hand.main_button()
    until(page, lambda: status(project), 3 * SECONDS)
    note("the training runs")
    numbers: dict[str, float] = {
        "to a running training": hand.actions,
        "seconds to it": round(time.monotonic() - began),
    }
    until(page, lambda: status(project) != "running", 3 * SECONDS)
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
def test_the_tour_from_an_empty_folder_to_the_kept_lora(chromium, tmp_path, monkeypatch, hand):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    project, kept = tmp_path / "project", tmp_path / "webui" / "models" / "Lora"
    project.mkdir()
    with tabs.opened(chromium, project) as page:  # nothing from elsewhere, nothing refused
        numbers = walk(page, hand(page), project, kept)
    print(numbers)
    assert (kept / "kitsu.safetensors").read_bytes() == (
        project / "output" / "kitsu.safetensors"
    ).read_bytes()
    trained = [path.read_text() for path in (project / "dataset/train/5_kitsu").glob("*.txt")]
    assert len(trained) == 24
    assert not any("fox ears" in text for text in trained), "they were pruned before"
    assert numbers["to a running training"] <= TO_TRAINING
    assert numbers["actions"] <= IN_ALL
    assert numbers["seconds"] < 3 * SECONDS
