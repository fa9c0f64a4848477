"""`dsk check --fix`: one plan for everything that needs no decision, and one undo."""

import shutil

import pytest

from datasetkit import api
from datasetkit.checks import registry
from datasetkit.core.files import find_root
from datasetkit.project.session import RunContext
from tests.checks.folders import caption, laid_out, shapes, sound, write_image
from tests.safety.harness import tree

# The checks that have a fix, and nothing that takes time.
FIXED = tuple(name for name, check in registry.CHECKS.items() if check.fix)


@pytest.fixture
def imgs(tmp_path):
    return sound(tmp_path / "imgs")


def fix(folder, context: RunContext | None = None, **options: object):
    chosen = api.CheckOptions(only=FIXED, **options)  # type: ignore[arg-type]
    return api.check(folder, chosen, fix=True, context=context or RunContext())


def text(folder, stem: str) -> bytes:
    return bytes((folder / f"{stem}.txt").read_bytes())


def spoil(folder) -> None:
    """Add every problem that can be fixed."""
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfsks, 1girl\r\nsmile\r\n")
    caption(folder / "b.png", "1girl, sks, hat, SKS, Hat")
    (folder / "c.txt").rename(folder / "c.caption")
    (folder / "d.png").rename(folder / "d.jpg")
    shutil.copyfile(folder / "d.txt", folder / "d.caption")
    caption(write_image(folder / "e.png", 40), "sks, smile, outdoors")


MENDED = {
    "a": b"sks, 1girl, smile\n",
    "b": b"sks, 1girl, hat\n",
    "c": b"sks, hat, outdoors\n",
    "d": b"sks, 1girl, outdoors\n",
    "e": b"sks, smile, outdoors\n",
}


def test_everything_that_can_be_fixed_is_fixed_at_once(imgs):
    spoil(imgs)
    result = fix(imgs)
    found = {(f.check, f.path.name) for f in result.findings}
    assert found == {
        ("bom", "a.png"), ("lines", "a.png"), ("trigger-twice", "b.png"),
        ("trigger-first", "b.png"), ("tag-twice", "b.png"), ("caption-name", "c.png"),
        ("caption-name", "d.jpg"), ("suffix", "d.jpg"),
    }  # fmt: skip
    assert all(f.fixed for f in result.findings) and result.unfixed == 0
    assert {stem: text(imgs, stem) for stem in MENDED} == MENDED
    assert {p.name for p in imgs.iterdir() if p.name != ".dsk"} == {
        f"{s}.{x}" for s in MENDED for x in ("png", "txt")
    }
    assert fix(imgs).findings == ()
    assert len(api.history(imgs)) == 1


def test_one_undo_reverts_all_fixes(imgs):
    spoil(imgs)
    before = tree(imgs)
    fix(imgs)
    assert tree(imgs) != before
    api.undo(imgs)
    assert tree(imgs) == before


def test_a_dry_run_reports_the_fixes_and_changes_nothing(imgs):
    spoil(imgs)
    before = tree(imgs)
    result = fix(imgs, RunContext(dry_run=True))
    assert len(result.plan.ops) >= 6 and result.entry is None
    assert tree(imgs) == before and not (imgs / ".dsk").exists()


def test_without_fix_nothing_is_changed(imgs):
    spoil(imgs)
    before = tree(imgs)
    result = api.check(imgs, api.CheckOptions(only=FIXED))
    assert len(result.findings) == 8 and not any(f.fixed for f in result.findings)
    assert tree(imgs) == before and result.entry is None


def test_only_the_selected_checks_are_fixed(imgs):
    spoil(imgs)
    api.check(imgs, api.CheckOptions(only=("bom",)), fix=True)
    assert text(imgs, "a") == b"sks, 1girl\r\nsmile\r\n"
    assert text(imgs, "b") == b"1girl, sks, hat, SKS, Hat\n"
    assert (imgs / "c.caption").exists()


def test_a_missing_trigger_and_an_unknown_tag_are_left_to_the_user(imgs):
    caption(imgs / "b.png", "1girl, long hiar, hat")
    before = tree(imgs)
    result = api.check(imgs, api.CheckOptions(skip=("text", "faces")), fix=True)
    assert {f.check for f in result.findings} == {"trigger-missing", "unknown", "singleton"}
    assert result.plan.ops == () and tree(imgs) == before


def test_a_second_caption_with_other_tags_is_kept(imgs):
    (imgs / "b.caption").write_text("something else\n", encoding="utf-8")
    result = fix(imgs)
    assert [f.fixed for f in result.findings] == [False]
    assert (imgs / "b.caption").exists() and result.plan.ops == ()


def test_a_taken_name_is_not_used(imgs):
    shapes(40).save(imgs / "b.jpg", "PNG")
    result = fix(imgs)
    assert [(f.path.name, f.fixed) for f in result.findings] == [("b.jpg", False)]
    assert (imgs / "b.jpg").exists()


def test_two_images_never_get_the_same_name(imgs):
    for name, seed in (("e.jpg", 41), ("e.webp", 42)):
        shapes(seed).save(imgs / name, "PNG")
    result = fix(imgs)
    assert sorted(f.fixed for f in result.findings) == [False, True]
    assert {p.name for p in imgs.glob("e.*")} == {"e.png", "e.webp"}


def test_side_cars_go_with_their_image(imgs):
    (imgs / "b.png").rename(imgs / "b.jpg")
    (imgs / "b.jpg.json").write_text("{}", encoding="utf-8")
    (imgs / "b.txt").rename(imgs / "b.jpg.txt")
    api.check(imgs, api.CheckOptions(only=("suffix",)), fix=True)
    assert {p.name for p in imgs.glob("b.*")} == {"b.png", "b.png.json", "b.png.txt"}
    fix(imgs)
    assert {p.name for p in imgs.glob("b.*")} == {"b.png", "b.png.json", "b.txt"}


def test_a_mask_belongs_to_its_image_by_its_stem(imgs):
    (imgs / "masks").mkdir()
    (imgs / "b.png").rename(imgs / "b.jpg")
    shapes(2).convert("L").save(imgs / "masks" / "b.png")
    fix(imgs)
    assert (imgs / "b.png").exists() and (imgs / "masks" / "b.png").exists()


def test_replaced_files_go_to_the_trash_of_the_project(tmp_path, monkeypatch):
    """Also where captions of several folders have one name."""
    for concept in ("one", "two"):
        folder = sound(tmp_path / concept / "imgs", 1 if concept == "one" else 21)
        (folder / "c.txt").rename(folder / "c.caption")
    (tmp_path / "dsk.toml").write_text(
        '[run]\nsteps = ["tag"]\n[[concept]]\nfolder = "one/imgs"\nname = "sks"\n'
        '[[concept]]\nfolder = "two/imgs"\nname = "other"\n',
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    result = fix(type(tmp_path)())
    assert len(result.findings) == 2 and result.unfixed == 0
    assert len(list((find_root(tmp_path) / ".dsk" / "trash").rglob("c.caption"))) == 2
    api.undo(tmp_path)
    assert (tmp_path / "two" / "imgs" / "c.caption").exists()


def test_laid_out_captions_have_to_be_fixed_at_their_source(tmp_path):
    (tmp_path / "dsk.toml").write_text("", encoding="utf-8")
    imgs = sound(tmp_path / "imgs")
    caption(imgs / "b.png", "1girl, sks, hat")
    api.layout((f"3_sks={imgs}",), api.LayoutOptions(out=str(tmp_path / "dataset")))
    before = tree(tmp_path)
    result = fix(tmp_path / "dataset")
    assert result.at_source == (imgs / "b.png",) and result.unfixed == 1
    assert tree(tmp_path) == before
    fix(imgs)
    assert text(imgs, "b") == b"sks, 1girl, hat\n"


def test_a_dataset_that_another_tool_laid_out_is_fixed_in_place(tmp_path):
    root = laid_out(tmp_path / "set")
    caption(root / "train" / "3_sks" / "b.png", "1girl, sks, hat")
    assert fix(root).unfixed == 0
    assert text(root / "train" / "3_sks", "b") == b"sks, 1girl, hat\n"
