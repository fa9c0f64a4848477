"""The cards of an empty project over HTTP."""

from __future__ import annotations

from datasetkit import api
from tests.cli.test_init_example import SHIPPED, files
from tests.web.client import studio


def test_the_example_is_copied_into_an_empty_folder_once(tmp_path):
    with studio(tmp_path) as page:
        assert page.get("start")["example"] == {"images": 24}
        page.post("start", example=True)
        assert files(tmp_path) == files(SHIPPED)
        assert page.get("start")["example"] is None
        names = [concept["name"] for concept in page.get("concepts")["concepts"]]
        assert names == ["kitsu", "girls"]
        assert page.load_session()["images"] == 24
        again = page.send("start", example=True)
        assert again.status == 409 and "not empty" in again.json["error"]
        assert page.send("start").status == 400
    api.undo(tmp_path)
    assert files(tmp_path) == {}


def test_a_folder_that_is_not_empty_is_not_offered_the_example(tmp_path):
    (tmp_path / "notes.md").write_text("x")
    with studio(tmp_path) as page:
        assert page.get("start")["example"] is None
        assert page.send("start", example=True).status == 409
