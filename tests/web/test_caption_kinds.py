"""The review page and captions with sentences: what it edits are their tags."""

import pytest

from tests.web.client import review
from tests.web.datasets import drawing

SENTENCE = "A girl in a red scarf smiles, and the wall is blue."
ALL = {"in": "all"}
CAPTIONS = {
    "mixed": f"kitsu, 1girl, smile\n{SENTENCE}\n",
    "sentence": f"kitsu, {SENTENCE}\n",
}


@pytest.fixture(params=list(CAPTIONS))
def folder(request, tmp_path):
    (tmp_path / "dsk.toml").write_text(
        f'[dataset]\ncaptions = "{request.param}"\n[tag]\ntrigger = ["kitsu"]\n'
    )
    for n in range(3):
        drawing(tmp_path / "set" / f"{n}.jpg", n)
        (tmp_path / "set" / f"{n}.txt").write_text(CAPTIONS[request.param])
    return tmp_path / "set"


def test_sentences_are_shown_apart_and_found_by_filters(folder):
    with review(folder) as page:
        shown = page.get("image/1")
        assert shown["sentences"] == [SENTENCE]
        assert shown["tags"][0]["tag"] == "kitsu" and len(shown["tags"]) in (1, 3)
        assert page.post("filter", where='caption:"red scarf smiles, and"')["total"] == 3
        assert page.post("filter", where='tag:"*scarf*"')["total"] == 0
        assert page.post("filter", where="tags:>3")["total"] == 0


def test_operations_change_tags_only_and_are_undone(folder):
    before = (folder / "0.txt").read_text()
    with review(folder) as page:
        version = page.version
        page.do(ALL, replace=[["smiles", "grins"]])
        page.do(ALL, exclude=["*scarf*"])
        page.do(ALL, remove=["and the wall is blue."])
        assert page.version == version and (folder / "0.txt").read_text() == before
        page.do(ALL, replace=[["kitsu", "sks"]])
        after = (folder / "0.txt").read_text()
        assert after.startswith("sks, ") and after.endswith(f"{SENTENCE}\n")
        page.post("undo", version=page.version)
        assert (folder / "0.txt").read_text() == before


def test_a_typed_caption_has_the_kind_of_its_folder(folder):
    with review(folder) as page:
        shown = page.get("image/1")
        text = shown["caption"].replace("red", "green")
        page.post("caption", version=page.version, id=1, hash=shown["hash"], caption=text)
        written = (folder / "0.txt").read_text()
        assert written.strip() == text and "green scarf smiles, and" in written
        assert page.get("image/1")["sentences"] == [SENTENCE.replace("red", "green")]
