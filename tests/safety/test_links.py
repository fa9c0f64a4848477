"""R20: symbolic links are not followed unless asked, and never written through."""

import shutil

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.cli.main import run
from datasetkit.core.errors import DskError, Exit, InputError
from tests.safety import datasets
from tests.safety.datasets import FINDING, TAG, WRITING, caption, small_set, write_image
from tests.safety.harness import digest, strays, tree
from tests.safety.tagger import NAME


@pytest.fixture
def outside(tmp_path):
    """A folder of somebody else's files, which must stay as it is."""
    folder = tmp_path / "outside"
    caption(write_image(folder / "theirs.png", 50), "theirs\n")
    before = tree(folder)
    yield folder
    assert tree(folder) == before


def test_linked_images_are_listed_and_left_alone(place, outside, capsys):
    small_set(place / "imgs", 2)
    (place / "imgs" / "linked.png").symlink_to(outside / "theirs.png")
    (place / "imgs" / "dangling.png").symlink_to(place / "nowhere.png")
    (place / "imgs" / "loop.png").symlink_to("loop.png")
    for command in (
        ["tag", "--tagger", NAME],
        ["resize", "--in-place", "--max", "32"],
        ["rules", "--trigger", "x"],
    ):
        assert run([command[0], str(place / "imgs"), *command[1:]]) == Exit.SOME_FAILED
        err = capsys.readouterr().err
        assert err.count("is a symbolic link") == 3
    assert (place / "imgs" / "linked.png").is_symlink()
    assert not (place / "imgs" / "linked.txt").exists()


@pytest.mark.parametrize("name", FINDING)
def test_subjects_and_faces_are_not_looked_for_through_links_unless_asked(
    name, place, outside, capsys, monkeypatch
):
    monkeypatch.chdir(place)
    small_set(place / "imgs", 2)
    (place / "imgs" / "linked.png").symlink_to(outside / "theirs.png")
    (place / "imgs" / "dangling.png").symlink_to(place / "nowhere.png")
    (place / "imgs" / "loop.png").symlink_to("loop.png")
    before = tree(place / "imgs")
    assert run(FINDING[name]) == Exit.SOME_FAILED
    assert capsys.readouterr().err.count("is a symbolic link") == 3
    assert not (place / "out" / "linked.png").exists()
    assert run([*FINDING[name], "--follow-links"]) == Exit.SOME_FAILED
    err = capsys.readouterr().err
    assert "loop.png" in err and "dangling.png" in err and "linked.png" not in err
    made = place / "out" / "linked.png"
    assert name == "faces list" or (made.is_file() and not made.is_symlink())
    assert tree(place / "imgs") == before


@pytest.mark.parametrize("verb", ["tag", "resize", "rules"])
def test_follow_links_reads_through_links_and_survives_loops(verb, place, outside, capsys):
    small_set(place / "imgs", 2)
    (place / "imgs" / "linked.png").symlink_to(outside / "theirs.png")
    (place / "imgs" / "loop.png").symlink_to("loop.png")
    (place / "imgs" / "dangling.png").symlink_to(place / "nowhere.png")
    more = {
        "tag": ["--tagger", NAME],
        "resize": [str(place / "out"), "--max", "32"],
        "rules": ["--trigger", "x"],
    }
    assert run([verb, str(place / "imgs"), *more[verb], "--follow-links"]) == Exit.SOME_FAILED
    assert "loop.png" in capsys.readouterr().err
    made = {"tag": place / "imgs" / "linked.txt", "resize": place / "out" / "linked.png"}.get(verb)
    assert made is None or (made.is_file() and not made.is_symlink())


def test_linked_folders_are_not_entered(place, outside, capsys):
    small_set(place / "imgs", 2)
    (place / "imgs" / "sub").symlink_to(outside, target_is_directory=True)
    (place / "imgs" / "round").symlink_to(place / "imgs", target_is_directory=True)
    result = api.tag(place / "imgs", api.TagOptions(tagger=NAME, recursive=True, follow_links=True))
    assert len(result.report.outcomes) == 2


@pytest.mark.parametrize("verb", ["tag", "rules", "import", "check"])
def test_a_linked_caption_is_never_written_through(verb, place, outside):
    images = small_set(place / "imgs", 2)
    for image in images:
        image.with_suffix(".txt").unlink(missing_ok=True)
    link = images[1].with_suffix(".txt")
    link.symlink_to(outside / "theirs.txt")
    images[1].with_name(images[1].name + ".txt").write_text("tag\n", encoding="utf-8")
    datasets.CASES[verb].run(place) if verb != "import" else _may_refuse(
        lambda: datasets.import_captions(place)
    )
    assert link.is_symlink()


def _may_refuse(action) -> None:
    try:
        action()
    except DskError as error:
        assert error.exit_code == Exit.USAGE


def test_a_dangling_caption_link_creates_nothing_elsewhere(place):
    images = small_set(place / "imgs", 2)
    images[1].with_suffix(".txt").unlink(missing_ok=True)
    images[1].with_suffix(".txt").symlink_to(place / "elsewhere.txt")
    result = api.tag(place / "imgs", TAG)
    assert [f.path.name for f in result.report.failed] == [images[1].name]
    assert not (place / "elsewhere.txt").exists()


@pytest.mark.parametrize("what", [".dsk", ".dsk/lock", ".dsk/store.sqlite"])
def test_a_linked_project_folder_is_refused(what, place, outside):
    small_set(place / "imgs", 2)
    link = place / "imgs" / what
    link.parent.mkdir(exist_ok=True)
    if what == ".dsk":
        link.symlink_to(outside, target_is_directory=True)
    else:
        link.symlink_to(outside / "theirs.txt")
    with pytest.raises(InputError, match="is a symbolic link"):
        datasets.tag(place)
    assert not (place / "imgs" / "photo 2.txt").exists()


# The cases that write images besides `resize`, each with its folder.
MADE = {"cutout": "cut", "faces-crop": "faces", "faces-erase": "erased"}


@pytest.mark.parametrize("verb", ["resize", "layout", *MADE])
def test_an_output_folder_that_is_a_link_is_refused(verb, place, outside):
    datasets._plain(place)
    link = place / {"resize": "small", "layout": "dataset", **MADE}[verb]
    link.symlink_to(outside, target_is_directory=True)
    with pytest.raises(InputError, match="is a symbolic link"):
        datasets.CASES[verb].run(place)


@pytest.mark.parametrize("verb", MADE)
@pytest.mark.parametrize("linked", ["photo 1.png", "masks/photo 1.png", "masks", ".dsk"])
def test_new_images_and_masks_are_not_written_through_links(verb, linked, place, outside):
    datasets._plain(place)
    link = place / MADE[verb] / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "theirs.png" if linked.endswith("png") else outside)
    before = tree(place)
    with pytest.raises(DskError) as raised:
        datasets.CASES[verb].run(place)
    assert raised.value.exit_code == Exit.USAGE
    assert tree(place) == before


@pytest.mark.parametrize("name", ["resize", *WRITING])
@pytest.mark.parametrize("linked", ["sub", "sub/deep", "sub/deep/masks"])
def test_a_linked_folder_among_the_outputs_is_not_entered(
    linked, name, place, outside, monkeypatch
):
    monkeypatch.chdir(place)
    write_image(place / "imgs" / "sub" / "deep" / "mine.png", 1)
    link = place / "out" / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    before = tree(place)
    assert run([*WRITING.get(name, ["resize", "imgs", "out"]), "--recursive"]) == Exit.USAGE
    assert tree(place) == before


@pytest.mark.parametrize("verb", MADE)
def test_captions_do_not_follow_images_through_links(verb, place, outside):
    """Neither from a link beside the old image nor into one beside the new one."""
    images = small_set(place / "imgs", 3)
    for n, image in enumerate(images[:2]):
        image.with_suffix(".txt").unlink(missing_ok=True)
        if n == 0:
            image.with_suffix(".txt").symlink_to(outside / "theirs.txt")
        else:
            caption(image, "sks, lips, forest\n")
    link = place / MADE[verb] / images[1].with_suffix(".txt").name
    link.parent.mkdir()
    link.symlink_to(outside / "theirs.txt")
    datasets.CASES[verb].run(place)
    assert link.is_symlink()
    made = place / MADE[verb] / images[0].with_suffix(".txt").name
    assert not made.exists()


def test_links_among_the_outputs_are_not_replaced(place, outside):
    images = small_set(place / "imgs", 3)
    (place / "small").mkdir()
    (place / "small" / images[0].name).symlink_to(outside / "theirs.png")
    (place / "small" / images[1].name).symlink_to(place / "nowhere")
    before = tree(place)
    with pytest.raises(DskError) as raised:
        datasets.resize(place)
    assert raised.value.exit_code == Exit.USAGE
    assert tree(place) == before


def test_linked_masks_and_captions_are_not_carried_into_a_data_set(place, outside):
    images = small_set(place / "imgs", 3)
    mask = place / "imgs" / "masks" / f"{images[1].stem}.png"
    mask.symlink_to(outside / "theirs.png")
    datasets.resize(place)
    datasets.layout(place)
    for verb in MADE:
        datasets.CASES[verb].run(place)
    theirs = digest(outside / "theirs.png")
    for folder in ("small", "dataset", *MADE.values()):
        assert theirs not in tree(place / folder).values()
    assert not (place / "faces" / "masks" / f"{images[1].stem}.png").exists()
    assert strays(place) == []


def test_masks_in_a_linked_folder_are_not_read(place, outside):
    images = small_set(place / "imgs", 3)
    Image.new("L", (48, 36)).save(outside / f"{images[1].stem}.png")
    shutil.rmtree(place / "imgs" / "masks")
    (place / "imgs" / "masks").symlink_to(outside)
    for verb in MADE:
        datasets.CASES[verb].run(place)
    (outside / f"{images[1].stem}.png").unlink()
    assert not (place / "faces" / "masks").exists()
    for verb in ("cutout", "faces-erase"):
        with Image.open(place / MADE[verb] / "masks" / f"{images[1].stem}.png") as mask:
            assert mask.getextrema()[1] == 255


def test_rename_moves_a_link_as_it_is(place, outside):
    images = small_set(place / "imgs", 2)
    images[0].with_suffix(".txt").unlink()
    images[0].with_suffix(".txt").symlink_to(outside / "theirs.txt")
    datasets.rename(place)
    moved = place / "imgs" / "p_001.txt"
    assert moved.is_symlink()
    assert moved.readlink() == outside / "theirs.txt"


def test_a_hard_linked_image_of_a_layout_keeps_its_bytes_when_the_source_is_resized(place):
    """Every writer replaces files: what shares the bytes is not changed."""
    images = small_set(place / "imgs", 3)
    datasets.layout(place)
    laid_out = place / "dataset" / "train" / "5_sks" / images[0].name
    before = digest(laid_out)
    assert laid_out.stat().st_nlink == 2
    datasets.resize_in_place(place)
    datasets.rules(place)
    assert digest(laid_out) == before
