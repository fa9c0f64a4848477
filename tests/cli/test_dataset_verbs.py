"""plan-repeats, layout, reg, report, export and import: the dataset that trainers read."""

import csv
import io
import json
import tomllib

import pytest
from PIL import Image

from tests.cli.conftest import captions, images, inode, snapshot, write_image

PLAN = ("plan-repeats", "--steps", "1000", "--epochs", "10")


def captioned(folder, number=3, text="sks, 1girl, {n}"):
    for n, path in enumerate(images(folder, number), 1):
        path.with_suffix(".txt").write_text(text.format(n=f"tag {n}") + "\n", encoding="utf-8")
    return folder


def row(ended, name):
    """Return the cells of a table's row."""
    return next(line.split() for line in ended.out.splitlines() if line.startswith(name + " "))


# ---- plan-repeats
# -----------------------------------------------------------------------------------------------


def test_ten_images_at_batch_2_need_20_repeats_for_a_thousand_steps(dsk):
    ended = dsk(*PLAN, "--images", "10", "--batch-size", "2")
    assert ended.code == 0 and row(ended, "images")[1:5] == ["10", "20", "200", "1,000"]
    assert "10 epochs, batch 2: 100 steps an epoch, 1,000 optimizer steps in total" in ended.out


def test_a_plan_in_a_folder_of_images_counts_them_and_writes_nothing(dsk, here):
    images(here, 5)
    before = snapshot(here)
    ended = dsk(*PLAN)
    assert ended.code == 0 and snapshot(here) == before
    assert row(ended, here.name)[1:5] == ["5", "20", "100", "1,000"]


def test_a_plan_in_the_folder_of_a_dsk_toml_takes_its_concepts_and_its_train_table(dsk, here):
    images(here / "a", 4)
    images(here / "b", 2)
    (here / "dsk.toml").write_text(
        '[train]\ntrain_batch_size = 2\n[[concept]]\nfolder = "a"\n[[concept]]\nname = '
        '"sks"\nfolder = "b"\n',
        encoding="utf-8",
    )
    ended = dsk(*PLAN)
    assert ended.code == 0 and "batch 2" in ended.out
    assert row(ended, "a")[1:4] == ["4", "50", "200"] and row(ended, "sks")[1:4] == [
        "2",
        "100",
        "200",
    ]


def test_a_plan_uses_the_layout_table_unless_options_are_given(dsk, here):
    images(here / "a", 4)
    toml = '[layout]\nsteps = 200\nepochs = 5\nout = "x"\n[[concept]]\nfolder = "a"\n'
    (here / "dsk.toml").write_text(toml, encoding="utf-8")
    assert row(dsk("plan-repeats"), "a")[1:5] == ["4", "10", "40", "200"]
    assert row(dsk("plan-repeats", "--steps", "400"), "a")[1:5] == ["4", "20", "80", "400"]
    (here / "dsk.toml").write_text(toml + "[plan-repeats]\nsteps = 400\n", encoding="utf-8")
    assert row(dsk("plan-repeats"), "a")[1:5] == ["4", "20", "80", "400"]


def test_a_plan_in_an_empty_folder_is_a_one_line_error(dsk, here):
    ended = dsk(*PLAN)
    assert (ended.code, ended.out) == (10, "")
    assert ended.err.startswith(
        f"error: {here} holds no images, no <repeats>_<concept> folders and no dsk.toml"
    )
    assert len(ended.err.splitlines()) == 2 and "--images N" in ended.err


def test_a_plan_without_a_usable_image_names_the_reason(dsk, here):
    (here / "broken.png").write_bytes(b"nothing")
    ended = dsk(*PLAN)
    assert ended.code == 10 and "broken.png" in ended.err and "convert it" in ended.err


def test_the_planned_repeats_are_applied_to_the_folders_and_undone(dsk, here):
    captioned(here / "ds" / "train" / "3_sks", 5)
    (here / "ds" / "train" / "10-typo").mkdir()
    shown = dsk("plan-repeats", "ds", "--steps", "1000", "--epochs", "10")
    assert "20 (now 3)" in shown.out and "10-typo" in shown.out
    dry = dsk("plan-repeats", "ds", "--steps", "1000", "--epochs", "10", "--apply", "--dry-run")
    assert dry.code == 0 and (here / "ds" / "train" / "3_sks").is_dir()
    applied = dsk("plan-repeats", "ds", "--steps", "1000", "--epochs", "10", "--apply")
    assert applied.code == 0 and (here / "ds" / "train" / "20_sks" / "a1.txt").is_file()
    assert dsk("undo", "ds").code == 0 and (here / "ds" / "train" / "3_sks" / "a1.txt").is_file()


def test_applying_needs_folders_to_rename(dsk, here):
    images(here / "imgs", 2)
    assert dsk("plan-repeats", "imgs", "--apply").code == 2
    assert dsk("plan-repeats", "--images", "3", "--apply").code == 2


# ---- layout
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "folder"),
    [
        ("20_sks girl=imgs", "20_sks girl"),
        ("sks=imgs", "33_sks"),
        ("imgs", "33_imgs"),
        ("7_own", "7_own"),
    ],
)
def test_a_concept_can_be_given_in_three_forms(dsk, here, argument, folder):
    captioned(here / "imgs")
    captioned(here / "7_own")
    assert dsk("layout", argument).code == 0
    assert [p.name for p in (here / "dataset" / "train").iterdir()] == [folder]
    assert captions(here / "dataset" / "train" / folder) == captions(here / "imgs")


@pytest.mark.parametrize("argument", ["010_x=imgs", "10-x=imgs", "1_000_x=imgs", "a/b=imgs"])
def test_a_name_that_trainers_would_misread_is_refused(dsk, here, argument):
    captioned(here / "imgs")
    ended = dsk("layout", argument)
    assert ended.code == 2 and "hint: " in ended.err and not (here / "dataset" / "train").exists()


def test_images_and_captions_are_copies(dsk, here):
    source = captioned(here / "imgs")
    write_image(source / "masks" / "a1.png", 255)
    dsk("layout", "5_sks=imgs")
    laid_out = here / "dataset" / "train" / "5_sks"
    assert inode(laid_out / "a1.png") != inode(source / "a1.png")
    assert (laid_out / "a1.png").read_bytes() == (source / "a1.png").read_bytes()
    assert inode(laid_out / "a1.txt") != inode(source / "a1.txt")
    assert (laid_out / "masks" / "a1.png").read_bytes() == (
        source / "masks" / "a1.png"
    ).read_bytes()
    (source / "a1.txt").write_text("sks, edited\n", encoding="utf-8")
    assert captions(laid_out)["a1"] == "sks, 1girl, tag 1"
    assert "1 file operation " in dsk("layout", "5_sks=imgs").out
    assert captions(laid_out)["a1"] == "sks, edited"


def test_laying_out_again_does_nothing(dsk, here):
    captioned(here / "imgs")
    dsk("layout", "sks=imgs")
    before = snapshot(here, all_of_it=False)
    again = dsk("layout", "sks=imgs")
    assert again.code == 0 and "train/33_sks unchanged" in again.out and "history" not in again.out
    assert snapshot(here, all_of_it=False) == before


def test_a_removed_image_is_named_and_goes_to_the_trash(dsk, here):
    source = captioned(here / "imgs")
    dsk("layout", "5_sks=imgs")
    (source / "a2.png").unlink()
    (source / "a2.txt").unlink()
    ended = dsk("layout", "5_sks=imgs")
    assert "moved to .dsk/trash: a2.png" in ended.out
    assert sorted(captions(here / "dataset" / "train" / "5_sks")) == ["a1", "a3"]
    assert len(list((here / "dataset" / ".dsk" / "trash").rglob("a2.png"))) == 1
    dsk("undo", "dataset")
    assert sorted(captions(here / "dataset" / "train" / "5_sks")) == ["a1", "a2", "a3"]


def test_other_repeats_rename_the_folder(dsk, here):
    captioned(here / "imgs")
    dsk("layout", "5_sks=imgs")
    dry = dsk("layout", "8_sks=imgs", "--dry-run")
    assert (
        "train/5_sks -> train/8_sks" in dry.out and (here / "dataset" / "train" / "5_sks").is_dir()
    )
    kept = inode(here / "dataset" / "train" / "5_sks" / "a1.txt")
    ended = dsk("layout", "8_sks=imgs")
    assert [p.name for p in (here / "dataset" / "train").iterdir()] == ["8_sks"]
    assert inode(here / "dataset" / "train" / "8_sks" / "a1.txt") == kept
    assert (
        "updated dataset: train/8_sks, 1 file operation" in ended.out
        and "to undo: dsk undo dataset)" in ended.out
    )
    dsk("undo", "dataset")
    assert [p.name for p in (here / "dataset" / "train").iterdir()] == ["5_sks"]


def test_a_stale_concept_folder_is_named(dsk, here):
    captioned(here / "imgs")
    dsk("layout", "5_old=imgs")
    assert "5_old is in the same folder" in dsk("layout", "5_new=imgs").out


def test_images_without_a_caption_are_a_warning(dsk, here):
    images(here / "imgs", 2)
    ended = dsk("layout", "imgs")
    assert ended.code == 0 and "2 images without a caption (a1.png, a2.png)" in ended.err


def test_an_edited_laid_out_caption_is_refreshed_and_undo_restores_it(dsk, here):
    captioned(here / "imgs")
    dsk("layout", "5_sks=imgs")
    copy = here / "dataset" / "train" / "5_sks" / "a1.txt"
    copy.write_text("edited in the wrong place\n", encoding="utf-8")
    dsk("layout", "5_sks=imgs")
    assert copy.read_text(encoding="utf-8") == "edited in the wrong place\n"
    (here / "imgs" / "a1.txt").write_text("sks, 1girl, new\n", encoding="utf-8")
    dsk("layout", "5_sks=imgs")
    assert copy.read_text(encoding="utf-8") == "sks, 1girl, new\n"
    dsk("undo", "dataset")
    assert copy.read_text(encoding="utf-8") == "edited in the wrong place\n"


# ---- reg
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def laid_out(dsk, here):
    captioned(here / "imgs", 4)
    dsk("layout", "6_sks=imgs")
    return here / "dataset"


def test_a_reg_set_is_balanced_and_has_no_captions(dsk, here, laid_out):
    captioned(here / "women", 5, "somebody, {n}")
    ended = dsk("reg", "women", "--class", "1girl")
    assert ended.code == 0 and "5 x 4 = 20 samples for 24 of training" in ended.out
    assert "balanced" in ended.out
    assert sorted(p.name for p in (laid_out / "reg" / "4_1girl").iterdir()) == [
        f"a{n}.png" for n in range(1, 6)
    ]
    assert dsk("plan-repeats", "dataset", "--json").result["plan"]["reg"]["images"] == 5


def test_surplus_reg_images_are_named(dsk, here, laid_out):
    images(here / "women", 30)
    ended = dsk("reg", "women", "--class", "1girl")
    assert "6 of 30 regularisation images are never used" in ended.out


def test_reg_captions_are_derived_with_the_class_instead_of_the_trigger(dsk, here, laid_out):
    images(here / "women", 5)
    ended = dsk("reg", "women", "--class", "woman", "--captions", "derive", "--trigger", "SKS")
    assert ended.code == 0
    derived = captions(laid_out / "reg" / "4_woman")
    assert derived["a1"] == "woman, 1girl, tag 1" and derived["a5"] == "woman, 1girl, tag 1"
    dsk("reg", "women", "--class", "woman")
    assert captions(laid_out / "reg" / "4_woman") == {}


def test_deriving_needs_a_trigger(dsk, here, laid_out):
    images(here / "women", 1)
    ended = dsk("reg", "women", "--class", "woman", "--captions", "derive")
    assert ended.code == 2 and "--trigger NAME" in ended.err


def test_unreadable_reg_images_are_named_in_the_error(dsk, here, laid_out):
    (here / "women").mkdir()
    (here / "women" / "x.jpg").write_bytes(b"nothing")
    ended = dsk("reg", "women", "--class", "woman")
    assert ended.code == 10 and "x.jpg" in ended.err and not (laid_out / "reg").exists()


# ---- report
# --------------------------------------------------------------------------------------------------


def test_the_tables_have_the_tags_and_the_pairs(dsk, here):
    source = captioned(here / "imgs")
    (source / "a1.txt").write_text("sks, =_=, 1girl\n", encoding="utf-8")
    ended = dsk("report", "imgs", "--trigger", "sks", "--out", "tables")
    assert ended.code == 0 and "tags.csv, pairs.csv to tables" in ended.out
    rows = list(
        csv.DictReader(io.StringIO((here / "tables" / "tags.csv").read_bytes().decode("utf-8-sig")))
    )
    total = {r["tag"]: r for r in rows if r["concept"] == "(total)"}
    assert total["1girl"]["images"] == "3" and total["tag 2"]["images"] == "1"
    assert total["sks"]["category"] == "trigger" and "=_=" in total
    pairs = (here / "tables" / "pairs.csv").read_text(encoding="utf-8-sig")
    assert "1girl" in pairs and "sks" in pairs


def test_excel_gets_no_formula(dsk, here):
    source = captioned(here / "imgs", 1)
    (source / "a1.txt").write_text("=_=, 1girl\n", encoding="utf-8")
    dsk("report", "imgs", "--excel")
    text = (source / "report" / "tags.csv").read_text(encoding="utf-8-sig")
    assert "'=_=" in text and ",=_=" not in text


@pytest.mark.long
def test_the_chart_opens_and_undo_removes_the_report(dsk, here):
    source = captioned(here / "imgs")
    ended = dsk("report", "imgs", "--plot")
    assert ended.code == 0
    with Image.open(source / "report" / "tags.png") as chart:
        assert chart.format == "PNG" and chart.width > 200
    before = snapshot(here, all_of_it=False)
    dsk("report", "imgs", "--plot")
    assert snapshot(here, all_of_it=False) == before
    dsk("undo", "imgs")
    assert not (source / "report").exists()


def test_a_report_as_json_has_null_for_missing_scores(dsk, here):
    captioned(here / "imgs")
    ended = dsk("report", "imgs", "--json")
    assert {r["mean_score"] for r in ended.result["top"]} == {None}
    assert "NaN" not in ended.out


# ---- export
# --------------------------------------------------------------------------------------------------


def test_kohyas_files_have_the_numbers_of_the_plan(dsk, here, laid_out):
    images(here / "women", 5)
    dsk("reg", "women", "--class", "1girl")
    ended = dsk("export", "dataset")
    assert ended.code == 0 and "keep_tokens = 1" in ended.out
    data = tomllib.loads((laid_out / "dataset.toml").read_text(encoding="utf-8"))
    assert data["general"]["caption_extension"] == ".txt" and data["general"]["keep_tokens"] == 1
    train, reg = data["datasets"][0]["subsets"]
    assert train == {"class_tokens": "sks", "num_repeats": 6, "image_dir": "train/6_sks"}
    assert reg == {
        "is_reg": True,
        "class_tokens": "1girl",
        "num_repeats": 4,
        "image_dir": "reg/4_1girl",
    }
    config = tomllib.loads((laid_out / "config.toml").read_text(encoding="utf-8"))
    assert config["training_arguments"]["max_train_epochs"] == 10
    assert config["saving_arguments"]["save_model_as"] == "safetensors"


def test_the_train_table_reaches_kohyas_config(dsk, here, laid_out):
    (here / "dsk.toml").write_text(
        "[train]\nlearning_rate = 0.0003\nresolution = 768\ntrain_batch_size = "
        '3\n[tag]\ntrigger = ["sks", "1girl"]\n',
        encoding="utf-8",
    )
    assert dsk("export", "dataset").code == 0
    config = tomllib.loads((laid_out / "config.toml").read_text(encoding="utf-8"))
    assert config["optimizer_arguments"]["learning_rate"] == 0.0003
    general = tomllib.loads((laid_out / "dataset.toml").read_text(encoding="utf-8"))["general"]
    assert (general["resolution"], general["batch_size"], general["keep_tokens"]) == (768, 3, 2)


def test_masks_are_exported_where_sd_scripts_supports_them(dsk, here, laid_out):
    (here / "dsk.toml").write_text("[train]\nmasked_loss = true\n", encoding="utf-8")
    folder = laid_out / "train" / "6_sks"
    for image in sorted(folder.glob("*.png")):
        (folder / "masks").mkdir(exist_ok=True)
        with Image.open(image) as opened:
            Image.new("L", opened.size, 255).save(folder / "masks" / image.name)
    assert dsk("export", "dataset").code == 0
    (train,) = tomllib.loads((laid_out / "dataset.toml").read_text(encoding="utf-8"))["datasets"][
        0
    ]["subsets"]
    assert train == {
        "num_repeats": 6,
        "image_dir": "train/6_sks",
        "conditioning_data_dir": "train/6_sks/masks",
    }
    config = tomllib.loads((laid_out / "config.toml").read_text(encoding="utf-8"))
    assert config["training_arguments"]["masked_loss"] is True
    again = dsk(
        "train",
        "--dataset-config",
        "dataset/dataset.toml",
        "--config-file",
        "dataset/config.toml",
        "--set",
        "pretrained_model_name_or_path=tiny",
        "--dry-run",
    )
    assert again.code == 0 and "no mask" not in again.err
    next(folder.glob("masks/*")).unlink()
    ended = dsk("export", "dataset")
    assert ended.code == 0 and "masked_loss is not exported" in ended.err
    (train,) = tomllib.loads((laid_out / "dataset.toml").read_text(encoding="utf-8"))["datasets"][
        0
    ]["subsets"]
    assert train == {"class_tokens": "sks", "num_repeats": 6, "image_dir": "train/6_sks"}
    assert "masked_loss" not in (laid_out / "config.toml").read_text(encoding="utf-8")


def test_tags_of_the_vocabulary_are_not_fixed_tags(dsk, here):
    captioned(here / "imgs", 3, "masterpiece art, 1girl, solo, {n}")
    assert dsk("export", "imgs", "--json").result["keep_tokens"] == 1
    captioned(here / "more", 3, "1girl, solo, {n}")
    assert dsk("export", "more", "--json").result["keep_tokens"] == 0
    assert dsk("export", "more", "--keep-tokens", "2", "--json").result["keep_tokens"] == 2


def test_an_imagefolder_and_a_meta_file_name_every_captioned_image(dsk, here, laid_out):
    assert dsk("export", "dataset", "--format", "imagefolder").code == 0
    lines = [
        json.loads(line)
        for line in (laid_out / "train/metadata.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert (
        lines[0] == {"file_name": "6_sks/a1.png", "text": "sks, 1girl, tag 1"} and len(lines) == 4
    )
    assert dsk("export", "dataset", "--format", "meta", "--out", "dataset").code == 0
    meta = json.loads((laid_out / "meta.json").read_text(encoding="utf-8"))
    assert meta["train/6_sks/a1"] == {"tags": "sks, 1girl, tag 1"}


# ---- import
# --------------------------------------------------------------------------------------------------


def test_every_kind_of_side_car_becomes_a_caption(dsk, here):
    imgs = here / "imgs"
    for name in ("gallery", "hydrus", "kohya", "meta", "none"):
        write_image(imgs / f"{name}.png", len(name))
    (imgs / "gallery.png.json").write_text('{"tags": ["long_hair", "1girl"]}', encoding="utf-8")
    (imgs / "hydrus.png.txt").write_text(
        "character:hatsune miku\ncreator:somebody\nsolo\n", encoding="utf-8"
    )
    (imgs / "kohya.caption").write_text("a_b, c\n", encoding="utf-8")
    (here / "m.json").write_text(
        '{"meta": {"tags": "from meta"}, "gone": {"tags": "x"}}', encoding="utf-8"
    )
    ended = dsk("import", "imgs", "--meta", "m.json")
    assert ended.code == 3 and "no image for the entry gone" in ended.err
    (imgs / "hydrus.png.txt").unlink()
    assert captions(imgs) == {
        "gallery": "long hair, 1girl",
        "hydrus": "hatsune miku, solo",
        "kohya": "a b, c",
        "meta": "from meta",
    }
    assert "wrote 4 captions" in ended.out and "1 image without a sidecar" in ended.out


@pytest.mark.parametrize(
    ("kind", "side_car", "text"),
    [
        ("gallery-dl", "a1.png.json", '{"tags": "long_hair 1girl"}'),
        ("hydrus", "a1.png.txt", "long hair\n1girl\n"),
        ("caption", "a1.caption", "long hair, 1girl"),
    ],
)
def test_one_kind_is_read_and_an_existing_caption_is_kept(dsk, here, kind, side_car, text):
    path = images(here / "imgs", 1)[0]
    (here / "imgs" / side_car).write_text(text, encoding="utf-8")
    path.with_suffix(".txt").write_text("mine\n", encoding="utf-8")
    ended = dsk("import", "imgs", "--from", kind)
    assert ended.code == 0 and path.with_suffix(".txt").read_text(encoding="utf-8") == "mine\n"
    assert "1 existing kept" in ended.out
    assert (
        "a1.png: -mine"
        in dsk("import", "imgs", "--from", kind, "--existing", "overwrite", "--dry-run").out
    )
    assert dsk("import", "imgs", "--from", kind, "--existing", "overwrite").code == 0
    assert path.with_suffix(".txt").read_text(encoding="utf-8") == "long hair, 1girl\n"
    dsk("undo", "imgs")
    assert path.with_suffix(".txt").read_text(encoding="utf-8") == "mine\n"


def test_a_caption_that_cannot_be_read_does_not_stop_the_import(dsk, here):
    first, second = images(here / "imgs", 2)
    for path in (first, second):
        path.with_suffix(".caption").write_text("red\n", encoding="utf-8")
    first.with_suffix(".txt").write_bytes(b"\xff\xfe")
    ended = dsk("import", "imgs")
    assert ended.code == 3 and "a1.png" in ended.err
    assert second.with_suffix(".txt").read_text(encoding="utf-8") == "red\n"
    assert first.with_suffix(".txt").read_bytes() == b"\xff\xfe"
