"""A caption written beside an original after its image was resized, cut out or cropped is used;
it costs no other.
"""

import pytest

from datasetkit import api
from datasetkit.core.errors import PlanConflict
from tests.safety import datasets
from tests.safety.datasets import CASES, TAG, caption, small_set
from tests.safety.harness import tree

OUTPUTS = {"resize": "small", "cutout": "cut", "faces-crop": "faces", "faces-erase": "erased"}
PLAIN = ("resize", "faces-crop")  # captions go along as they are


@pytest.fixture(params=OUTPUTS)
def made(request, place):
    """Images that a verb made, and how to run it again: (originals, folder of outputs, verb)."""
    images = small_set(place / "imgs")
    verb = CASES[request.param].run
    verb(place)
    return images, place / OUTPUTS[request.param], lambda: verb(place), request.param


def text(folder, image):
    (path,) = folder.glob(f"{image.stem}.txt")
    return path.read_text(encoding="utf-8").strip()


def settled(again, folder):
    """Tell that one more run has nothing to do."""
    before = len(api.history(folder)), tree(folder)
    again()
    return (len(api.history(folder)), tree(folder)) == before


def test_an_edit_beside_the_original_is_taken_over_and_can_be_taken_back(made):
    images, folder, again, _ = made
    before = tree(folder)
    caption(images[0], "by hand 0, smile, red hat\n")
    again()
    assert "red hat" in text(folder, images[0])
    assert settled(again, folder)
    api.undo(folder)
    assert tree(folder) == before
    assert settled(again, folder)


def test_a_caption_written_where_dsk_had_tagged_takes_its_place(made):
    images, folder, again, _ = made
    api.tag(folder, TAG)
    assert "sks" in text(folder, images[4])
    caption(images[4], "by hand at last\n")
    again()
    assert text(folder, images[4]).startswith("by hand at last")
    api.tag(folder, TAG)
    assert text(folder, images[4]).startswith("by hand at last")
    assert settled(again, folder)


def test_an_edit_of_the_output_stays_whatever_is_written_beside_the_original(made):
    images, folder, again, _ = made
    (folder / f"{images[0].stem}.txt").write_text("pruned, in the output\n", encoding="utf-8")
    assert settled(again, folder)
    caption(images[0], "by hand 0, red hat\n")
    assert settled(again, folder)
    assert text(folder, images[0]) == "pruned, in the output"


def test_what_rules_made_of_the_output_stays(made):
    images, folder, again, _ = made
    api.rules(folder, api.RulesOptions(trigger=("sks",)))
    caption(images[0], "by hand 0, red hat\n")
    assert settled(again, folder)
    assert text(folder, images[0]).startswith("sks, ")


def test_captions_that_tag_was_told_to_replace_are_not_brought_back(made):
    images, folder, again, _ = made
    over = api.TagOptions(tagger=TAG.tagger, trigger=("sks",), existing="overwrite")
    api.tag(folder, over)
    assert settled(again, folder)
    caption(images[0], "by hand 0, red hat\n")  # a new edit is news again
    again()
    assert text(folder, images[0]).startswith("by hand 0, red hat")


def test_a_renamed_original_takes_its_edit_along(made):
    images, folder, again, _ = made
    images[0].rename(images[0].with_name("renamed.png"))
    images[0].with_suffix(".txt").rename(images[0].with_name("renamed.txt"))
    again()
    caption(images[0].with_name("renamed.png"), "by hand 0, red hat\n")
    again()
    (edited,) = folder.glob("renamed.txt")
    assert "red hat" in edited.read_text(encoding="utf-8")


def test_captions_that_are_none_change_nothing(made):
    images, folder, again, _ = made
    images[0].with_suffix(".txt").write_bytes(b"\xff\xfe\x00")
    images[1].with_suffix(".txt").write_text(" , \n", encoding="utf-8")
    images[2].with_suffix(".txt").unlink()
    assert settled(again, folder)


def test_a_dry_run_shows_the_edit_and_changes_nothing(place):
    images = small_set(place / "imgs")
    datasets.resize(place)
    caption(images[0], "by hand 0, red hat\n")
    before = tree(place)
    context = api.RunContext(dry_run=True)
    told = api.resize(place / "imgs", place / "small", api.ResizeOptions(max=32), context)
    (change,) = told.captions.changes
    assert (change.added, change.removed) == (("red hat",), ("lips", "smile"))
    assert tree(place) == before


def test_two_images_of_one_stem_share_the_edit(place):
    images = small_set(place / "imgs")
    datasets.write_image(images[0].with_suffix(".jpg"), 50)
    datasets.resize(place)
    caption(images[0], "by hand 0, red hat\n")
    datasets.resize(place)
    assert text(place / "small", images[0]) == "by hand 0, red hat"


def test_undo_refuses_where_the_taken_over_caption_was_edited_since(place):
    images = small_set(place / "imgs")
    datasets.resize(place)
    caption(images[0], "by hand 0, red hat\n")
    datasets.resize(place)
    (place / "small" / f"{images[0].stem}.txt").write_text("edited since\n", encoding="utf-8")
    with pytest.raises(PlanConflict, match="changed since"):
        api.undo(place / "small")
