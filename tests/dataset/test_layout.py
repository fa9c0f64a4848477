"""Folders: one grammar for writing and reading, and plans that change only what has to change."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.captions.invisible import invisible
from datasetkit.core.errors import ConfigError, DatasetError, InputError, PlanConflict
from datasetkit.dataset.layout import (
    Concept,
    ConceptFolder,
    ConceptFolders,
    LayoutFolder,
    LayoutImage,
    Misread,
    fill_ops,
    folder_name,
    parse,
    plan_layout,
    plan_repeats_change,
    read,
    read_tree,
    trainers_reading,
)
from datasetkit.project.plans import Copy, Link, Move, WriteBytes, WriteText


@pytest.mark.parametrize(
    ("folder", "concept"),
    [
        ("10_sks girl", Concept(10, "sks girl")),
        ("1_nekochan", Concept(1, "nekochan")),
        ("20_a_b_c", Concept(20, "a_b_c")),
        ("3_1girl", Concept(3, "1girl")),
        ("3_007 bond", Concept(3, "007 bond")),
        ("5_長門", Concept(5, "長門")),
        ("2_re-zero", Concept(2, "re-zero")),
    ],
)
def test_a_plain_folder_is_a_concept(folder, concept):
    assert parse(folder) == concept
    assert folder_name(concept) == folder


@pytest.mark.parametrize(
    ("folder", "trainers"),
    [
        ("10-foo", None),
        ("foo", None),
        ("foo_10", None),
        ("", None),
        ("0_x", None),
        ("-5_x", None),
        ("1_000_x", Concept(1, "000_x")),
        ("2_10_x", Concept(2, "10_x")),
        ("１０_x", Concept(10, "x")),
        ("٣_x", Concept(3, "x")),
        ("+5_x", Concept(5, "x")),
        (" 5_x", Concept(5, "x")),
        ("5 _x", Concept(5, "x")),
        ("05_x", Concept(5, "x")),
        ("10", Concept(10, "")),
        ("10_", Concept(10, "")),
        ("10_x ", Concept(10, "x ")),
        ("10_ x", Concept(10, " x")),
        ("10_x.", Concept(10, "x.")),
        ("10_a\nb", Concept(10, "a\nb")),
        ("10_\udcff", Concept(10, "\udcff")),
        ("10_con", Concept(10, "con")),
    ],
)
def test_every_other_name_is_flagged_with_how_trainers_read_it(folder, trainers):
    found = parse(folder)
    assert isinstance(found, Misread)
    assert found.trainers == trainers
    assert found.reason
    assert found.text.isprintable()


def test_each_mistake_has_its_reason():
    reasons = {}
    for folder in ("10-foo", "foo", "0_x", "1_000_x", "05_x", "10", "10_x "):
        found = parse(folder)
        assert isinstance(found, Misread)
        reasons[found.reason] = folder
    assert len(reasons) == 7


def test_a_number_too_long_for_trainers_is_flagged():
    assert isinstance(parse("9" * 5000 + "_x"), Misread)


@pytest.mark.parametrize(
    "concept",
    [
        Concept(0, "x"),
        Concept(-1, "x"),
        *(
            Concept(1, name)
            for name in (
                "",
                " ",
                "a/b",
                "a\\b",
                "a\tb",
                " a",
                "a.",
                ".a",
                "AUX",
                "000_x",
                "7",
                "a:b",
            )
        ),
        Concept(1, "x" * 254),
    ],
)
def test_a_concept_without_a_readable_folder_name_is_refused(concept):
    with pytest.raises(ConfigError) as caught:
        folder_name(concept)
    assert caught.value.hint


def test_a_folder_name_may_have_255_bytes():
    assert parse(folder_name(Concept(1, "x" * 253))) == Concept(1, "x" * 253)


@settings(max_examples=300, deadline=None)
@given(st.integers(-2, 10**9), st.text(max_size=12))
def test_a_folder_name_is_parsed_back_by_dsk_and_by_trainers(repeats, name):
    concept = Concept(repeats, name)
    try:
        folder = folder_name(concept)
    except ConfigError:
        is_refused = set(name) & set('?*"<>|:') or invisible(name)
        assert parse(f"{repeats}_{name}") != concept or is_refused
        return
    assert parse(folder) == concept
    assert trainers_reading(folder) == concept


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789_ax-+ .", max_size=10))
def test_a_parsed_name_is_the_name_of_its_concept(folder):
    found = parse(folder)
    if isinstance(found, Concept):
        assert folder_name(found) == folder
    else:
        assert found.trainers == trainers_reading(folder)


def test_folders_are_read_in_sorted_order():
    tree = read(["9_b", "10_c", "10_a", "notes", ".dsk", "1_000_x"])
    assert tree.concepts == (Concept(10, "a"), Concept(10, "c"), Concept(9, "b"))
    assert [m.folder for m in tree.ignored] == ["1_000_x", "notes"]


def test_a_tree_is_read_one_level_deep_and_links_are_flagged(tmp_path):
    for name in ("10_a/deep", "5_b", "10-c", ".cache"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "7_file").write_text("", encoding="utf-8")
    (tmp_path / "3_link").symlink_to(tmp_path / "5_b", target_is_directory=True)
    (tmp_path / "4_loop").symlink_to(tmp_path / "4_loop")
    tree = read_tree(tmp_path)
    assert tree.concepts == (
        ConceptFolder(tmp_path / "10_a", Concept(10, "a")),
        ConceptFolder(tmp_path / "5_b", Concept(5, "b")),
    )
    assert [(m.folder, m.trainers) for m in tree.misread] == [
        ("10-c", None),
        ("3_link", Concept(3, "link")),
    ]


def test_a_missing_root_is_a_dataset_error(tmp_path):
    with pytest.raises(DatasetError):
        read_tree(tmp_path / "train")


ROOT = Path("out")
TRASH = Path("trash/1")
A = ROOT / "train/10_a"
SOURCES = (
    LayoutImage(Path("in/x.jpg"), "a, b\n", Path("in/masks/x.png")),
    LayoutImage(Path("in/y.png"), link=True),
)
TARGETS = (LayoutFolder(A, SOURCES),)
FULL = {A / "x.jpg": True, A / "x.txt": True, A / "masks/x.png": True, A / "y.png": True}


def test_an_empty_target_is_filled_with_copies_links_captions_and_masks():
    assert plan_layout(TARGETS, root=ROOT, existing={}, trash=TRASH).ops == (
        Copy(Path("in/x.jpg"), A / "x.jpg"),
        WriteText(A / "x.txt", "a, b\n", None),
        Copy(Path("in/masks/x.png"), A / "masks/x.png"),
        Link(Path("in/y.png"), A / "y.png"),
    )


def test_an_unchanged_target_needs_nothing():
    assert not plan_layout(TARGETS, root=ROOT, existing=FULL, trash=TRASH)


def test_a_changed_caption_is_written_in_place():
    plan = plan_layout(TARGETS, root=ROOT, existing={**FULL, A / "x.txt": False}, trash=TRASH)
    assert plan.ops == (WriteText(A / "x.txt", "a, b\n", None),)


def test_a_replaced_image_moves_to_the_trash_before_its_link():
    plan = plan_layout(TARGETS, root=ROOT, existing={**FULL, A / "y.png": False}, trash=TRASH)
    assert plan.ops == (
        Move(A / "y.png", TRASH / "train/10_a/y.png"),
        Link(Path("in/y.png"), A / "y.png"),
    )


def test_files_without_a_source_move_to_the_trash():
    stale = {
        A / "z.jpg": False,
        A / "z.txt": False,
        A / "y.txt": False,
        ROOT / "train/5_old/q.jpg": False,
    }
    plan = plan_layout(TARGETS, root=ROOT, existing=FULL | stale, trash=TRASH)
    assert set(plan.ops) == {Move(path, TRASH / path.relative_to(ROOT)) for path in stale}


def test_images_with_one_stem_are_refused_with_a_hint():
    for twin in ("other/x.png", "other/x.jpg", "other/X.jpg", "in/x.jpg"):
        with pytest.raises(PlanConflict) as caught:
            fill_ops([LayoutFolder(A, (*SOURCES, LayoutImage(Path(twin))))])
        assert twin in caught.value.message
        assert "dsk rename" in caught.value.hint


def test_one_stem_in_two_concepts_is_fine():
    other = LayoutFolder(ROOT / "train/5_b", (LayoutImage(Path("other/x.png")),))
    assert len(list(fill_ops([*TARGETS, other]))) == 5


def test_an_empty_caption_is_never_written():
    with pytest.raises(InputError, match=r"x\.jpg"):
        fill_ops([LayoutFolder(A, (LayoutImage(Path("in/x.jpg"), " \n"),))])


def done(files, plan):
    """Apply a plan to path -> content. A link or copy has its source's name as content."""
    state = dict(files)
    for op in plan.ops:
        if isinstance(op, Move):
            assert op.dst not in files
            state[op.dst] = state.pop(op.src)
    for op in plan.ops:
        if isinstance(op, Link | Copy):
            assert op.dst not in state
            state[op.dst] = str(op.src)
        elif isinstance(op, WriteText):
            state[op.path] = op.text
    return state


def content(op):
    return op.text if isinstance(op, WriteText) else str(op.src)


def existing_of(files, targets):
    want = {
        op.path if isinstance(op, WriteText | WriteBytes) else op.dst: content(op)
        for op in fill_ops(targets)
    }
    return {
        path: want.get(path) == text for path, text in files.items() if path.is_relative_to(ROOT)
    }


SOURCE = st.builds(
    LayoutImage,
    st.sampled_from("abcd").map(lambda s: Path("in") / f"{s}.jpg"),
    st.sampled_from([None, "one\n", "two\n"]),
    st.sampled_from([None, Path("m/1.png"), Path("m/2.png")]),
    st.booleans(),
)
TARGET_SETS = st.lists(
    st.lists(SOURCE, unique_by=lambda s: s.image, max_size=4).map(tuple), max_size=3
).map(
    lambda sets: tuple(
        LayoutFolder(ROOT / f"train/1_{'xyz'[i]}", sources) for i, sources in enumerate(sets)
    )
)


@settings(max_examples=150, deadline=None)
@given(TARGET_SETS, TARGET_SETS)
def test_an_updated_layout_equals_a_new_one(before, after):
    files = done({}, plan_layout(before, root=ROOT, existing={}, trash=TRASH))
    plan = plan_layout(after, root=ROOT, existing=existing_of(files, after), trash=TRASH)
    result = done(files, plan)
    in_trash = {path for path in result if path.is_relative_to(TRASH)}
    from_nothing = done({}, plan_layout(after, root=ROOT, existing={}, trash=TRASH))
    assert {path: text for path, text in result.items() if path not in in_trash} == from_nothing
    assert not plan_layout(after, root=ROOT, existing=existing_of(from_nothing, after), trash=TRASH)


def tree(*folders):
    return ConceptFolders(
        tuple(ConceptFolder(ROOT / f"{n}_{name}", Concept(n, name)) for n, name in folders), ()
    )


def test_new_repeats_rename_the_folder():
    plan = plan_repeats_change(tree((10, "a"), (5, "b")), {"a": 20, "b": 5})
    assert plan.ops == (Move(ROOT / "10_a", ROOT / "20_a"),)


def test_two_folders_of_one_concept_are_not_merged():
    with pytest.raises(PlanConflict, match="20_a"):
        plan_repeats_change(tree((10, "a"), (20, "a")), {"a": 20})


def test_a_concept_without_a_folder_is_named_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        plan_repeats_change(tree((10, "nekochan")), {"nekochn": 20})
    assert "nekochan" in caught.value.hint


def test_repeats_below_one_are_refused():
    with pytest.raises(ConfigError):
        plan_repeats_change(tree((10, "a")), {"a": 0})
