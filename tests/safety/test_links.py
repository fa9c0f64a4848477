"""Symbolic links are not followed by default, and never written through."""

import shutil

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.cli.main import run
from datasetkit.core.errors import DskError, Exit, InputError
from datasetkit.options.dataset import LayoutOptions
from tests.safety import datasets
from tests.safety.datasets import FINDING, TAG, WRITING, caption, small_set, write_image
from tests.safety.harness import digest, strays, tree
from tests.safety.tagger import NAME


@pytest.fixture
def outside(tmp_path):
    """A folder of somebody else's files, which must not change."""
    folder = tmp_path / "outside"
    caption(write_image(folder / "theirs.png", 50), "theirs\n")
    before = tree(folder)
    yield folder
    assert tree(folder) == before


def test_linked_images_are_listed_and_left_alone(workdir, outside, capsys):
    small_set(workdir / "imgs", 2)
    (workdir / "imgs" / "linked.png").symlink_to(outside / "theirs.png")
    (workdir / "imgs" / "dangling.png").symlink_to(workdir / "nowhere.png")
    (workdir / "imgs" / "loop.png").symlink_to("loop.png")
    for command in (
        ["tag", "--tagger", NAME],
        ["resize", "--in-place", "--max", "32"],
        ["rules", "--trigger", "x"],
    ):
        assert run([command[0], str(workdir / "imgs"), *command[1:]]) == Exit.SOME_FAILED
        err = capsys.readouterr().err
        assert err.count("is a symbolic link") == 3
    assert (workdir / "imgs" / "linked.png").is_symlink()
    assert not (workdir / "imgs" / "linked.txt").exists()


@pytest.mark.parametrize("name", FINDING)
def test_subjects_and_faces_are_not_searched_through_links_by_default(
    name, workdir, outside, capsys, monkeypatch
):
    monkeypatch.chdir(workdir)
    small_set(workdir / "imgs", 2)
    (workdir / "imgs" / "linked.png").symlink_to(outside / "theirs.png")
    (workdir / "imgs" / "dangling.png").symlink_to(workdir / "nowhere.png")
    (workdir / "imgs" / "loop.png").symlink_to("loop.png")
    before = tree(workdir / "imgs")
    assert run(FINDING[name]) == Exit.SOME_FAILED
    assert capsys.readouterr().err.count("is a symbolic link") == 3
    assert not (workdir / "out" / "linked.png").exists()
    assert run([*FINDING[name], "--follow-links"]) == Exit.SOME_FAILED
    err = capsys.readouterr().err
    assert "loop.png" in err and "dangling.png" in err and "linked.png" not in err
    made = workdir / "out" / "linked.png"
    assert name == "faces list" or (made.is_file() and not made.is_symlink())
    assert tree(workdir / "imgs") == before


@pytest.mark.parametrize("verb", ["tag", "resize", "rules"])
def test_follow_links_reads_through_links_and_survives_loops(verb, workdir, outside, capsys):
    small_set(workdir / "imgs", 2)
    (workdir / "imgs" / "linked.png").symlink_to(outside / "theirs.png")
    (workdir / "imgs" / "loop.png").symlink_to("loop.png")
    (workdir / "imgs" / "dangling.png").symlink_to(workdir / "nowhere.png")
    more = {
        "tag": ["--tagger", NAME],
        "resize": [str(workdir / "out"), "--max", "32"],
        "rules": ["--trigger", "x"],
    }
    assert run([verb, str(workdir / "imgs"), *more[verb], "--follow-links"]) == Exit.SOME_FAILED
    assert "loop.png" in capsys.readouterr().err
    made = {"tag": workdir / "imgs" / "linked.txt", "resize": workdir / "out" / "linked.png"}.get(
        verb
    )
    assert made is None or (made.is_file() and not made.is_symlink())


def test_linked_folders_are_not_entered(workdir, outside, capsys):
    small_set(workdir / "imgs", 2)
    (workdir / "imgs" / "sub").symlink_to(outside, target_is_directory=True)
    (workdir / "imgs" / "round").symlink_to(workdir / "imgs", target_is_directory=True)
    result = api.tag(
        workdir / "imgs", api.TagOptions(tagger=NAME, recursive=True, follow_links=True)
    )
    assert len(result.report.outcomes) == 2


@pytest.mark.parametrize("verb", ["tag", "rules", "import", "check"])
def test_a_linked_caption_is_never_written_through(verb, workdir, outside):
    images = small_set(workdir / "imgs", 2)
    for image in images:
        image.with_suffix(".txt").unlink(missing_ok=True)
    link = images[1].with_suffix(".txt")
    link.symlink_to(outside / "theirs.txt")
    images[1].with_name(images[1].name + ".txt").write_text("tag\n", encoding="utf-8")
    datasets.CASES[verb].run(workdir) if verb != "import" else _may_refuse(
        lambda: datasets.import_captions(workdir)
    )
    assert link.is_symlink()


def _may_refuse(action) -> None:
    try:
        action()
    except DskError as error:
        assert error.exit_code == Exit.USAGE


def test_a_dangling_caption_link_creates_nothing_elsewhere(workdir):
    images = small_set(workdir / "imgs", 2)
    images[1].with_suffix(".txt").unlink(missing_ok=True)
    images[1].with_suffix(".txt").symlink_to(workdir / "elsewhere.txt")
    result = api.tag(workdir / "imgs", TAG)
    assert [f.path.name for f in result.report.failed] == [images[1].name]
    assert not (workdir / "elsewhere.txt").exists()


@pytest.mark.parametrize("what", [".dsk", ".dsk/lock", ".dsk/store.sqlite"])
def test_a_linked_project_folder_is_refused(what, workdir, outside):
    small_set(workdir / "imgs", 2)
    link = workdir / "imgs" / what
    link.parent.mkdir(exist_ok=True)
    if what == ".dsk":
        link.symlink_to(outside, target_is_directory=True)
    else:
        link.symlink_to(outside / "theirs.txt")
    with pytest.raises(InputError, match="is a symbolic link"):
        datasets.tag(workdir)
    assert not (workdir / "imgs" / "photo 2.txt").exists()


# The cases that write images besides `resize`, each with its folder.
MADE = {"cutout": "cut", "faces-crop": "faces", "faces-erase": "erased"}


@pytest.mark.parametrize("verb", ["resize", "layout", *MADE])
def test_an_output_folder_that_is_a_link_is_refused(verb, workdir, outside):
    datasets._plain(workdir)
    link = workdir / {"resize": "small", "layout": "dataset", **MADE}[verb]
    link.symlink_to(outside, target_is_directory=True)
    with pytest.raises(InputError, match="is a symbolic link"):
        datasets.CASES[verb].run(workdir)


@pytest.mark.parametrize("verb", MADE)
@pytest.mark.parametrize("linked", ["photo 1.png", "masks/photo 1.png", "masks", ".dsk"])
def test_new_images_and_masks_are_not_written_through_links(verb, linked, workdir, outside):
    datasets._plain(workdir)
    link = workdir / MADE[verb] / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "theirs.png" if linked.endswith("png") else outside)
    before = tree(workdir)
    with pytest.raises(DskError) as raised:
        datasets.CASES[verb].run(workdir)
    assert raised.value.exit_code == Exit.USAGE
    assert tree(workdir) == before


@pytest.mark.parametrize("name", ["resize", *WRITING])
@pytest.mark.parametrize("linked", ["sub", "sub/deep", "sub/deep/masks"])
def test_a_linked_folder_among_the_outputs_is_not_entered(
    linked, name, workdir, outside, monkeypatch
):
    monkeypatch.chdir(workdir)
    write_image(workdir / "imgs" / "sub" / "deep" / "mine.png", 1)
    link = workdir / "out" / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    before = tree(workdir)
    assert run([*WRITING.get(name, ["resize", "imgs", "out"]), "--recursive"]) == Exit.USAGE
    assert tree(workdir) == before


@pytest.mark.parametrize("verb", MADE)
def test_captions_do_not_follow_images_through_links(verb, workdir, outside):
    """Neither from a link beside the old image nor into one beside the new image."""
    images = small_set(workdir / "imgs", 3)
    for n, image in enumerate(images[:2]):
        image.with_suffix(".txt").unlink(missing_ok=True)
        if n == 0:
            image.with_suffix(".txt").symlink_to(outside / "theirs.txt")
        else:
            caption(image, "sks, lips, forest\n")
    link = workdir / MADE[verb] / images[1].with_suffix(".txt").name
    link.parent.mkdir()
    link.symlink_to(outside / "theirs.txt")
    datasets.CASES[verb].run(workdir)
    assert link.is_symlink()
    made = workdir / MADE[verb] / images[0].with_suffix(".txt").name
    assert not made.exists()


def test_links_among_the_outputs_are_not_replaced(workdir, outside):
    images = small_set(workdir / "imgs", 3)
    (workdir / "small").mkdir()
    (workdir / "small" / images[0].name).symlink_to(outside / "theirs.png")
    (workdir / "small" / images[1].name).symlink_to(workdir / "nowhere")
    before = tree(workdir)
    with pytest.raises(DskError) as raised:
        datasets.resize(workdir)
    assert raised.value.exit_code == Exit.USAGE
    assert tree(workdir) == before


def test_linked_masks_and_captions_are_not_copied_into_a_dataset(workdir, outside):
    images = small_set(workdir / "imgs", 3)
    mask = workdir / "imgs" / "masks" / f"{images[1].stem}.png"
    mask.symlink_to(outside / "theirs.png")
    datasets.resize(workdir)
    datasets.layout(workdir)
    for verb in MADE:
        datasets.CASES[verb].run(workdir)
    theirs = digest(outside / "theirs.png")
    for folder in ("small", "dataset", *MADE.values()):
        assert theirs not in tree(workdir / folder).values()
    assert not (workdir / "faces" / "masks" / f"{images[1].stem}.png").exists()
    assert strays(workdir) == []


def test_masks_in_a_linked_folder_are_not_read(workdir, outside):
    images = small_set(workdir / "imgs", 3)
    Image.new("L", (48, 36)).save(outside / f"{images[1].stem}.png")
    shutil.rmtree(workdir / "imgs" / "masks")
    (workdir / "imgs" / "masks").symlink_to(outside)
    for verb in MADE:
        datasets.CASES[verb].run(workdir)
    (outside / f"{images[1].stem}.png").unlink()
    assert not (workdir / "faces" / "masks").exists()
    for verb in ("cutout", "faces-erase"):
        with Image.open(workdir / MADE[verb] / "masks" / f"{images[1].stem}.png") as mask:
            assert mask.getextrema()[1] == 255


def test_rename_moves_a_link_as_it_is(workdir, outside):
    images = small_set(workdir / "imgs", 2)
    images[0].with_suffix(".txt").unlink()
    images[0].with_suffix(".txt").symlink_to(outside / "theirs.txt")
    datasets.rename(workdir)
    moved = workdir / "imgs" / "p_001.txt"
    assert moved.is_symlink()
    assert moved.readlink() == outside / "theirs.txt"


def test_a_hard_linked_image_of_a_layout_keeps_its_bytes_when_the_source_is_resized(workdir):
    """Every writer replaces files, so other names of the old file keep its bytes."""
    images = small_set(workdir / "imgs", 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workdir)
        api.layout(["5_sks=imgs"], LayoutOptions(link=True))
    laid_out = workdir / "dataset" / "train" / "5_sks" / images[0].name
    before = digest(laid_out)
    assert laid_out.stat().st_nlink == 2
    datasets.resize_in_place(workdir)
    datasets.rules(workdir)
    assert digest(laid_out) == before
