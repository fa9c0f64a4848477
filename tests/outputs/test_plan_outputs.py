"""What is decided about outputs before anything is written; no test here touches a disk."""

from pathlib import Path

import pytest

from datasetkit.captions.caption import parse
from datasetkit.core.errors import InputError, PlanConflict
from datasetkit.core.records import Caption, ImageRecord
from datasetkit.images.scan import Scan
from datasetkit.outputs.facts import CaptionState, FileState, OutputFacts
from datasetkit.outputs.plan import plan_outputs
from datasetkit.outputs.sidecars import plan_captions
from datasetkit.outputs.spec import OutputSpec
from datasetkit.project.store import Output, StoredOutput, caption_hash

ROOT = Path("/project")
IMGS, OUT, TRASH = ROOT / "imgs", ROOT / "out", ROOT / ".dsk" / "trash" / "resize-9"
RECIPE = "resize-3 1024"


class World:
    """Files and rows of the store, in memory. Every file has a size of its own."""

    def __init__(self) -> None:
        self.files: dict[Path, FileState] = {}
        self.stored: dict[Path, StoredOutput] = {}
        self.captions: dict[Path, CaptionState] = {}
        self.digests: dict[Path, str] = {}

    def file(self, path: Path, **state) -> Path:
        self.files[path] = FileState(size=len(self.files) + 1, **state)
        return path

    def made(
        self, name: str, of: str, *, image: str, recipe: str = RECIPE, is_pending=False
    ) -> Path:
        """Add an output of dsk's. of: the name of the original; image: its id."""
        path = self.file(OUT / name)
        output = Output(path, image, recipe, IMGS / of)
        self.stored[path] = StoredOutput(output, self.files[path].size, 0, is_pending)
        return path

    def caption(self, path: Path, text: str, *, generated=False) -> Path:
        self.captions[path] = CaptionState(parse(text), generated)
        return self.file(path)

    def carried(self, name: str, text: str, *, origin: str, left: str | None = None) -> Path:
        """Add a caption in the output folder that was taken from an original. origin: what it said
        there; left: what dsk left, where it says something else now.
        """
        path = self.caption(OUT / name, text)
        source = f"{hashed(origin)} {hashed(left or text)}"
        row = Output(path, source, "carried", IMGS / name)
        self.stored[path] = StoredOutput(row, self.files[path].size, 0, is_pending=False)
        return path

    def edit(self, path: Path) -> None:
        self.files[path] = FileState(size=1000)

    def facts(self) -> OutputFacts:
        return OutputFacts(ROOT, TRASH, self.files, self.stored, self.captions, self.digests)


def hashed(text: str) -> str:
    return caption_hash(parse(text))


@pytest.fixture
def world() -> World:
    return World()


def scan(world: World, **images: str) -> Scan:
    """Return a scan of PNG images by name, with their ids."""
    records = [
        ImageRecord(world.file(IMGS / f"{name}.png"), image, 64, 48)
        for name, image in images.items()
    ]
    return Scan(IMGS, tuple(records), ())


def spec(found: Scan, *, suffix: str = ".png", mask: bool = False, **more) -> OutputSpec:
    targets = {}
    for record in found.records:
        path = OUT / f"{record.path.stem}{suffix}"
        targets[record.path] = (path, OUT / "masks" / f"{path.stem}.png") if mask else (path,)
    return OutputSpec(
        OUT, more.pop("recipe", RECIPE), more.pop("targets", targets), "would be resized", **more
    )


def names(records) -> list[str]:
    return [record.path.stem for record in records]


def moves(several) -> list[tuple[str, str]]:
    """Return (from, to) of every file that moves, as short as can be."""
    return [
        (str(op.src.relative_to(OUT)), "trash" if TRASH in op.dst.parents else op.dst.name)
        for move in several
        for op in move.moves
    ]


def drop_lips(caption: Caption) -> Caption:
    return Caption(tuple(tag for tag in caption.tags if tag != "lips"))


# ---- keep and make
# ----------------------------------------------------------------------------------------------


def test_an_output_is_kept_if_source_recipe_and_file_are_as_they_were(world):
    found = scan(world, a="1", b="2", c="3", d="4", e="5")
    world.made("a.png", "a.png", image="1")
    world.made("b.png", "b.png", image="other")
    world.made("c.png", "c.png", image="3", recipe="resize-3 512")
    world.made("d.png", "d.png", image="4", is_pending=True)  # a killed run was about to make it
    plan = plan_outputs(found, spec(found), world.facts())
    assert (names(plan.keep), names(plan.make)) == (["a"], ["b", "c", "d", "e"])
    assert (plan.adopt, plan.moves, plan.copies, plan.fallbacks) == ((), (), (), {})


def test_a_file_that_the_store_does_not_list_is_compared_before_anything_is_done(world):
    found = scan(world, a="1", b="2")
    theirs = world.file(OUT / "a.png")
    world.made("b.png", "b.png", image="2")
    world.edit(OUT / "b.png")
    plan = plan_outputs(found, spec(found), world.facts())
    assert [(a.record.path.stem, a.existing) for a in plan.adopt] == [
        ("a", (theirs,)), ("b", (OUT / "b.png",)),
    ]  # fmt: skip
    assert names(plan.keep) == ["a", "b"], "if they are what would be made"


def test_an_unknown_mask_alone_is_compared_and_its_image_made(world):
    found = scan(world, a="1")
    mask = world.file(OUT / "masks" / "a.png")
    plan = plan_outputs(found, spec(found, mask=True), world.facts())
    assert plan.adopt[0].existing == (None, mask) and names(plan.make) == ["a"]


def test_an_edited_mask_that_moves_is_compared_where_it_is_now(world):
    """Or it would be overwritten: at its new place there is nothing yet."""
    found = scan(world, z="1")
    world.made("a.png", "a.png", image="1", recipe="resize-3 512")
    mask = world.file(OUT / "masks" / "a.png")
    plan = plan_outputs(found, spec(found, mask=True), world.facts())
    assert plan.adopt[0].existing == (OUT / "a.png", mask)


def test_an_image_without_files_is_left_out(world):
    found = scan(world, a="1", b="2")
    wanted = spec(found, targets={IMGS / "a.png": (), IMGS / "b.png": (OUT / "b.png",)})
    plan = plan_outputs(found, wanted, world.facts())
    assert names(plan.wanted) == names(plan.make) == ["b"]


def test_two_images_are_never_written_to_one_file():
    a, b, out = Path("a.jpg"), Path("a.png"), Path("out/a.png")
    for targets in ({a: (out,), b: (out,)}, {a: (b,), b: (out,)}, {a: (a,)}):
        with pytest.raises(PlanConflict):
            OutputSpec(Path("out"), "resize-1", targets, "would be resized")


# ---- move and trash
# ----------------------------------------------------------------------------------------------


def test_a_renamed_source_takes_output_caption_and_mask_along_and_nothing_is_made(world):
    found = scan(world, z="1")
    world.made("a.png", "a.png", image="1")
    world.carried("a.txt", "sks", origin="sks")
    world.file(OUT / "masks" / "a.png")
    plan = plan_outputs(found, spec(found), world.facts())
    assert moves(plan.move) == [("a.png", "z.png"), ("a.txt", "z.txt"), ("masks/a.png", "z.png")]
    assert names(plan.keep) == ["z"] and plan.trash == ()
    listed = {output.path: output.origin for output in plan.moves[0].outputs}
    assert listed == {OUT / "z.png": IMGS / "z.png", OUT / "z.txt": IMGS / "a.txt"}, (
        "the mask is a person's, and stays one"
    )


def test_sources_that_took_each_others_names_swap_their_outputs(world):
    found = scan(world, a="2", b="1")
    world.made("a.png", "a.png", image="1")
    world.made("b.png", "b.png", image="2")
    plan = plan_outputs(found, spec(found), world.facts())
    assert moves(plan.move) == [("a.png", "b.png"), ("b.png", "a.png")]
    assert names(plan.keep) == ["a", "b"]


def test_the_output_of_a_source_that_is_gone_goes_to_the_trash_with_its_caption(world):
    found = scan(world, b="2")
    world.made("a.png", "a.png", image="1")
    world.carried("a.txt", "sks", origin="sks")
    plan = plan_outputs(found, spec(found), world.facts())
    assert moves(plan.trash) == [("a.png", "trash"), ("a.txt", "trash")]


def test_another_format_puts_the_old_output_into_the_trash_and_keeps_the_caption(world):
    found = scan(world, a="1")
    world.made("a.png", "a.png", image="1")
    world.carried("a.txt", "sks", origin="sks")
    plan = plan_outputs(found, spec(found, suffix=".jpg"), world.facts())
    assert moves(plan.moves) == [("a.png", "trash")] and names(plan.make) == ["a"]


def test_what_another_verb_made_under_the_name_is_superseded(world):
    found = scan(world, a="1")
    world.made("a.png", "a.png", image="1", recipe="cutout-1 u2netp")
    world.made("masks/a.png", "a.png", image="1", recipe="beside cutout")
    plan = plan_outputs(found, spec(found, suffix=".jpg"), world.facts())
    assert moves(plan.trash) == [("a.png", "trash"), ("masks/a.png", "trash")]
    assert all(move.superseded for move in plan.moves)


@pytest.mark.parametrize("case", ["edited", "unreadable", "of another folder", "changed in place"])
def test_an_output_stays_where(world, case):
    images = {"a": "new"} if case == "changed in place" else {"b": "2"}
    found = scan(world, **images)
    path = world.made("a.png", "a.png", image="1")
    if case == "edited":
        world.edit(path)
    elif case == "unreadable":
        world.file(IMGS / "a.png")  # it is there, and was not scanned
    elif case == "of another folder":
        row = world.stored[path].output
        moved = Output(path, row.source, row.recipe, ROOT / "others" / "a.png")
        world.stored[path] = StoredOutput(moved, world.files[path].size, 0, is_pending=False)
    assert plan_outputs(found, spec(found), world.facts()).moves == ()


def test_staged_outputs_neither_follow_nor_take_captions_along(world):
    """`resize --in-place`: they are swapped in later, and the captions stay beside the images."""
    found = scan(world, a="1")
    world.caption(IMGS / "a.txt", "sks")
    world.made("b.png", "b.png", image="2")
    plan = plan_outputs(found, spec(found, staged=True), world.facts())
    assert (plan.moves, plan.copies, plan.edited) == ((), (), ()) and names(plan.make) == ["a"]


# ---- captions and masks that go along as they are
# ----------------------------------------------------------------------------------------------


def test_a_caption_and_a_mask_are_copied_once_and_an_edited_copy_is_kept(world):
    found = scan(world, a="1", b="2")
    for name in ("a", "b"):
        world.caption(IMGS / f"{name}.txt", "sks")
    world.file(IMGS / "masks" / "a.png")
    world.file(IMGS / "masks" / "b.png", is_link=True)
    world.caption(OUT / "b.txt", "by hand")
    plan = plan_outputs(found, spec(found), world.facts())
    assert [(c.source, c.target) for c in plan.copies] == [
        (IMGS / "a.txt", OUT / "a.txt"), (IMGS / "masks" / "a.png", OUT / "masks" / "a.png"),
    ]  # fmt: skip


@pytest.mark.parametrize(("digest", "again"), [("same", True), ("edited", False)])
def test_a_copy_that_a_killed_run_could_not_note_is_noted_now(world, digest, again):
    found = scan(world, a="1")
    source, target = world.caption(IMGS / "a.txt", "sks"), world.caption(OUT / "a.txt", "sks")
    row = Output(target, "", "carried", source)
    world.stored[target] = StoredOutput(row, 0, 0, is_pending=True)
    world.digests = {source: "same", target: digest}
    plan = plan_outputs(found, spec(found), world.facts())
    assert [c.target for c in plan.copies] == ([target] if again else [])


def test_every_crop_of_an_image_gets_its_caption_and_masks_are_cropped_not_copied(world):
    """`faces crop`: two faces, and a mask."""
    found = scan(world, a="1")
    world.caption(IMGS / "a.txt", "sks")
    world.file(IMGS / "masks" / "a.png")
    files = tuple(OUT / name for name in ("a.png", "a_2.png", "masks/a.png", "masks/a_2.png"))
    wanted = spec(found, targets={IMGS / "a.png": files}, recipe="faces-1 crop")
    plan = plan_outputs(found, wanted, world.facts())
    assert [c.target.name for c in plan.copies] == ["a.txt", "a_2.txt"]
    assert [o.source for o in wanted.outputs(found.records[0])] == ["1", "1/2", "1", "1"]


def test_a_caption_that_is_reworded_is_not_copied_and_the_others_are(world):
    """`faces erase`: something was erased in one of two images."""
    found = scan(world, a="1", b="2")
    for name in ("a", "b"):
        world.caption(IMGS / f"{name}.txt", "sks, lips")
    wanted = spec(found, rewords={IMGS / "a.png": drop_lips}, recipe="faces-1 erase")
    plan = plan_outputs(found, wanted, world.facts())
    assert [c.target.name for c in plan.copies] == ["b.txt"]
    assert [p.rewrite.caption.name for p in plan.rewrites] == ["a.txt"]


# ---- the copy of an image that fails
# ----------------------------------------------------------------------------------------------


def cut(found: Scan) -> OutputSpec:
    """Return what `cutout` wants."""
    rewords = {record.path: drop_lips for record in found.records}
    return spec(found, mask=True, recipe="cutout-1 x", rewords=rewords, fallback="cutout-1 x kept")


def test_an_image_that_fails_is_copied_with_its_caption_and_mask(world):
    found = scan(world, a="1", b="2")
    world.made("b.png", "b.png", image="2", recipe="cutout-1 x")
    world.caption(IMGS / "a.txt", "sks")
    world.file(IMGS / "masks" / "a.png")
    world.made("masks/a.png", "a.png", image="1", recipe="beside cutout")  # of an older cut-out
    plan = plan_outputs(found, cut(found), world.facts())
    (fallback,) = plan.fallbacks.values()
    assert fallback.output == Output(OUT / "a.png", "1", "cutout-1 x kept", IMGS / "a.png")
    assert [c.target.name for c in fallback.copies] == ["a.txt", "a.png"]
    assert plan.copies == () and names(plan.make) == ["a"]


def test_a_copy_that_is_there_is_kept_with_its_caption_and_mask(world):
    """The model runs again, and fails again: the second run has nothing to write."""
    found = scan(world, a="1")
    world.made("a.png", "a.png", image="1", recipe="cutout-1 x kept")
    world.caption(IMGS / "a.txt", "sks")
    world.carried("a.txt", "sks", origin="sks")
    world.file(IMGS / "masks" / "a.png")
    mask = world.made("masks/a.png", "masks/a.png", image="", recipe="carried")
    plan = plan_outputs(found, cut(found), world.facts())
    (fallback,) = plan.fallbacks.values()
    assert fallback.is_kept and fallback.copies == () and plan.pending == ()
    assert [output.path for output in fallback.settled] == [mask]


# ---- reword
# ----------------------------------------------------------------------------------------------


def test_captions_are_announced_before_their_images_are_made(world):
    """So the next run rewords what a kill cuts short; where there is no caption, nothing is due."""
    found = scan(world, a="1", b="2", c="3", d="4")
    world.caption(IMGS / "a.txt", "sks, lips")
    world.made("b.png", "b.png", image="2", recipe="cutout-1 x")
    world.caption(IMGS / "b.txt", "sks, lips")
    world.made("c.png", "c.png", image="3", recipe="cutout-1 x")
    pending_row = Output(world.caption(OUT / "c.txt", "sks, lips"), "", "caption", IMGS / "c.png")
    world.stored[pending_row.path] = StoredOutput(pending_row, 0, 0, is_pending=True)
    plan = plan_outputs(found, cut(found), world.facts())
    assert [output.path.name for output in plan.pending] == ["a.txt"]
    pending = {p.image.stem: p.is_pending for p in plan.rewrites}
    assert pending == {"a": True, "b": False, "c": True, "d": False}


def test_an_edit_beside_the_original_is_taken_over_only_where_the_output_is_as_dsk_left_it(world):
    found = scan(world, a="1", b="2", c="3", d="4", e="5")
    for name in "abcde":
        world.caption(IMGS / f"{name}.txt", "sks, hat", generated=name == "d")
    world.carried("a.txt", "sks", origin="sks")  # left so
    world.carried("b.txt", "sks, by hand", origin="sks", left="sks")  # edited in the output folder
    world.carried("c.txt", "sks", origin="sks, hat")  # no news
    world.carried("d.txt", "sks", origin="sks")  # dsk wrote the original's
    plan = plan_outputs(found, spec(found), world.facts())
    assert [rewrite.caption.name for rewrite in plan.edited] == ["a.txt"]


def test_an_edit_is_found_under_the_name_that_its_image_had(world):
    """Moves are decided first, and all else as if they were done."""
    found = scan(world, z="1")
    world.made("a.png", "a.png", image="1")
    world.carried("a.txt", "sks", origin="sks")
    world.caption(IMGS / "z.txt", "sks, hat")
    plan = plan_outputs(found, spec(found), world.facts())
    assert [rewrite.caption for rewrite in plan.edited] == [OUT / "z.txt"] and plan.copies == ()


def worded(world: World, plan):
    rewrites = [planned.rewrite for planned in plan.rewrites]
    return plan_captions(rewrites, plan.edited, "cutout", world.captions, plan.facts)


def test_a_reworded_caption_follows_the_output_else_the_original(world):
    found = scan(world, a="1", b="2", c="3")
    world.caption(IMGS / "a.txt", "sks, lips", generated=True)
    world.caption(IMGS / "b.txt", "of the original, lips")
    world.caption(OUT / "b.txt", "pruned, lips")
    captions = worded(world, plan_outputs(found, cut(found), world.facts()))
    assert {op.path.name: op.text for op in captions.writes} == {
        "a.txt": "sks\n", "b.txt": "pruned\n"
    }  # fmt: skip
    assert captions.generated == (hashed("sks"),), "dsk wrote it, and so it wrote this one"
    assert [change.removed for change in captions.changes] == [("lips",), ("lips",)]


def test_a_caption_that_would_be_empty_is_kept_and_one_that_cannot_be_read_fails(world):
    found = scan(world, a="1", b="2")
    world.caption(OUT / "a.txt", "lips")
    world.file(OUT / "b.txt")
    world.captions[OUT / "b.txt"] = CaptionState(None, problem=InputError("is not UTF-8 text"))
    captions = worded(world, plan_outputs(found, cut(found), world.facts()))
    assert captions.writes == () and captions.changes == ()
    assert [failure.path.name for failure in captions.failed] == ["b.png"]


def test_the_store_keeps_what_was_taken_and_what_was_left(world):
    found = scan(world, a="1", b="2")
    world.carried("a.txt", "sks, lips", origin="sks, lips")
    world.carried("b.txt", "edited, lips", origin="sks, lips", left="sks, lips")
    captions = worded(world, plan_outputs(found, cut(found), world.facts()))
    kept = {output.path.name: output.source for output in captions.outputs}
    assert kept["a.txt"] == f"{hashed('sks, lips')} {hashed('sks')}"
    assert kept["b.txt"] == f"{hashed('sks, lips')} {hashed('sks, lips')}", "a person's edit"
