"""The page's operations do what the commands do, to the byte, and its tables match the captions."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from datasetkit import api
from datasetkit.project import file_ops
from tests.web import datasets
from tests.web.client import Browser, captions, image_ids, review

ALL = {"in": "all"}


@pytest.fixture
def tagged(tmp_path: Path) -> Path:
    """Eight images with scores and captions by a tagger; two captions are edited by hand."""
    folder = datasets.many(tmp_path / "set", 8, captions=False)
    datasets.scored(folder)
    (folder / "p00001.txt").write_text("solo, mine, Long_Hair\n", encoding="utf-8")
    (folder / "p00002.txt").write_text("mine, sks, lips\n", encoding="utf-8")
    return folder


Command = Callable[[Path], Any]


def rules(**options: Any) -> Command:
    return lambda folder: api.rules(folder, api.RulesOptions(**options))


SAME: list[tuple[dict[str, Any], Command]] = [
    ({"remove": ["solo"]}, rules(exclude=("solo",))),
    ({"remove": ["LONG hair", "mine"]}, rules(exclude=("long hair", "mine"))),
    ({"exclude": ["*_hair", "@face"]}, rules(exclude=("*_hair", "@face"))),
    (
        {"replace": [["solo", "alone"], ["mine", "yours"]]},
        rules(replace=("solo=alone", "mine=yours")),
    ),
    ({"add": ["best quality", "photo"]}, rules(additional=("best quality", "photo"))),
    ({"trigger": ["sks", "girl"]}, rules(trigger=("sks", "girl"))),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("wanted", "command"), SAME, ids=lambda one: str(one) if isinstance(one, dict) else ""
)
def test_an_operation_does_what_the_command_does(tagged, tmp_path, wanted, command):
    other = tmp_path / "other"
    shutil.copytree(tagged, other)
    result = command(other)
    with review(tagged) as page:
        would = page.dry_run(ALL, **wanted)
        assert captions(tagged) != captions(other) and would["entry"] is None
        done = page.do(ALL, **wanted)
        assert captions(tagged) == captions(other)
        assert done["changed"] == would["changed"] == len(result.changes)
        assert (done["tags_added"], done["tags_removed"]) == (
            would["tags_added"],
            would["tags_removed"],
        )
        shown = page.get("images", captions=1)
        assert [f"{text}\n".encode() for text in shown["caption"]] == list(
            captions(tagged).values()
        )


@pytest.mark.parametrize("existing", ["skip", "overwrite"])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_the_score_slider_does_what_tagging_with_that_threshold_does(tagged, threshold, existing):
    with review(tagged) as page:
        before = captions(tagged)
        would = page.dry_run(ALL, threshold=threshold, existing=existing)
        done = page.do(ALL, threshold=threshold, existing=existing)
        after = captions(tagged)
        assert (
            done["changed"]
            == would["changed"]
            == sum(before[name] != after[name] for name in before)
        )
        edited = {"p00001.txt", "p00002.txt"}
        assert all((before[name] == after[name]) is (existing == "skip") for name in edited)
        assert done["kept"] >= 2 * (existing == "skip")
        # The caption has exactly the tags that reach the threshold.
        for number in image_ids(page):
            image = page.get(f"image/{number}")
            if image["name"].replace("jpg", "txt") in edited and existing == "skip":
                assert image["edited"]
                continue
            assert not image["edited"] and all(tag["score"] >= threshold for tag in image["tags"])
            assert all(
                tag["score"] < threshold
                for tag in image["other_tags"]
                if tag["category"] == "general"
            )
        again = page.do(ALL, threshold=threshold, existing=existing)
        assert again["changed"] == 0 and again["entry"] is None


def test_the_tag_table_counts_the_tags_of_the_captions(tagged):
    with review(tagged) as page:
        scope = {"in": "where", "where": "name:p0000? AND NOT name:p00007"}
        tags = page.post("tags", scope=scope)
        held = {name: text.decode().strip().split(", ") for name, text in captions(tagged).items()}
        forms = {
            name: {tag.lower().replace("_", " ") for tag in several}
            for name, several in held.items()
        }
        total = Counter(tag for several in forms.values() for tag in several)
        inside = Counter(
            tag for name, several in forms.items() if name != "p00007.txt" for tag in several
        )
        assert tags["images"] == 7
        shown = [tag.lower().replace("_", " ") for tag in tags["tag"]]
        assert dict(zip(shown, tags["count"], strict=True)) == inside
        assert dict(zip(shown, tags["total"], strict=True)) == {tag: total[tag] for tag in inside}
        assert tags["count"] == sorted(tags["count"], reverse=True)
        assert tags["category"][shown.index("solo")] == "general"


def test_outliers_are_tags_of_most_images_with_a_filter_for_the_rest(folder):
    with review(folder) as page:
        outliers = page.post("outliers", scope=ALL, share=0.5)
        assert dict(
            zip(
                outliers["tag"],
                zip(outliers["count"], outliers["missing"], strict=True),
                strict=True,
            )
        ) == {
            "sks": (3, 3),
            "lips": (3, 3),
            "hat": (3, 3),
        }
        for where, missing in zip(outliers["where"], outliers["missing"], strict=True):
            assert len(image_ids(page, f"{where} AND tags:>0")) == missing
        assert page.post("outliers", scope=ALL, share=0.9)["tag"] == []


def test_completions_come_from_the_dataset_first_and_then_the_vocabulary(folder):
    with review(folder) as page:
        completions = page.get("complete", q="blue e", limit=5)
        assert (
            completions["tag"][0].lower().replace("_", " ") == "blue eyes"
            and completions["count"][0] == 2
        )
        assert len(page.get("complete", q="hair", limit=5)["tag"]) == 5
        assert page.get("complete", q="EYES")["tag"] == page.get("complete", q="eyes")["tag"]


def test_an_added_tag_follows_the_trigger(folder):
    (folder / "dsk.toml").write_text(
        '[[concept]]\nfolder = "."\ntrigger = ["sks"]\n', encoding="utf-8"
    )
    with review(folder) as page:
        assert page.session["trigger"] == ["sks"] and page.session["concepts"][0]["name"] == "sks"
        page.do(ALL, add=["new"])
        assert (folder / "p0.txt").read_text() == "sks, new, lips, blue eyes\n"
        assert (folder / "p3.txt").read_text() == "new, solo, hat\n"


def test_excluded_images_are_moved_with_their_companion_files(folder):
    (folder / "masks").mkdir()
    (folder / "masks" / "p0.png").write_bytes(b"a mask")
    (folder / "p0.jpg.json").write_text("{}")
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    with review(folder) as page:
        done = page.do({"in": "ids", "ids": [1, 7]}, drop=True)
        assert (done["changed"], done["removed"], page.get("images")["total"]) == (2, [1, 7], 5)
        away = sorted(
            path.name for path in (folder / ".dsk" / "excluded").rglob("*") if path.is_file()
        )
        assert away == ["p0.jpg", "p0.jpg.json", "p0.png", "p0.txt", "p6.png"]
        assert page.ask("GET", "/thumb/1", headers={"Cookie": page.cookie}).status == 404
        back = page.post("undo", version=page.version)
        assert back["restored"] == [1, 7] and page.get("images")["total"] == 7
    assert {path: path.read_bytes() for path in before} == before


def test_no_operation_empties_a_caption(folder):
    with review(folder) as page:
        done = page.do(ALL, remove=["solo"])
        assert (done["changed"], done["kept"]) == (1, 1) and "empty caption" in done["reason"]
        assert (folder / "p4.txt").read_text() == "solo\n"


def test_an_operation_changes_only_its_scope(folder):
    with review(folder) as page:
        for scope, wanted in (
            ({"in": "where", "where": "tag:hat"}, {1, 3, 5}),
            ({"in": "ids", "ids": [1, 5, 999]}, {0, 4}),
        ):
            before = captions(folder)
            page.do(scope, add=["new"])
            after = captions(folder)
            assert {n for n in range(6) if before[f"p{n}.txt"] != after[f"p{n}.txt"]} == wanted
            page.post("undo", version=page.version)


def test_near_duplicates_are_found_in_the_background(folder):
    (folder / "p7.jpg").write_bytes((folder / "p2.jpg").read_bytes() + b"\0")
    with review(folder) as page:
        ends = time.monotonic() + 15
        while time.monotonic() < ends:
            progress = page.get("near-duplicates")
            if progress["done"] == progress["total"] == 8:
                break
            time.sleep(0.02)
        pair = image_ids(page, "name:p2 OR name:p7")
        assert progress["groups"] == [pair] and image_ids(page, "dup:yes") == pair
        assert page.get(f"image/{pair[0]}")["near_duplicates"] == pair


def compared(page: Browser) -> dict[str, Any]:
    """Return the near-duplicates, once all images are compared."""
    for _ in range(1000):
        near: dict[str, Any] = page.get("near-duplicates")
        if near["done"] == near["total"]:
            return near
        time.sleep(0.02)
    raise TimeoutError


def test_kept_near_duplicates_are_not_offered_again_after_a_restart_and_no_caption_changes(folder):
    (folder / "p7.jpg").write_bytes((folder / "p2.jpg").read_bytes() + b"\0")
    before = captions(folder)
    with review(folder) as page:
        (group,) = compared(page)["groups"]
        kept = page.post("keep", ids=group, keep=True)
        assert (kept["groups"], kept["kept"]) == ([], 1)
        assert page.get(f"image/{group[0]}")["near_duplicates"] == []
        assert image_ids(page, "dup:yes") == group
    with review(folder) as page:
        assert compared(page)["kept"] == 1
        assert page.post("keep", keep=False)["groups"] == [group]
        again = compared(page)
        assert (again["groups"], again["copies"], again["kept"]) == ([group], [True], 0)
        assert page.send("keep", ids="all", keep=True).status == 400
        assert page.send("keep", ids=group).status == 400
    assert captions(folder) == before


def test_the_groups_of_tags_in_scope_are_counted_and_removed_at_once(folder):
    with review(folder) as page:
        tags = page.post("tags", scope=ALL)
        groups = tags["groups"]
        columns = (groups["name"], groups["images"], groups["rows"])
        by_name = {name: (images, rows) for name, images, rows in zip(*columns, strict=True)}
        images, rows = by_name["@face"]
        assert {tags["tag"][row] for row in rows} == {"lips", "blue eyes"}
        assert images == 4
        assert by_name["@eyes"][0] == 2
        assert "@hair" not in by_name
        some = page.post("tags", scope={"in": "where", "where": "NOT tag:lips"})["groups"]
        assert dict(zip(some["name"], some["images"], strict=True))["@face"] == 1
        assert page.dry_run(exclude=["@face"])["changed"] == 4
        page.do(exclude=["@face"])
        assert "@face" not in page.post("tags", scope=ALL)["groups"]["name"]
    assert not any(b"lips" in text or b"yes" in text for text in captions(folder).values())


@pytest.mark.long
def test_the_progress_of_an_edit_can_be_read_while_it_writes(folder, monkeypatch):
    place = file_ops.place

    def slow(operation):
        time.sleep(0.03)
        return place(operation)

    monkeypatch.setattr("datasetkit.project.journal.place", slow)
    with review(folder) as page:
        assert page.get("progress")["total"] == 0
        with ThreadPoolExecutor(1) as threads:
            edit = threads.submit(lambda: page.send("apply", version=page.version, scope=ALL,
                                                    do={"add": ["new"]}))  # fmt: skip
            seen = []
            while not edit.done():
                seen.append(page.get("progress"))
            assert edit.result().status == 200
        writing = [now["done"] for now in seen if now["label"] == "writing"]
        assert writing == sorted(writing)
        assert 0 < max(writing) <= 6
        assert {now["total"] for now in seen if now["label"] == "writing"} == {6}
        assert page.get("progress") == {"label": "", "done": 0, "total": 0}


def test_a_refused_edit_leaves_no_progress(folder):
    with review(folder) as page:
        (folder / "p0.txt").write_text("other\n", encoding="utf-8")
        page.send("apply", version=page.version, scope=ALL, do={"remove": ["sks"]})
        assert page.get("progress")["total"] == 0


def test_suggestions_are_a_table_and_ticked_rows_one_edit(folder):
    before = {path: path.read_bytes() for path in folder.glob("*.txt")}
    with review(folder) as page:
        table = page.post("suggestions", scope=ALL, kind="character")
        row = table["tag"].index("lips")
        assert (table["action"][row], table["why"][row]) == ("remove", "fixed")
        assert table["recommended"][row] and table["where"][row] == 'tag:"lips"'
        key = [table[name][row] for name in ("folder", "action", "tag", "why")]
        dry = page.dry_run(prune={"kind": "character", "rows": [key]})
        assert dry["changed"] == table["count"][row] > 0
        page.do(ALL, prune={"kind": "character", "rows": [key]})
        assert not any("lips" in path.read_text() for path in folder.glob("*.txt"))
        assert "lips" not in page.post("suggestions", scope=ALL, kind="face")["tag"]
        page.post("undo", version=page.version)
    assert {path: path.read_bytes() for path in folder.glob("*.txt")} == before


@pytest.mark.parametrize(
    "wanted", [{}, {"rows": []}, {"kind": "character"}, {"kind": "cat", "rows": [["a"]]}, "lips"]
)
def test_a_prune_without_rows_or_with_another_kind_is_refused(folder, wanted):
    with review(folder) as page:
        page.do(ALL, status=400, prune=wanted)
        assert page.send("suggestions", scope=ALL, kind="cat").status == 400
