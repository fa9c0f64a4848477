"""A caption that is written beside an original after its image was resized, cut out or cropped is
used, and replaces no other edit.
"""

import pytest

from datasetkit import api
from datasetkit.core.errors import PlanConflict
from tests.safety import datasets
from tests.safety.datasets import CASES, TAG, caption, small_set
from tests.safety.harness import tree

OUTPUTS = {"resize": "small", "cutout": "cut", "faces-crop": "faces", "faces-erase": "erased"}
PLAIN = ("resize", "faces-crop")  # captions are copied unchanged


@pytest.fixture(params=OUTPUTS)
def made(request, workdir):
    """Images that a verb made, and how to run it again: (originals, folder of outputs, verb)."""
    images = small_set(workdir / "imgs")
    verb = CASES[request.param].run
    verb(workdir)
    return images, workdir / OUTPUTS[request.param], lambda: verb(workdir), request.param


def text(folder, image):
    (path,) = folder.glob(f"{image.stem}.txt")
    return path.read_text(encoding="utf-8").strip()


def settled(again, folder):
    """Tell whether another run has nothing to do."""
    before = len(api.history(folder)), tree(folder)
    again()
    return (len(api.history(folder)), tree(folder)) == before


def test_an_edit_beside_the_original_is_copied_to_the_output_and_can_be_undone(made):
    images, folder, again, _ = made
    before = tree(folder)
    caption(images[0], "by hand 0, smile, red hat\n")
    again()
    assert "red hat" in text(folder, images[0])
    assert settled(again, folder)
    api.undo(folder)
    assert tree(folder) == before
    assert settled(again, folder)


def test_a_person_caption_beside_the_original_replaces_one_that_dsk_wrote(made):
    images, folder, again, _ = made
    api.tag(folder, TAG)
    assert "sks" in text(folder, images[4])
    caption(images[4], "by hand at last\n")
    again()
    assert text(folder, images[4]).startswith("by hand at last")
    api.tag(folder, TAG)
    assert text(folder, images[4]).startswith("by hand at last")
    assert settled(again, folder)


def test_an_edit_of_the_output_is_kept_despite_edits_beside_the_original(made):
    images, folder, again, _ = made
    (folder / f"{images[0].stem}.txt").write_text("pruned, in the output\n", encoding="utf-8")
    assert settled(again, folder)
    caption(images[0], "by hand 0, red hat\n")
    assert settled(again, folder)
    assert text(folder, images[0]) == "pruned, in the output"


def test_changes_by_rules_to_the_output_are_kept(made):
    images, folder, again, _ = made
    api.rules(folder, api.RulesOptions(trigger=("sks",)))
    caption(images[0], "by hand 0, red hat\n")
    assert settled(again, folder)
    assert text(folder, images[0]).startswith("sks, ")


def test_captions_that_tag_overwrote_are_not_restored(made):
    images, folder, again, _ = made
    over = api.TagOptions(tagger=TAG.tagger, trigger=("sks",), existing="overwrite")
    api.tag(folder, over)
    assert settled(again, folder)
    caption(images[0], "by hand 0, red hat\n")  # a new edit is copied again
    again()
    assert text(folder, images[0]).startswith("by hand 0, red hat")


def test_the_edit_follows_a_renamed_original(made):
    images, folder, again, _ = made
    images[0].rename(images[0].with_name("renamed.png"))
    images[0].with_suffix(".txt").rename(images[0].with_name("renamed.txt"))
    again()
    caption(images[0].with_name("renamed.png"), "by hand 0, red hat\n")
    again()
    (edited,) = folder.glob("renamed.txt")
    assert "red hat" in edited.read_text(encoding="utf-8")


def test_files_that_are_not_captions_change_nothing(made):
    images, folder, again, _ = made
    images[0].with_suffix(".txt").write_bytes(b"\xff\xfe\x00")
    images[1].with_suffix(".txt").write_text(" , \n", encoding="utf-8")
    images[2].with_suffix(".txt").unlink()
    assert settled(again, folder)


def test_a_dry_run_shows_the_edit_and_changes_nothing(workdir):
    images = small_set(workdir / "imgs")
    datasets.resize(workdir)
    caption(images[0], "by hand 0, red hat\n")
    before = tree(workdir)
    context = api.RunContext(dry_run=True)
    told = api.resize(workdir / "imgs", workdir / "small", api.ResizeOptions(max=32), context)
    (change,) = told.captions.changes
    assert (change.added, change.removed) == (("red hat",), ("lips", "smile"))
    assert tree(workdir) == before


def test_two_images_of_one_stem_share_the_edit(workdir):
    images = small_set(workdir / "imgs")
    datasets.write_image(images[0].with_suffix(".jpg"), 50)
    datasets.resize(workdir)
    caption(images[0], "by hand 0, red hat\n")
    datasets.resize(workdir)
    assert text(workdir / "small", images[0]) == "by hand 0, red hat"


def test_undo_refuses_if_the_copied_caption_was_edited_since(workdir):
    images = small_set(workdir / "imgs")
    datasets.resize(workdir)
    caption(images[0], "by hand 0, red hat\n")
    datasets.resize(workdir)
    (workdir / "small" / f"{images[0].stem}.txt").write_text("edited since\n", encoding="utf-8")
    with pytest.raises(PlanConflict, match="changed since"):
        api.undo(workdir / "small")
