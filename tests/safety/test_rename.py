"""In every rename each image keeps its bytes, caption, mask and sidecars, and undo reverses it."""

import os
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit import api
from datasetkit.core.file_kinds import IMAGE_SUFFIXES
from datasetkit.options.images import RenameOptions
from datasetkit.project.plans import Move, Plan
from datasetkit.project.session import DEFAULT_CONTEXT, open_project
from tests.safety.harness import files, strays, tree

STEMS = st.one_of(
    st.sampled_from(
        [
            "a",
            "A",
            "p_1",
            "p_2",
            "p_01",
            "p_001",
            "p_0001",
            "P_001",
            "p_1000",
            "\u00e9",
            "e\u0301",
            "-x",
        ]
    ),
    st.sampled_from(
        [
            "a b",
            "CON",
            "x.",
            "x.y",
            "\u202egnp",
            "line\nbreak",
            "%s",
            "[x]",
            "\U0001f600",
            "bad\udcff",
        ]
    ),
)
SUFFIXES = st.sampled_from([".png", ".PNG", ".jpg", ".JPEG", ".webp"])
BELONGINGS = st.frozensets(st.sampled_from(["caption", "mask", "sidecar", "json"]))


def make(folder: Path, names) -> None:
    """Write files whose content names their owner; rename does not read images."""
    (folder / "masks").mkdir(parents=True)
    for stem, suffix, belongings in names:
        image = folder / f"{stem}{suffix}"
        image.write_text(f"image {stem!r}{suffix}")
        places = {
            "caption": folder / f"{stem}.txt",
            "mask": folder / "masks" / f"{stem}.png",
            "sidecar": folder / f"{stem}{suffix}.txt",
            "json": folder / f"{stem}.json",
        }
        for kind in belongings:
            places[kind].write_text(f"{kind} of {stem!r}")


def families(folder: Path) -> Counter:
    """Return, for each image, its content together with that of the files under its name."""
    found: Counter = Counter()
    for path in files(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.parent == folder:
            beside = [
                p for p in (path.with_suffix(".txt"), path.with_suffix(".json")) if p.is_file()
            ]
            beside += [
                p
                for p in (folder / "masks" / f"{path.stem}.png", Path(f"{path}.txt"))
                if p.is_file()
            ]
            found[(path.read_text(), *sorted(p.read_text() for p in beside))] += 1
    return found


@pytest.mark.long
@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(
        st.tuples(STEMS, SUFFIXES, BELONGINGS),
        min_size=1,
        max_size=9,
        unique_by=lambda n: n[0] + n[1],
    )
)
def test_every_image_keeps_what_belongs_to_it_and_undo_restores_the_tree(names):
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    ) as workdir:
        folder = Path(workdir) / "imgs"
        make(folder, names)
        before, whose = tree(folder), families(folder)
        api.rename(folder, RenameOptions(prefix="p"))
        assert families(folder) == whose
        stems = [p.stem for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
        assert len(set(stems)) == len(stems) == len(names)
        assert all(stem.startswith("p_") and stem[2:].isdecimal() for stem in stems)
        assert api.rename(folder, RenameOptions(prefix="p")).plan == Plan()
        if api.history(folder):
            api.undo(folder)
        assert tree(folder) == before
        assert strays(folder) == []


@pytest.mark.parametrize("seed", range(12))
def test_any_permutation_of_names_is_done_and_undone(seed, workdir):
    """Swaps, cycles, chains, case-only and composed / decomposed renames in one plan."""
    draw = random.Random(seed)
    names = ["a", "A", "b", "B", "\u00e9", "e\u0301", "c", "bad\udcff", "line\nbreak"]
    sources = draw.sample(names, draw.randint(2, len(names)))
    targets = draw.sample([*sources, *("x", "X", "\u00c9")], len(sources))
    for name in sources:
        (workdir / f"{name}.png").write_text(name.encode("unicode_escape").decode())
    before = tree(workdir)
    plan = Plan(
        tuple(
            Move(workdir / f"{s}.png", workdir / f"{t}.png")
            for s, t in zip(sources, targets, strict=True)
        )
    )
    with open_project(workdir, DEFAULT_CONTEXT) as project:
        project.apply(plan, "moves")
    now = {n: (workdir / f"{n}.png").read_text() for n in targets}
    assert now == {
        t: s.encode("unicode_escape").decode() for s, t in zip(sources, targets, strict=True)
    }
    assert len(tree(workdir)) == len(sources)
    if sources != targets:
        api.undo(workdir)
    assert tree(workdir) == before
    assert strays(workdir) == []


def test_captions_added_after_the_rename_are_renamed_back_with_their_images(workdir):
    make(workdir / "imgs", [("b", ".png", ()), ("a", ".png", ())])
    api.rename(workdir / "imgs", RenameOptions(prefix="p"))
    (workdir / "imgs" / "p_001.txt").write_text("of a")
    (workdir / "imgs" / "p_002.txt").write_text("of b")
    api.undo(workdir / "imgs")
    assert (workdir / "imgs" / "a.txt").read_text() == "of a"
    assert (workdir / "imgs" / "b.txt").read_text() == "of b"


def test_a_moved_project_can_still_be_undone(workdir):
    make(workdir / "one", [("b", ".png", ["caption"]), ("a", ".png", ["mask"])])
    before = tree(workdir / "one")
    api.rename(workdir / "one", RenameOptions(prefix="p"))
    shutil.move(workdir / "one", workdir / "two")
    api.undo(workdir / "two")
    assert tree(workdir / "two") == before
