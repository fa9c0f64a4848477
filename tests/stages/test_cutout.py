"""`dsk cutout`: subjects before one colour, masks, captions that follow; and how good the shipped
model is.
"""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from datasetkit import api
from datasetkit.core.errors import (
    ConfigError,
    Exit,
    InputError,
    MissingExtra,
    ModelFileError,
    PlanConflict,
)
from datasetkit.core.install import install_command, package_command
from datasetkit.images import pixels as images
from datasetkit.stages import cutout as stage
from datasetkit.verbs import cutout as cutting
from datasetkit.vision import providers, subject
from tests.extras import require_rembg
from tests.safety.datasets import caption, write_image
from tests.safety.finders import MiddleSubject

ASSETS = Path(__file__).parents[2] / "examples" / "assets"
SPRITES = sorted((ASSETS / "sylvie").glob("*.png"))
BACKGROUNDS = sorted((ASSETS / "backgrounds").glob("*.jpg"))


@pytest.fixture
def middle(monkeypatch):
    """Let the subject be in the middle of every image, at once."""
    monkeypatch.setattr(stage, "SubjectFinder", MiddleSubject)
    monkeypatch.setattr(cutting, "require_rembg", lambda: None)


@pytest.fixture
def made(tmp_path, middle):
    """Three images, two with captions, one of those edited in a way that matters."""
    several = [
        write_image(tmp_path / "imgs" / name, n, (96, 72))
        for n, name in enumerate(("a.png", "b.jpg", "c.webp"), 1)
    ]
    caption(several[0], "sks, smile, forest, outdoors\n")
    caption(several[1], "sks, white background, blue sky\n")
    return tmp_path


def cut(place, **options):
    return api.cutout(place / "imgs", place / "cut", api.CutoutOptions(**options))


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


# ---- the verb
# --------------------------------------------------------------------------------------------------


def test_images_are_opaque_their_background_plain_and_masks_lie_apart(made):
    result = cut(made, bg="#0a141e")
    assert [d.value.path.name for d in result.report.done] == ["a.png", "b.png", "c.png"]
    for done in result.report.done:
        with (
            Image.open(done.value.path) as seen,
            Image.open(made / "cut" / "masks" / done.value.path.name) as mask,
        ):
            assert (seen.mode, mask.mode, seen.size, mask.size) == ("RGB", "L", (96, 72), (96, 72))
            assert (np.asarray(seen)[np.asarray(mask) == 0] == (10, 20, 30)).all()
            assert 0.15 < done.value.area < 0.35
    assert sorted(p.name for p in (made / "imgs").iterdir()) == [
        "a.png",
        "a.txt",
        "b.jpg",
        "b.txt",
        "c.webp",
    ]


def test_captions_follow_the_background_and_the_old_ones_stay(made):
    result = cut(made, bg="#0a141e")
    assert text(made / "cut" / "a.txt") == "sks, smile, black background, simple background"
    assert text(made / "cut" / "b.txt") == "sks, black background, simple background"
    assert text(made / "imgs" / "a.txt") == "sks, smile, forest, outdoors"
    assert not (made / "cut" / "c.txt").exists()
    assert [c.path.name for c in result.captions.changes] == ["a.png", "b.png"]


def test_a_second_run_does_nothing_and_another_background_redoes_all(made):
    cut(made)
    before = {
        p: p.stat().st_mtime_ns
        for p in (made / "cut").rglob("*")
        if p.is_file() and ".dsk" not in p.parts
    }
    again = cut(made)
    assert again.report.done == [] and again.entry is None and again.captions.changes == ()
    assert {p: p.stat().st_mtime_ns for p in before} == before
    caption(made / "cut" / "c.png", "sks, white background, simple background, tree\n")
    assert cut(made).captions.changes == ()  # what a person writes there later is theirs
    black = cut(made, bg="black")
    assert len(black.report.done) == 3
    assert text(made / "cut" / "c.txt") == "sks, black background, simple background"


def test_undo_takes_captions_and_images_back(made):
    caption(made / "imgs" / "c.webp", "sks\n")
    cut(made)
    cut(made, bg="black")
    assert text(made / "cut" / "c.txt") == "sks, black background, simple background"
    api.undo(made / "cut")
    assert text(made / "cut" / "c.txt") == "sks, white background, simple background"
    api.undo(made / "cut")
    assert sorted(
        p.name for p in (made / "cut").rglob("*") if p.is_file() and ".dsk" not in p.parts
    ) == [
        "a.txt",
        "b.txt",
        "c.txt",
    ]


def test_a_dry_run_shows_captions_and_makes_nothing(made):
    result = api.cutout(
        made / "imgs", made / "cut", api.CutoutOptions(), api.RunContext(dry_run=True)
    )
    assert [s.reason for s in result.report.skipped] == ["would be cut out"] * 3
    added = [change.added for change in result.captions.changes]
    assert added == [("white background", "simple background"), ("simple background",)]
    assert not (made / "cut").exists()


def test_a_image_without_a_subject_is_failed_and_copied_as_it_is(made):
    nothing = made / "imgs" / "d.png"
    Image.new("RGB", (96, 72)).save(nothing)
    caption(nothing, "sks, forest\n")
    result = cut(made)
    (failed,) = result.report.failed
    assert failed.path == nothing and "almost nothing" in failed.error and "--model" in failed.hint
    assert [p.name for p in result.kept] == ["d.png"] and len(result.report.done) == 3
    assert images.load(made / "cut" / "d.png").tobytes() == images.load(nothing).tobytes()
    assert text(made / "cut" / "d.txt") == "sks, forest"
    assert not (made / "cut" / "masks" / "d.png").exists()
    time = (made / "cut" / "d.png").stat().st_mtime_ns
    again = cut(made)
    assert len(again.report.failed) == 1 and again.entry is None
    assert (made / "cut" / "d.png").stat().st_mtime_ns == time


def test_a_second_run_writes_nothing_for_a_copy_that_has_a_mask(made):
    nothing = made / "imgs" / "d.png"
    Image.new("RGB", (96, 72)).save(nothing)
    (made / "imgs" / "masks").mkdir()
    Image.new("L", (96, 72), 255).save(made / "imgs" / "masks" / "d.png")
    cut(made)
    assert (made / "cut" / "masks" / "d.png").is_file()
    for _ in range(2):
        again = cut(made)
        assert [p.name for p in again.kept] == ["d.png"] and again.entry is None


def test_a_mask_that_covers_nearly_everything_is_none_either():
    with pytest.raises(InputError, match=r"almost everything \(100.0%"):
        stage.require_subject(Image.new("L", (10, 10), 255), 0.01)
    assert stage.require_subject(Image.new("L", (10, 10), 255), 0) == 1


def test_a_broken_image_costs_only_itself(made):
    (made / "imgs" / "e.png").write_bytes(b"nothing")
    result = cut(made)
    assert [f.path.name for f in result.report.failed] == ["e.png"]
    assert len(result.report.done) == 3 and result.kept == ()


def test_transparency_that_cuts_out_already_is_used_as_it_is(made):
    sprite = images.load(SPRITES[0], alpha="keep")
    sprite.save(made / "imgs" / "sprite.png")
    result = cut(made, bg="white")
    (done,) = [d for d in result.report.done if d.record.path.name == "sprite.png"]
    assert done.note == stage.OWN_ALPHA
    laid = Image.alpha_composite(Image.new("RGBA", sprite.size, "white"), sprite).convert("RGB")
    gap = np.abs(np.asarray(images.load(done.value.path), np.int16) - np.asarray(laid))
    assert gap.max() <= 1


def test_keep_alpha_writes_transparent_images_above_the_colour(made):
    cut(made, keep_alpha=True, bg="grey")
    with Image.open(made / "cut" / "a.png") as seen:
        assert seen.mode == "RGBA"
        pixels = np.asarray(seen)
    assert (pixels[pixels[..., 3] == 0][:, :3] == 128).all()


def test_a_feathered_edge_stays_within_the_mask():
    mask = (
        MiddleSubject("").mask(Image.new("RGB", (200, 160), "red")).point([0] * 128 + [255] * 128)
    )
    soft = stage.feathered(mask, 6)
    hard, gentle = np.asarray(mask), np.asarray(soft)
    assert (gentle[hard == 0] == 0).all() and gentle[80, 100] == 255
    assert ((gentle > 0) & (gentle < 255)).sum() > 500


def test_masks_that_came_along_are_joined(made):
    before = Image.new("L", (48, 36), 255)
    before.paste(0, (0, 0, 24, 36))
    (made / "imgs" / "masks").mkdir()
    before.save(made / "imgs" / "masks" / "a.png")
    cut(made)
    joined = np.asarray(Image.open(made / "cut" / "masks" / "a.png"))
    assert (joined[:, :44] == 0).all() and joined[36, 52] == 255


def test_a_turned_photo_is_cut_out_as_it_is_looked_at(made):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.open(made / "imgs" / "a.png").save(made / "imgs" / "turned.png", exif=exif)
    images.load(made / "imgs" / "turned.png").save(made / "imgs" / "upright.png")
    cut(made)
    assert (made / "cut" / "turned.png").read_bytes() == (made / "cut" / "upright.png").read_bytes()


def test_images_of_one_stem_have_outputs_of_their_own(made):
    write_image(made / "imgs" / "a.jpg", 8, (96, 72))
    cut(made)
    assert {p.name for p in (made / "cut").glob("*.png")} == {"a.png", "a_2.png", "b.png", "c.png"}


def test_a_renamed_image_takes_output_mask_and_caption_with_it(made):
    cut(made)
    (made / "imgs" / "a.png").rename(made / "imgs" / "z.png")
    result = cut(made)
    assert result.report.done == [] and [f.new and f.new.name for f in result.followed] == ["z.png"]
    assert (made / "cut" / "masks" / "z.png").is_file() and text(made / "cut" / "z.txt").startswith(
        "sks, smile"
    )
    assert (
        len(cut(made, bg="black").report.done) == 3
    )  # and the mask that moved is still known as dsk's own


@pytest.mark.parametrize("name", ["a.png", "masks/a.png"])
def test_a_file_of_somebody_else_is_never_replaced(made, name):
    theirs = write_image(made / "cut" / name, 99, (96, 72))
    data = theirs.read_bytes()
    with pytest.raises(PlanConflict, match="not made by dsk"):
        cut(made)
    assert theirs.read_bytes() == data and not (made / "cut" / "b.png").exists()


def test_outputs_whose_project_folder_was_deleted_are_taken_over(made):
    cut(made)
    shutil.rmtree(made / "cut" / ".dsk")
    assert cut(made).report.done == []


def test_the_input_folder_is_no_output(made):
    with pytest.raises(InputError, match="the input folder itself"):
        api.cutout(made / "imgs", made / "imgs", api.CutoutOptions())


# ---- the model
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("isnet-anim", "did you mean isnet-anime?"),
        ("sam", "one of: u2netp"),
        ("atlascloud", "one of: u2netp"),
    ],
)
def test_models_that_are_none_or_need_a_person_are_refused(name, hint, tmp_path):
    require_rembg()
    with pytest.raises(ConfigError) as raised:
        api.cutout(tmp_path, None, api.CutoutOptions(model=name))
    assert hint in raised.value.hint


def test_models_with_a_licence_are_rembgs_and_the_one_for_no_commerce_has_to_be_named():
    require_rembg()
    for name in subject.LICENCES:
        subject.require_name(name)
    known = {session.name() for session in subject._rembg().sessions_class}
    assert set(subject.LICENCES) <= known
    assert "not for commercial use" in subject.licence("bria-rmbg")
    assert api.CutoutOptions().model == "u2netp"


def test_a_missing_extra_is_named_with_its_pip_line(made, monkeypatch):
    monkeypatch.setattr(cutting, "require_rembg", subject.require_rembg)
    monkeypatch.setitem(sys.modules, "rembg", None)
    with pytest.raises(MissingExtra) as raised:
        cut(made)
    assert (
        raised.value.exit_code == Exit.MODEL
        and install_command("cutout", "cpu") in raised.value.hint
    )
    assert not (made / "cut").exists()


@pytest.mark.parametrize(
    ("provider", "kind", "hint"),
    [
        ("cudo", ConfigError, "did you mean cuda?"),
        ("directml", MissingExtra, package_command("onnxruntime-directml")),
    ],
)
def test_a_provider_that_is_not_there_is_said_and_nothing_is_made(made, provider, kind, hint):
    with pytest.raises(kind) as raised:
        cut(made, provider=provider)
    assert hint in raised.value.hint and not (made / "cut").exists()


def test_a_provider_that_does_not_start_is_never_replaced(monkeypatch):
    require_rembg()
    monkeypatch.setattr(providers, "choose", lambda _: "cpu")
    with pytest.raises(ModelFileError, match="cuda is installed but does not start"):
        subject.SubjectFinder(provider="cuda")
    assert subject.SubjectFinder().device == "cpu"


def test_a_model_that_cannot_be_fetched_stops_the_run_before_the_first_image(tmp_path, monkeypatch):
    require_rembg()
    write_image(tmp_path / "imgs" / "a.png", 1)
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "none"))
    monkeypatch.setattr(socket, "socket", _no_network)
    monkeypatch.setattr(socket, "getaddrinfo", _no_network)
    with pytest.raises(ModelFileError, match="isnet-anime could not be loaded") as raised:
        cut(tmp_path, model="isnet-anime")
    assert "u2netp needs no download" in raised.value.hint
    assert not list((tmp_path / "cut").glob("*.png"))


def _no_network(*_: object, **__: object) -> None:
    raise OSError("there is no network")


@pytest.mark.long
def test_the_shipped_model_asks_for_no_network_and_writes_nothing_at_home(tmp_path):
    require_rembg()
    (tmp_path / "imgs").mkdir()
    images.save(composite(SPRITES[0], BACKGROUNDS[2])[0], tmp_path / "imgs" / "a.png")
    script = (
        "import socket, sys\n"
        "def no(*a, **k): raise SystemExit('the network was asked for')\n"
        "socket.socket.connect = socket.getaddrinfo = no\n"
        "from datasetkit.cli.main import run\n"
        "code = run(['cutout', 'imgs', 'cut'])\n"
        "assert 'rembg.sessions' in sys.modules and not {'pymatting', 'numba'} & set(sys.modules)\n"
        "sys.exit(code)\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": "", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cut out 1 image (u2netp, cpu)" in done.stdout and "Apache-2.0" in done.stdout
    assert [p for p in home.rglob("*") if p.suffix == ".onnx"] == []


def composite(sprite: Path, background: Path) -> tuple[Image.Image, Image.Image]:
    """Lay a sprite over a painted background; return the image and the sprite's alpha in its
    place.
    """
    scene = images.load(background)
    figure = images.load(sprite, alpha="keep")
    size = (round(figure.width * scene.height / figure.height), scene.height)
    figure = figure.resize(size, Image.Resampling.LANCZOS)
    left = (scene.width - figure.width) // 2
    around = (left - 200, 0, left + figure.width + 200, scene.height)
    whole = Image.new("RGBA", scene.size)
    whole.paste(figure, (left, 0))
    seen = Image.alpha_composite(scene.convert("RGBA"), whole).convert("RGB")
    return seen.crop(around), whole.getchannel("A").crop(around)


def overlap(mask: Image.Image, truth: Image.Image) -> float:
    """Intersection over union of two masks at half."""
    found, wanted = np.asarray(mask) >= 128, np.asarray(truth) >= 128
    return float((found & wanted).sum() / (found | wanted).sum())


def measured(pairs) -> tuple[list[float], list[float]]:
    """Return for each composite the overlap of the mask, and which share of the kept pixels shows
    the old background.

    A pixel shows it where it is well outside of the sprite (beyond a soft edge of 1.5 % of the
    height), and differs from the new white by more than 32 of 255.
    """
    from PIL import ImageFilter

    from datasetkit.vision.flatten import flatten

    finder = subject.SubjectFinder()
    overlaps, leaks = [], []
    for sprite, background in pairs:
        seen, truth = composite(sprite, background)
        mask = finder.mask(seen)
        overlaps.append(overlap(mask, truth))
        flat = np.asarray(flatten(seen, mask, (255, 255, 255)), np.int16)
        edge = 2 * round(seen.height * 0.015) // 2 * 2 + 1
        near = np.asarray(truth.filter(ImageFilter.MaxFilter(edge))) > 0
        shows = (255 - flat).max(axis=2) > 32
        leaks.append(float((shows & ~near).sum() / near.sum()))
    return overlaps, leaks


@pytest.mark.long
def test_the_shipped_model_cuts_a_drawn_figure_out_of_a_painted_place():
    require_rembg()
    overlaps, leaks = measured([(SPRITES[0], BACKGROUNDS[2])])
    assert overlaps[0] >= 0.9 and leaks[0] < 0.02


@pytest.mark.slow
def test_over_all_figures_and_places_the_mean_overlap_is_at_least_nine_tenths():
    require_rembg()
    overlaps, leaks = measured([(s, b) for s in SPRITES for b in BACKGROUNDS])
    assert np.mean(overlaps) >= 0.90
    assert np.mean(leaks) < 0.02
