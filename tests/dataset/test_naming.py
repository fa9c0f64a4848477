"""Renaming: what travels, what keeps its number, and that no plan loses or overwrites a file."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.core.errors import ConfigError, PlanConflict
from datasetkit.core.file_kinds import IMAGE_SUFFIXES
from datasetkit.core.files import companions, natural_key
from datasetkit.dataset.naming import name_fault, plan_rename
from datasetkit.project.plans import Copy, Move

DIR = Path("photos")


def split(files):
    """Part the files of a folder (and its masks/) into images and what belongs to them."""
    images = [f for f in files if f.parent == DIR and f.suffix.lower() in IMAGE_SUFFIXES]
    others = [f for f in files if f not in images]
    siblings = {
        image: [f for f in others if f.stem in (image.stem, image.name)] for image in images
    }
    return images, siblings


def planned(names, prefix="P", **options):
    """Plan for a folder of these names; return the operations as names within the folder."""
    files = [DIR / name for name in names]
    images, siblings = split(files)
    plan = plan_rename(images, siblings, prefix, taken=files, **options)
    ops = [op for op in plan.ops if isinstance(op, Move | Copy)]
    short = [
        (type(op).__name__, op.src.relative_to(DIR).as_posix(), op.dst.relative_to(DIR).as_posix())
        for op in ops
    ]
    return plan, short


def moves(names, prefix="P", **options):
    return {src: dst for kind, src, dst in planned(names, prefix, **options)[1] if kind == "Move"}


def after(files, plan):
    """Return path -> content once a plan is done; sources are names before the plan; fail on an
    overwrite.
    """
    content = dict(files)
    new = {op.dst: files[op.src] for op in plan.ops}
    assert len(new) == len(plan.ops)
    for op in plan.ops:
        if isinstance(op, Move):
            del content[op.src]
    assert not set(new) & set(content)
    return content | new


def test_images_are_numbered_in_natural_order():
    assert moves(["b.jpg", "a10.jpg", "a2.PNG"], "MikamiYua") == {
        "a2.PNG": "MikamiYua_001.png",
        "a10.jpg": "MikamiYua_002.jpg",
        "b.jpg": "MikamiYua_003.jpg",
    }


def test_numbers_are_padded_to_the_size_of_the_set():
    names = [f"{i}.jpg" for i in range(1200)]
    assert moves(names)["0.jpg"] == "P_0001.jpg"
    assert moves(names)["1199.jpg"] == "P_1200.jpg"


def test_all_files_of_an_image_are_renamed_with_it():
    belongings = [
        "a.txt",
        "a.caption",
        "a.JPG.txt",
        "a.json",
        "a.npz",
        "masks/a.png",
        "masks/a.JPG.png",
    ]
    assert moves(["a.JPG", *belongings]) == {
        "a.JPG": "P_001.jpg",
        "a.txt": "P_001.txt",
        "a.caption": "P_001.caption",
        "a.JPG.txt": "P_001.jpg.txt",
        "a.json": "P_001.json",
        "a.npz": "P_001.npz",
        "masks/a.png": "masks/P_001.png",
        "masks/a.JPG.png": "masks/P_001.jpg.png",
    }


def test_all_siblings_of_the_folder_listing_are_renamed(tmp_path):
    for name in ("a.jpg", "a.txt", "a.jpg.txt", "b.c.png", "b.c.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "b.c.png").write_bytes(b"")
    images = [tmp_path / "a.jpg", tmp_path / "b.c.png"]
    plan = plan_rename(images, companions(tmp_path, images), "P")
    assert {op.dst.relative_to(tmp_path).as_posix() for op in plan.ops if isinstance(op, Move)} == {
        "P_001.jpg", "P_001.txt", "P_001.jpg.txt", "P_002.png", "P_002.txt", "masks/P_002.png",
    }  # fmt: skip


def test_two_images_with_one_stem_get_two_numbers_and_both_keep_the_caption():
    _, ops = planned(["a.jpg", "a.png", "a.txt", "masks/a.png"])
    assert ops == [
        ("Move", "a.jpg", "P_001.jpg"),
        ("Move", "a.png", "P_002.png"),
        ("Move", "a.txt", "P_001.txt"),
        ("Copy", "a.txt", "P_002.txt"),
        ("Move", "masks/a.png", "masks/P_001.png"),
        ("Copy", "masks/a.png", "masks/P_002.png"),
    ]


def test_a_shared_caption_is_kept_by_the_image_that_keeps_its_name():
    assert planned(["P_001.jpg", "P_001.png", "P_001.txt"])[1] == [
        ("Move", "P_001.png", "P_002.png"),
        ("Copy", "P_001.txt", "P_002.txt"),
    ]


def test_a_cache_of_latents_is_not_copied():
    assert ("Copy", "a.npz", "P_002.npz") not in planned(["a.jpg", "a.png", "a.npz"])[1]


def test_named_images_keep_their_number_and_new_ones_take_the_free_ones():
    assert moves(["P_001.jpg", "P_003.jpg", "new1.jpg", "new2.jpg"]) == {
        "new1.jpg": "P_002.jpg",
        "new2.jpg": "P_004.jpg",
    }


def test_kept_numbers_are_padded_again_when_the_set_outgrows_its_width():
    names = [f"P_{i:03d}.jpg" for i in range(1, 1000)]
    changed = moves([*names, "new.jpg"])
    assert changed["new.jpg"] == "P_1000.jpg"
    assert changed["P_007.jpg"] == "P_0007.jpg"


def test_a_wider_numbering_is_not_narrowed():
    assert moves(["P_0001.jpg", "new.jpg"]) == {"new.jpg": "P_0002.jpg"}


def test_of_two_images_with_one_number_the_one_with_the_final_name_keeps_it():
    assert moves(["P_1.jpg", "P_001.jpg"]) == {"P_1.jpg": "P_002.jpg"}
    assert moves(["P_001.JPG", "P_001.jpg"]) == {"P_001.JPG": "P_002.jpg"}


def test_a_date_is_not_a_number_of_the_set():
    assert moves(["IMG_20240101.jpg"], "IMG") == {"IMG_20240101.jpg": "IMG_001.jpg"}


def test_a_foreign_file_is_not_adopted():
    assert moves(["a.jpg", "P_001.txt", "p_002.json"]) == {"a.jpg": "P_003.jpg"}


def test_a_number_that_grows_onto_a_foreign_file_is_not_used():
    assert moves(["P_1.jpg", "P_1.txt", "P_001.txt"]) == {
        "P_1.jpg": "P_002.jpg",
        "P_1.txt": "P_002.txt",
    }


def test_an_upper_case_suffix_alone_is_lowered():
    assert moves(["P_001.JPG", "P_001.JPG.txt"]) == {
        "P_001.JPG": "P_001.jpg",
        "P_001.JPG.txt": "P_001.jpg.txt",
    }


def test_numbers_begin_at_start():
    assert moves(["a.jpg", "b.jpg"], start=0) == {"a.jpg": "P_000.jpg", "b.jpg": "P_001.jpg"}
    assert moves(["a.jpg"], start=5000) == {"a.jpg": "P_5000.jpg"}


def test_a_prefix_is_literal_text():
    assert moves(["a+b_001.jpg", "aab_002.jpg"], "a+b") == {"aab_002.jpg": "a+b_002.jpg"}
    assert moves(["x.jpg"], "{0}%s") == {"x.jpg": "{0}%s_001.jpg"}


def test_two_files_that_would_become_one_are_refused():
    with pytest.raises(PlanConflict, match=r"a\.JPG\.txt"):
        plan_rename([DIR / "a.JPG"], {DIR / "a.JPG": [DIR / "a.JPG.txt", DIR / "a.jpg.txt"]}, "P")


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "a/b",
        "a\\b",
        "-x",
        ".x",
        "x.",
        " x",
        "x ",
        "a\nb",
        "a\x1b[0m",
        "CON",
        "nul.x",
        "Lpt1",
        "x" * 250,
        "\udcff",
    ],
)
def test_a_prefix_that_makes_bad_names_is_refused(prefix):
    with pytest.raises(ConfigError) as caught:
        planned(["a.jpeg"], prefix)
    assert caught.value.hint
    assert caught.value.message.isprintable()


def test_a_negative_start_is_refused():
    with pytest.raises(ConfigError):
        planned(["a.jpg"], start=-1)


@pytest.mark.parametrize(
    "name", ["MikamiYua", "sks girl", "長門", "a-b", "console", "com10", "🦊", "re_zero"]
)
def test_ordinary_names_are_valid(name):
    assert name_fault(name) is None


STEM = st.sampled_from(
    ["a", "b", "a.b", "P_1", "P_001", "P_002", "P_0003", "p_001", "P_999", "P_3", "photo 10", "é"]
)
IMAGE = st.tuples(STEM, st.sampled_from([".jpg", ".JPG", ".png", ".jpeg"])).map("".join)
OTHER = st.one_of(
    st.tuples(STEM, st.sampled_from([".txt", ".caption", ".json", ".npz"])).map("".join),
    st.tuples(IMAGE, st.just(".txt")).map("".join),
    st.tuples(st.just("masks/"), STEM, st.just(".png")).map("".join),
)


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(st.sets(IMAGE, max_size=10), st.sets(OTHER, max_size=12))
def test_no_plan_loses_a_file_and_a_second_run_plans_nothing(image_names, other_names):
    files = {DIR / name: name for name in image_names | other_names}
    try:
        plan, _ = planned(sorted(image_names | other_names))
    except PlanConflict:  # `a.JPG.txt` beside `a.jpg.txt`
        return
    done = after(files, plan)
    assert sorted(set(done.values())) == sorted(files.values())
    assert len(done) == len(files) + sum(isinstance(op, Copy) for op in plan.ops)

    images, siblings = split(files)
    new_images, new_siblings = split(done)
    assert len({image.stem for image in new_images}) == len(images)
    was = {done[image]: image for image in new_images}
    for image in images:
        kept = {done[s] for s in new_siblings[was[files[image]]]}
        assert {files[s] for s in siblings[image] if s.suffix != ".npz"} <= kept

    again = plan_rename(sorted(new_images), new_siblings, "P", taken=sorted(done))
    assert not again


@settings(max_examples=100, deadline=None)
@given(st.sets(st.text("abz019_", min_size=1, max_size=4), max_size=20))
def test_new_names_follow_the_natural_order_of_the_old(stems):
    changed = moves(sorted(f"{stem}.jpg" for stem in stems), "Q")
    assert sorted(changed, key=natural_key) == sorted(changed, key=lambda name: changed[name])
    assert len(changed) == len(stems)
