"""`dsk studio` opens on any folder, and on the same page as `dsk review`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from datasetkit.core.errors import DatasetError
from datasetkit.project import locks
from datasetkit.project.locks import lock
from tests.web.client import review, studio
from tests.web.conftest import make_seven


def test_it_opens_on_an_empty_folder_and_sees_images_that_appear(tmp_path):
    (tmp_path / "set").mkdir()
    with studio(tmp_path / "set") as page:
        assert page.session["images"] == 0 and page.session["tab"] == "images"
        assert "holds no images" in page.session["captions_problem"]["error"]
        refused = page.ask("GET", "/api/images", headers={"Cookie": page.cookie})
        assert (refused.status, refused.json) == (400, page.session["captions_problem"])
        make_seven(page.folder)
        session = page.load_session()
        assert (session["images"], session["captions_problem"]) == (7, None)
        assert len(page.get("images")["id"]) == 7
    with pytest.raises(DatasetError), review(tmp_path):
        pass


def test_it_opens_while_another_command_works_in_the_project(folder, monkeypatch):
    monkeypatch.setattr(locks, "OWN_SECONDS", 0)  # the command is a thread here
    with lock(folder), studio(folder) as page:
        assert "is working" in page.session["captions_problem"]["error"]
        assert page.ask("GET", "/api/ids", headers={"Cookie": page.cookie}).status == 423
    with studio(folder) as page:
        assert page.session["captions_problem"] is None


def test_review_and_studio_differ_in_the_first_tab_alone(folder):
    with review(folder) as captions, studio(folder) as images:
        assert (captions.session["tab"], images.session["tab"]) == ("captions", "images")
        assert set(captions.session) == set(images.session)
        images.do(remove=["hat"])
        assert images.session["command"] == "studio"


@pytest.mark.long
def test_the_server_imports_no_torch(folder):
    program = """
import sys
from tests.web.client import studio
from pathlib import Path
from datasetkit.web.routes import ROUTES
with studio(Path(sys.argv[1])) as page:
    for route in ROUTES:
        if route.method == "GET" and not route.is_stream:
            page.ask("GET", route.path.replace("{id}", "1"), headers={"Cookie": page.cookie})
print(sorted({"torch", "transformers", "diffusers", "onnxruntime"} & set(sys.modules)))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False
    )
    assert (ended.stdout.strip(), ended.stderr) == ("[]", "")


def test_images_in_subfolders_are_counted_as_they_are_listed(tmp_path):
    """There is no dataset to edit captions of, but the tab Images lists them."""
    make_seven(tmp_path / "set" / "faces")
    make_seven(tmp_path / "set" / "girls")
    with studio(tmp_path / "set") as page:
        assert page.session["captions_problem"] is not None
        assert (page.session["images"], page.session["captioned"]) == (14, 12)
        facts = page.get("project")
        listed = page.get("concepts")["concepts"]
        rows = [(row["name"], row["images"]) for row in facts["images"]["concepts"]]
        assert rows == [(row["name"], row["images"]) for row in listed]
        assert (facts["images"]["total"], facts["captions"]["missing"]) == (14, 2)
    with lock(tmp_path / "set"), studio(tmp_path / "set") as page:
        assert page.session["images"] == 14
