"""The tab Images over HTTP: concepts, their images before and after, what is left out."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from PIL import Image

from datasetkit import api
from tests.web.client import Browser, Response, studio
from tests.web.datasets import drawing
from tests.web.test_uploads import png

CONFIG = """\
[[concept]]
name = "kitsu"
folder = "faces"
trigger = ["kitsu"]
repeats = 5

[run]
steps = ["resize", "layout"]

[resize]
max = 64

[reg]
folder = "girls"
class_name = "1girl"

[train]
resolution = 128
min_bucket_reso = 64
bucket_reso_steps = 16
"""


@pytest.fixture
def page(tmp_path) -> Iterator[Browser]:
    folder = tmp_path / "project"
    for n in range(3):
        drawing(folder / "faces" / f"a{n}.png", n)
    drawing(folder / "girls" / "g.png", 9)
    drawing(folder / "faces" / "small.png", 7, (40, 30))
    (folder / "faces" / "broken.png").write_bytes(png()[:40])
    (folder / "faces" / "clip.mp4").write_bytes(b"x")
    (folder / "faces" / "Thumbs.db").write_bytes(b"x")
    (folder / "faces" / "link.png").symlink_to("/etc/passwd")
    (folder / "dsk.toml").write_text(CONFIG)
    with studio(folder) as browser:
        yield browser


def load(page: Browser, path: str) -> Response:
    return page.ask("GET", path, headers={"Cookie": page.cookie})


def size_of(response: Response) -> tuple[int, int]:
    assert response.status == 200, response.body
    with Image.open(io.BytesIO(response.body)) as image:
        return image.size


def test_the_concepts_and_the_steps_are_those_of_dsk_toml(page):
    result = page.get("concepts")
    kitsu, girls = result["concepts"]
    assert (kitsu["name"], kitsu["folder"], kitsu["kind"]) == ("kitsu", "faces", "train")
    assert (kitsu["images"], kitsu["prepared"], kitsu["repeats"]) == (5, 0, 5)
    assert (girls["name"], girls["kind"], girls["images"]) == ("girls", "reg", 1)
    assert result["steps"] == {"resize": {"max": 64}}


def test_the_images_of_a_concept_have_sizes_and_problems(page):
    rows = page.get("sources", concept=0)
    assert rows["total"] == 5
    problems = dict(zip(rows["name"], rows["problem"], strict=True))
    assert problems == {
        "a0.png": "", "a1.png": "", "a2.png": "", "broken.png": "unreadable", "small.png": "small"
    }  # fmt: skip
    window = page.get("sources", concept=0, offset=1, limit=2)
    assert window["name"] == ["a1.png", "a2.png"] and window["total"] == 5
    assert window["id"] == rows["id"][1:3]


def test_what_is_left_out_is_named_with_its_reason(page):
    rows = {row["name"]: row["reason"] for row in page.get("left-out", concept=0)["files"]}
    assert set(rows) == {"clip.mp4", "Thumbs.db", "link.png", "broken.png"}
    assert "symbolic link" in rows["link.png"] and all(rows.values())


def test_an_image_is_shown_before_and_after_by_its_number(page):
    rows = page.get("sources", concept=0)
    number, v = rows["id"][0], rows["v"][0]
    assert size_of(load(page, f"/source/{number}?v={v}")) == (320, 240)
    assert size_of(load(page, f"/source/{number}?v={v}&side=80")) == (80, 60)
    assert load(page, f"/made/{number}").status == 404
    assert page.get(f"sources/{number}")["made"] is None
    api.run(page.folder)
    facts = page.get(f"sources/{number}")
    assert (facts["made"]["w"], facts["made"]["h"]) == (64, 48)
    assert facts["bucket"] and facts["upright"]
    assert size_of(load(page, f"/made/{number}?v={facts['made']['v']}")) == (64, 48)
    assert page.get("concepts")["concepts"][0]["prepared"] == 4


def test_a_file_that_became_a_link_is_not_shown(page):
    rows = page.get("sources", concept=0)
    secret = drawing(page.folder.parent / "secret.png", 5)
    path = page.folder / "faces" / "a0.png"
    path.unlink()
    path.symlink_to(secret)
    assert load(page, f"/source/{rows['id'][0]}").status == 409


@pytest.mark.parametrize("name", ["0", "99999", "-1", "1e3", "a0.png", "..%2fsecret", "9" * 400])
def test_a_number_that_was_not_listed_is_not_found(page, name):
    for kind in ("source", "made"):
        assert load(page, f"/{kind}/{name}").status == 404
    assert load(page, f"/api/sources/{name}").status == 404


def test_a_new_version_of_a_file_has_a_new_address(page):
    before = page.get("sources", concept=0)
    drawing(page.folder / "faces" / "a0.png", 50, (200, 100))
    after = page.get("sources", concept=0)
    assert after["id"][0] == before["id"][0] and after["v"][0] != before["v"][0]
    assert (after["w"][0], after["h"][0]) == (200, 100)


def test_without_concepts_the_folders_with_images_are_shown(tmp_path):
    drawing(tmp_path / "one" / "a.png", 1)
    drawing(tmp_path / "two" / "b.png", 2)
    with studio(tmp_path) as page:
        assert [c["name"] for c in page.get("concepts")["concepts"]] == ["one", "two"]


def add(page: Browser, name: str, folder: str = "") -> Response:
    body = json.dumps({"name": name, "folder": folder}).encode()
    return page.ask("POST", "/api/concepts", body, page.headers)


def test_a_concept_is_added_to_dsk_toml_and_files_go_to_its_folder(tmp_path):
    (tmp_path / "dsk.toml").write_text("# mine\n[train]\nnetwork_dim = 8")
    with studio(tmp_path) as page:
        assert add(page, "kitsu").status == 200
        text = (tmp_path / "dsk.toml").read_text()
        assert text == (
            '# mine\n[train]\nnetwork_dim = 8\n\n[[concept]]\nname = "kitsu"\nfolder = "kitsu"\n'
        )
        files = [{"path": "a.png", "size": 9, "modified": 0}]
        assert page.post("uploads", concept="kitsu", files=files)["to"] == "kitsu"
        for name in ("kitsu", "../x", "a/b", "", "con"):
            assert add(page, name).status == 400
        assert add(page, "new", "/etc").status == 403
        assert page.send("uploads", concept="none", files=files).status == 400
    api.undo(tmp_path)
    assert (tmp_path / "dsk.toml").read_text() == "# mine\n[train]\nnetwork_dim = 8"


def test_a_concept_outside_of_the_roots_shows_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    drawing(tmp_path / "private" / "a.png", 1)
    project = tmp_path / "project"
    project.mkdir()
    (project / "dsk.toml").write_text('[[concept]]\nname = "x"\nfolder = "../private"\n')
    with studio(project) as page:
        assert page.get("concepts")["concepts"][0]["images"] == 0
        assert page.get("sources", concept=0)["total"] == 0
