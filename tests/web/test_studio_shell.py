"""The shell of the studio, Watch and Train in a real Chromium, for a project in several states."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.web import browser as real
from tests.web import datasets, studio_states

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("playwright.sync_api")
if real.find() is None:
    pytest.skip(
        "no Chromium is installed: apt-get install chromium (or Chrome)", allow_module_level=True
    )

from playwright.sync_api import Browser, Page, Route, expect

from datasetkit.captions import vocabulary
from datasetkit.options.train import TrainOptions
from tests.web.test_studio_tabs import opened, require_accessible

pytestmark = pytest.mark.long

TABS = ("images", "check", "captions", "plan", "train", "watch", "compare", "history")
LOCALES = ("en-US", "zh-CN", "ru-RU")
# Elements whose content is wider than they are, other than what scrolls, and texts that are cut off
# with the whole text as title.
WIDER_JS = """() => [...document.querySelectorAll(".studio *")].filter((element) => {
  const style = getComputedStyle(element);
  const scrolls = (at) => at && (["auto", "scroll"].includes(getComputedStyle(at).overflowX)
    || scrolls(at.parentElement));
  return element.scrollWidth > element.clientWidth + 4 && element.clientWidth > 1
    && style.display !== "inline" && !element.closest("svg") && !scrolls(element)
    && !(style.textOverflow === "ellipsis" && element.closest("[title]"));
}).map((element) => `${element.className} ${element.textContent.slice(0, 60)}`)"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with real.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return datasets.many(tmp_path_factory.mktemp("shell") / "kitsu", 5)


def show(page: Page, state: str, tab: str) -> None:
    """Show a tab of a project in a state."""
    studio_states.serve(page, state)
    page.goto(page.url.split("#")[0] + f"#/{tab}")
    page.reload()
    expect(page.locator(f"#tab-{tab}")).to_have_attribute("aria-selected", "true")
    page.wait_for_timeout(250)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1440, 900), (900, 700)])
def test_axe_finds_nothing_in_any_tab_and_state(chromium, folder, scheme, size):
    window = {"width": size[0], "height": size[1]}
    # What fades in has less contrast meanwhile.
    looks = {"color_scheme": scheme, "reduced_motion": "reduce"}
    with opened(chromium, folder, viewport=window, **looks) as page:
        for state in studio_states.STATES:
            for tab in TABS:
                show(page, state, tab)
                require_accessible(page, f"{tab}, {state}, {scheme}, {size}")


@pytest.mark.parametrize("locale", LOCALES)
def test_no_text_is_wider_than_its_place_in_any_language(chromium, folder, locale):
    window = {"width": 900, "height": 700}
    with opened(chromium, folder, viewport=window, locale=locale) as page:
        for state in ("empty", "running", "failed"):
            for tab in TABS:
                show(page, state, tab)
                assert (tab, state, page.evaluate(WIDER_JS)) == (tab, state, [])


def test_the_chrome_has_no_english_word_in_other_languages(chromium, folder):
    english = re.compile(r"\b(the|Jobs|Copy|Start|Preset|Goal|Runs|Queue|Smoothing|step|of)\b")
    for locale in LOCALES[1:]:
        with opened(chromium, folder, locale=locale) as page:
            for tab in ("train", "watch"):
                show(page, "running", tab)
                shell = page.locator(".top-band, .bottom-band .last, .watch-runs, .train-goal")
                assert english.findall(" ".join(shell.all_inner_texts())) == []


# The texts of an element that a person sees or a screen reader reads, without keys and code.
WORDS_JS = """(selector) => {
  const texts = [];
  for (const element of document.querySelectorAll(`${selector}, ${selector} *`)) {
    const data = ".image-tag, .tag-row, .cell .name, .tag-groups button, .facts h2";
    if (element.closest(`kbd, code, svg, ${data}`)) continue;
    for (const name of ["aria-label", "title", "placeholder"]) {
      if (element.hasAttribute(name)) texts.push(element.getAttribute(name));
    }
    for (const node of element.childNodes) {
      if (node.nodeType === Node.TEXT_NODE) texts.push(node.textContent);
    }
  }
  return texts;
}"""
# Names of programs, files and the filter's example; what a person typed; titles of edits.
NOT_TRANSLATED = re.compile(
    r"dsk (tag|review)|--[a-z-]+|dsk\.toml|LoRA|Ctrl( Enter)?|Del\b|JPEG|PNG|WebP|AVIF|BMP|GIF"
    r"|TIFF|token|tag:smile AND NOT score:|@face|p\d+\.jpg|toy|kitsu|\([a-zU?]\)|Shift"
    r"|\b[a-z]\b"
)


def english_words(page: Page, selector: str, data: set[str]) -> set[str]:
    """Return the words in Latin letters in an element that are neither names nor data."""
    text = NOT_TRANSLATED.sub("", "\n".join(page.evaluate(WORDS_JS, selector)))
    for word in sorted(data, key=len, reverse=True):
        text = text.replace(word, "")
    return set(re.findall(r"[A-Za-z]{2,}", text))


@pytest.mark.parametrize("locale", LOCALES[1:])
def test_captions_has_no_english_word_in_other_languages(chromium, tmp_path, locale):
    """In its lists, bars and dialogs; and no text is wider than the room for it at 900 px."""
    images = datasets.many(tmp_path / "kitsu", 6)
    datasets.scored(images)
    data = {tag.strip() for at in images.glob("*.txt") for tag in at.read_text("utf-8").split(",")}
    data |= {name.replace("_", " ") for name in vocabulary.load().names[:2000]}
    window = {"width": 900, "height": 700}
    with opened(chromium, images, viewport=window, locale=locale) as page:
        page.goto(page.url.split("#")[0] + "#/captions")
        expect(page.locator("#cell-0 .name")).to_be_visible()
        expect(page.locator("#tag-0")).to_be_visible()
        seen = {}
        for name, keys in {
            "grid": "i", "add": "A", "replace": "lr", "trigger": "t", "scores": "c",
            "meaning": "lw", "outliers": "o", "suggestions": "v", "near": "g", "caption": "gi",
            "text": "pe", "difference": "d", "no tag": "pr", "shortcuts": "?",
        }.items():  # fmt: skip
            for key in keys:
                page.keyboard.press(key)
            page.wait_for_timeout(400)
            seen[name] = (english_words(page, "#work", data), page.evaluate(WIDER_JS))
            page.keyboard.press("Escape")
        assert seen == dict.fromkeys(seen, (set(), []))


def test_tabs_say_their_state_and_keys_lead_through_them(chromium, folder):
    with opened(chromium, folder) as page:
        show(page, "running", "images")
        watch = page.get_by_role("tab", name=re.compile("^Watch ?: 52% done"))
        expect(watch).to_be_visible()
        for key, tab in (("]", "check"), ("[", "images"), ("[", "history"), ("h", "history")):
            page.keyboard.press(key)
            expect(page.locator(f"#tab-{tab}")).to_have_attribute("aria-selected", "true")
        page.locator("#tab-history").focus()
        page.keyboard.press("Home")
        expect(page.locator("#tab-images")).to_be_focused()
        page.go_back()
        expect(page.locator("#tab-history")).to_have_attribute("aria-selected", "true")
        page.keyboard.press("q")
        expect(page.get_by_role("dialog")).to_contain_text("style-a")
        page.keyboard.press("Escape")
        page.keyboard.press("Control+k")
        page.keyboard.type("go to train")
        page.keyboard.press("Enter")
        expect(page.locator("#tab-train")).to_have_attribute("aria-selected", "true")
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_every_control_of_train_and_watch_is_reached_by_tab_alone(chromium, folder):
    with opened(chromium, folder) as page:
        for tab in ("train", "watch"):
            show(page, "running", tab)
            page.locator(f"#tab-{tab}").focus()
            wanted = page.evaluate(
                """() => {
                  const controls = "button, input, select, a[href], [tabindex='0']";
                  const all = [...document.querySelectorAll("#work " + controls.split(", ")
                    .join(", #work "))];
                  return all.filter((e) => !e.disabled && e.tabIndex >= 0 && e.checkVisibility())
                    .length;
                }"""
            )
            seen: set[str] = set()
            for _ in range(wanted + 25):
                page.keyboard.press("Tab")
                seen.add(
                    page.evaluate(
                        """() => {
                          const e = document.activeElement;
                          e.dataset.n ??= String(Math.random());
                          return e.closest("#work") ? e.dataset.n : "";
                        }"""
                    )
                )
            assert len(seen - {""}) >= wanted > 10, tab


def test_an_edit_is_saved_by_itself_and_start_says_what_happens(chromium, folder):
    with opened(chromium, folder) as page:
        show(page, "ready", "train")
        sent: list[object] = []
        page.on(
            "request",
            lambda request: (
                sent.append(request.post_data_json) if request.method in ("PUT", "POST") else None
            ),
        )
        rank = page.locator(".ten").get_by_label("Rank", exact=True)
        rank.fill("1x")
        expect(rank).to_have_attribute("aria-invalid", "true")
        start = page.get_by_role("button", name="Start: 1,560 steps")
        expect(start).to_have_attribute("aria-disabled", "true")
        expect(page.locator(".blocked")).to_contain_text("1 field has no valid value")
        rank.fill("8")
        expect(start).to_have_attribute("aria-disabled", "false")
        page.wait_for_timeout(600)
        assert {"hash": "a", "set": {"train": {"network_dim": 8}}, "unset": {"train": []}} in sent


def test_start_says_what_runs_first_and_the_training_appears_in_watch_at_once(chromium, folder):
    with opened(chromium, folder) as page:
        show(page, "starting", "train")
        expect(page.locator(".plan-checks")).to_contain_text(
            "The dataset is laid out first: dsk layout, dsk reg"
        )
        expect(page.locator(".command")).to_contain_text("dsk layout && dsk reg && dsk train")
        started: list[object] = []
        answer = studio_states.jobs("starting")

        def start(route: Route) -> None:
            if route.request.method != "POST":
                return route.fallback()
            started.append(route.request.post_data_json)
            return route.fulfill(json={"job": answer[2], "before": answer[:2]})

        page.route("**/api/jobs", start)
        page.get_by_role("button", name="Start: 1,920 steps").click()
        expect(page.locator("#tab-watch")).to_have_attribute("aria-selected", "true")
        assert started == [{"verb": "train", "lay_out": True, "when": "now"}]
        header = page.locator(".run-header")
        expect(header).to_contain_text("kitsu")
        expect(header).to_contain_text("starting")
        expect(page.locator(".run-before")).to_contain_text("dsk layout")
        expect(page.locator(".run-row.selected")).to_contain_text("kitsu")
        expect(page.get_by_label("Log of kitsu")).to_contain_text("epoch 1: 24 steps")
        require_accessible(page, "a training that waits")
        show(page, "refused", "watch")
        expect(page.locator(".run-explanation")).to_contain_text(
            "It did not start: dsk layout failed: two concepts are named kitsu."
        )
        expect(page.locator(".run-explanation a")).to_have_attribute("href", "#/plan")
        expect(page.get_by_role("link", name="Start it again in Train")).to_be_visible()
        require_accessible(page, "a training that did not start")


def test_the_parts_of_a_training_are_one_entry_of_the_jobs(chromium, folder):
    with opened(chromium, folder) as page:
        for state, summary in (("starting", "layout → reg → train · 0 of 3"),
                               ("refused", "layout → train · 0 of 2")):  # fmt: skip
            show(page, state, "watch")
            page.keyboard.press("q")
            dialog = page.get_by_role("dialog")
            expect(dialog.locator(".job-row")).to_have_count(1)
            expect(dialog.locator(".job-row b")).to_have_text("kitsu")
            dialog.get_by_text(summary).click()
            expect(dialog.get_by_role("listitem").last).to_contain_text("dsk train")
            require_accessible(page, f"jobs, {state}")
            page.keyboard.press("Escape")


def test_watch_lists_each_training_once(chromium, folder):
    """One that runs or starts among the runs; one that waits in the queue, with all its parts."""
    with opened(chromium, folder) as page:
        for state, runs, queue in (
            ("running", ["kitsu-3", "kitsu-2"], ["style-a"]),
            ("starting", ["kitsu", "kitsu-2"], []),
            ("waiting", ["kitsu-2"], ["kitsu"]),
        ):
            show(page, state, "watch")
            expect(page.locator(".watch-runs ul .run-name")).to_have_text(runs)
            expect(page.locator(".watch-runs ol .run-name")).to_have_text(queue)
        page.locator(".watch-runs ol a").click()
        expect(page.locator(".run-header")).to_contain_text("waiting, place 1 in the queue")
        expect(page.locator(".run-row.selected")).to_have_count(1)
        require_accessible(page, "a training that waits")


@pytest.mark.parametrize("locale", LOCALES)
def test_a_training_that_waits_has_room_in_any_language(chromium, folder, locale):
    window = {"width": 900, "height": 700}
    with opened(chromium, folder, viewport=window, locale=locale) as page:
        for state, tab in (("starting", "train"), ("starting", "watch"), ("refused", "watch")):
            show(page, state, tab)
            assert (tab, state, page.evaluate(WIDER_JS)) == (tab, state, [])


def test_the_search_of_the_rate_says_how_long_it_takes_and_starts(chromium, folder):
    def plan(route: Route) -> None:
        answer = studio_states.plan()
        planned = answer["output"]["result"]["plan"]
        planned["options"] = asdict(TrainOptions())
        if (route.request.post_data_json or {})["verb"] == "find-lr":
            planned["cost"] = {"probe_steps": 900, "sweep_steps": 100}
        route.fulfill(body=json.dumps(answer, default=list), content_type="application/json")

    with opened(chromium, folder) as page:
        studio_states.serve(page, "ready")
        page.route("**/api/plan", plan)
        started: list[object] = []

        def start(route: Route) -> None:
            started.append(route.request.post_data_json)
            route.fulfill(json={"job": studio_states.job("j9", "running", "", "find-lr")})

        page.route(
            "**/api/jobs", lambda r: start(r) if r.request.method == "POST" else r.fallback()
        )
        page.goto(page.url.split("#")[0] + "#/train")
        page.reload()
        find = page.get_by_role("button", name="Find it: at most 10 min")
        expect(find).to_have_attribute("title", re.compile("1,000 steps, at the pace of kitsu-2"))
        find.click()
        page.wait_for_timeout(500)
        assert started == [{"verb": "find-lr", "options": {"write": True}, "when": "now"}]


@pytest.mark.parametrize("locale", LOCALES)
def test_dialogs_are_accessible_and_have_room_in_any_language(chromium, folder, locale):
    window = {"width": 900, "height": 700}
    looks = {"color_scheme": "dark", "reduced_motion": "reduce"}
    with opened(chromium, folder, viewport=window, locale=locale, **looks) as page:
        show(page, "running", "train")
        buttons = {
            "own presets": page.locator(".train-goal button", has_text="…"),
            "base": page.locator(".ten button", has_text="…"),
            "all options": page.locator(
                "#work button[aria-expanded=false]", has_text=re.compile(r"\d")
            ),
        }
        for name in ("?", "q", "Control+k", *buttons):
            if name in buttons:
                buttons[name].first.click()
            else:
                page.keyboard.press(name)
            page.wait_for_timeout(400)
            require_accessible(page, name)
            assert (name, page.evaluate(WIDER_JS)) == (name, [])
            page.keyboard.press("Escape")
            expect(page.get_by_role("dialog")).to_have_count(0)


def test_an_empty_folder_says_in_each_language_where_to_begin(chromium, tmp_path, monkeypatch):
    """In the tabs' own words, and not in those of an error."""
    # Without the jobs of other tests: Images lists their projects by name.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "new").mkdir()
    for locale in LOCALES[1:]:
        with opened(chromium, tmp_path / "new", locale=locale) as page:
            for tab in TABS:
                page.locator(f"#tab-{tab}").click()
                page.wait_for_timeout(400)
                words = english_words(page, "#work", set())
                assert (tab, words - {"CPU", "GPU", "NVIDIA", "tiny", "dsk", "train"}) == (
                    tab,
                    set(),
                )


def test_an_option_is_found_by_a_part_of_its_name_and_the_slash_key(chromium, folder):
    with opened(chromium, folder) as page:
        show(page, "ready", "train")
        page.locator("#tab-train").focus()
        page.keyboard.press("/")
        page.keyboard.type("snr")
        expect(page.locator(".option-group .field-name").first).to_have_text("min_snr_gamma")
        page.keyboard.press("Escape")
        expect(page.get_by_role("searchbox", name="Search options")).to_have_value("")


def test_a_chart_is_read_by_keys_and_as_a_table(chromium, folder):
    with opened(chromium, folder) as page:
        show(page, "running", "watch")
        chart = page.get_by_role("slider", name=re.compile("^Loss. 0.1.* after step 124, falling"))
        chart.focus()
        page.keyboard.press("Home")
        expect(chart).to_have_attribute("aria-valuetext", re.compile(r"^step 1: kitsu-3 0\.\d+"))
        page.keyboard.press("ArrowRight")
        expect(chart).to_have_attribute("aria-valuetext", re.compile("^step 2: "))
        page.get_by_role("button", name="As a table").click()
        expect(page.locator(".chart-table").first).to_contain_text("124")


@pytest.mark.parametrize("with_locks", [True, False])
def test_tabs_of_one_browser_share_a_stream_and_all_follow_it(chromium, tmp_path, with_locks):
    project = datasets.many(tmp_path / "set", 3)
    with opened(chromium, project) as page:
        if not with_locks:  # as through plain http from another machine
            page.context.add_init_script("delete Navigator.prototype.locks")
            page.reload()
        page.wait_for_timeout(2000)  # its own stream is there
        streams: list[str] = []
        page.context.on(
            "request",
            lambda request: streams.append(request.url) if "api/events" in request.url else None,
        )
        others = [page.context.new_page() for _ in range(7)]
        for other in others:
            other.goto(page.url)
            expect(other.locator("#tab-images")).to_be_visible()
        # Without locks a tab that is slow to answer may be overtaken for a moment.
        assert len(streams) <= (0 if with_locks else 1)
        last = others[-1]
        last.evaluate("location.hash = '#/captions'")
        expect(last.locator(".image-tag").first).to_be_visible(timeout=15_000)
        page.bring_to_front()
        (project / "p00000.txt").write_text("changed\n", encoding="utf-8")
        expect(last.locator(".image-tag")).to_have_text([re.compile("^changed")], timeout=15_000)
        # The tab that had the stream goes; another one goes on from the same id.
        with page.context.expect_event(
            "request", lambda request: "api/events" in request.url
        ) as request:
            page.goto("about:blank")
        assert "after=" in request.value.url
        page.goto(others[0].url)
        expect(page.locator("#tab-images")).to_be_visible()


@pytest.mark.parametrize("with_locks", [True, False])
def test_a_tab_that_only_followed_another_misses_nothing_when_that_goes(
    chromium, tmp_path, with_locks
):
    """No event has come while it followed; what changes while no tab has a stream is shown."""
    project = datasets.many(tmp_path / "set", 3)
    with opened(chromium, project) as page:
        if not with_locks:
            page.context.add_init_script("delete Navigator.prototype.locks")
            page.reload()
        page.wait_for_timeout(1500)  # its own stream is there
        follower = page.context.new_page()
        follower.goto(page.url.split("#")[0] + "#/captions")
        expect(follower.locator(".image-tag").first).to_be_visible(timeout=60_000)
        follower.wait_for_timeout(1500)
        follower.route("**/api/events*", lambda route: route.abort())
        reads: list[str] = []
        page.goto("about:blank")
        (project / "p00000.txt").write_text("changed\n", encoding="utf-8")
        follower.wait_for_timeout(2500)
        follower.unroute("**/api/events*")
        expect(follower.locator(".image-tag")).to_have_text(
            [re.compile("^changed")], timeout=60_000
        )
        follower.on("request", lambda request: reads.append(request.url))
        follower.wait_for_timeout(2500)
        assert [url for url in reads if "api/project" in url] == []  # shown once, not again


def test_the_command_is_copied_without_a_secure_context_too(chromium, folder):
    with opened(chromium, folder) as page:
        show(page, "ready", "train")
        # What a page that was opened through plain http from another machine has not.
        page.evaluate("Object.defineProperty(window, 'isSecureContext', {value: false})")
        page.evaluate("delete Navigator.prototype.clipboard")
        page.evaluate("document.addEventListener('copy', () => { window.copied = true; })")
        page.locator(".command button").click()
        expect(page.locator(".command button")).to_contain_text("Copied")
        assert page.evaluate("window.copied") is True
