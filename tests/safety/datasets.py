"""Small datasets, and one case for each command that changes files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from datasetkit import api
from datasetkit.checks import registry
from datasetkit.core.files import read_existing
from datasetkit.options.dataset import ExportOptions, ImportOptions, LayoutOptions
from datasetkit.options.images import CutoutOptions, FacesOptions, RenameOptions, ResizeOptions
from datasetkit.options.reg import RegOptions
from datasetkit.options.tag import RulesOptions, TagOptions
from datasetkit.project.plans import Copy, Link, Move, Plan, WriteText
from datasetkit.project.session import DEFAULT_CONTEXT, open_project
from tests.safety.finders import DETECTOR
from tests.safety.harness import Case
from tests.safety.tagger import NAME

TAG = TagOptions(tagger=NAME, trigger=("sks",), threshold=0.35)
# The commands that detect subjects and faces, with the detectors of the tests; each runs beside
# `imgs`.
FINDING = {
    "cutout": ["cutout", "imgs", "out"],
    "faces list": ["faces", "list", "imgs", "--detector", DETECTOR],
    "faces crop": ["faces", "crop", "imgs", "out", "--detector", DETECTOR, "--min-size", "1"],
    "faces erase": ["faces", "erase", "imgs", "out", "--detector", DETECTOR],
}
# Those of them that write images.
WRITING = {name: command for name, command in FINDING.items() if name != "faces list"}
# The checks that fix something: none of them loads a model.
MENDED = tuple(name for name, check in registry.CHECKS.items() if check.fix)


def write_image(path: Path, seed: int, size: tuple[int, int] = (48, 36)) -> Path:
    """Write a small image whose colours follow from the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    base = random.integers(0, 256, 3)
    noise = random.integers(-40, 40, (size[1], size[0], 3))
    Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8)).save(path)
    return path


def caption(image: Path, text: str) -> None:
    image.with_suffix(".txt").write_text(text, encoding="utf-8")


def mask(image: Path) -> None:
    path = image.parent / "masks" / f"{image.stem}.png"
    path.parent.mkdir(exist_ok=True)
    Image.new("L", (48, 36), 255).save(path)


def small_set(folder: Path, n: int = 6) -> list[Path]:
    """Make n images: the first half with a person's captions, the first one with a mask."""
    images = [
        write_image(folder / f"photo {i}.{'png' if i % 2 else 'jpg'}", i) for i in range(1, n + 1)
    ]
    for i, image in enumerate(images[: n // 2]):
        caption(image, f"by hand {i}, lips, smile\n")
    mask(images[0])
    return images


def _plain(root: Path) -> None:
    small_set(root / "imgs")


def _named(root: Path) -> None:
    """Names that make a rename chain: shared stems, widths, capitals, composed and decomposed
    letters, bytes that are not UTF-8.
    """
    folder = root / "imgs"
    for i, name in enumerate(
        ("p_1.png", "p_001.PNG", "p_2.jpg", "a.png", "a.jpg", "\u00e9.png", "e\u0301.png", "Z.JPG")
    ):
        image = write_image(folder / name, i)
        if name != "a.jpg":
            caption(image, f"caption of {i}\n")
    (folder / "a.png.json").write_text('{"of": "a.png"}', encoding="utf-8")
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.png")).write_bytes(
        (folder / "a.png").read_bytes() + b"!"
    )
    mask(folder / "p_2.jpg")
    mask(folder / "a.png")


def _moved(root: Path) -> None:
    for i, name in enumerate("abcdefgh"):
        caption(write_image(root / f"{name}.png", i), f"caption of {i}\n")


def _moves(root: Path) -> None:
    """A swap, a cycle of three, and a chain to a free name, only once, as a verb has nothing to do
    on its next run.
    """
    pairs = [
        ("a", "b"),
        ("b", "a"),
        ("c", "d"),
        ("d", "e"),
        ("e", "c"),
        ("f", "g"),
        ("g", "h"),
        ("h", "free"),
    ]
    ops = [
        Move(root / f"{a}{suffix}", root / f"{b}{suffix}")
        for a, b in pairs
        for suffix in (".png", ".txt")
    ]
    with open_project(root, DEFAULT_CONTEXT) as project:
        if not (root / "free.png").exists():
            project.apply(Plan(tuple(ops)), "moves")


def _copies(root: Path) -> None:
    ops = (
        Link(root / "a.png", root / "new" / "linked.png"),
        Copy(root / "b.png", root / "new" / "deep" / "copied.png"),
        WriteText(root / "new" / "text.txt", "new\n", None),
        WriteText(root / "a.txt", "newer\n", read_existing(root / "a.txt")),
    )
    with open_project(root, DEFAULT_CONTEXT) as project:
        if not (root / "new" / "text.txt").exists():
            project.apply(Plan(ops), "copies")


def _resizable(root: Path) -> None:
    images = small_set(root / "imgs")
    write_image(root / "imgs" / "photo 1.gif", 20)
    write_image(root / "imgs" / "large.bmp", 21, (200, 120))
    caption(images[-1], "of the last\n")


def _laid_out(root: Path) -> None:
    """A laid-out dataset whose source has changed since: one image removed, one added, one caption
    changed.
    """
    folder = root / "imgs"
    images = small_set(folder)
    api.layout((f"3_sks={folder}",), LayoutOptions(out=str(root / "dataset")))
    images[4].unlink()
    write_image(folder / "new.png", 30)
    caption(images[0], "another caption\n")


def _for_reg(root: Path) -> None:
    small_set(root / "imgs")
    small_set(root / "class", 4)
    api.layout((f"3_sks={root / 'imgs'}",), LayoutOptions(out=str(root / "dataset")))


def _for_import(root: Path) -> None:
    for i, image in enumerate(small_set(root / "imgs")):
        image.with_name(image.name + ".txt").write_text(
            f"tag_{i}\nsolo\nseries:x\n", encoding="utf-8"
        )


def _for_undo(root: Path) -> None:
    small_set(root / "imgs")
    tag(root)
    rename(root)


def _followed(root: Path) -> None:
    """A resized dataset; of its sources one was renamed since, one removed and one added."""
    folder = root / "imgs"
    images = small_set(folder)
    resize(root)
    images[0].rename(folder / "renamed.png")
    images[0].with_suffix(".txt").rename(folder / "renamed.txt")
    images[4].unlink()
    write_image(folder / "new.png", 40)


def _spoiled(root: Path) -> None:
    """A dataset with every fault that `dsk check --fix` fixes: byte order marks, lines, names,
    suffixes, triggers, tags.
    """
    folder = root / "imgs"
    images = small_set(folder)
    for n, image in enumerate(images):
        caption(image, f"tag {n}, sks, smile, Smile")
    images[0].with_suffix(".txt").write_bytes(b"\xef\xbb\xbfsks, by hand\r\nlips\r\n")
    images[1].with_suffix(".txt").rename(images[1].with_suffix(".caption"))
    images[2].with_suffix(".txt").rename(images[2].with_name(f"{images[2].name}.txt"))
    images[3].rename(images[3].with_suffix(".webp"))


def _recut(root: Path) -> None:
    """A cut-out dataset; of its sources one was renamed since, one removed and one added."""
    folder = root / "imgs"
    images = small_set(folder)
    cutout(root)
    images[0].rename(folder / "renamed.png")
    images[0].with_suffix(".txt").rename(folder / "renamed.txt")
    images[4].unlink()
    caption(write_image(folder / "new.png", 40), "sks, forest\n")


def tag(root: Path) -> object:
    return api.tag(root / "imgs", TagOptions(tagger=NAME, trigger=("sks",), existing="overwrite"))


def rename(root: Path) -> object:
    return api.rename(root / "imgs", RenameOptions(prefix="p"))


def rules(root: Path) -> object:
    return api.rules(
        root / "imgs", RulesOptions(trigger=("sks",), exclude=("lips",), additional=("best",))
    )


def resize(root: Path) -> object:
    return api.resize(root / "imgs", root / "small", ResizeOptions(max=32))


def resize_in_place(root: Path) -> object:
    return api.resize(root / "imgs", None, ResizeOptions(max=32, in_place=True))


def cutout(root: Path) -> object:
    return api.cutout(root / "imgs", root / "cut", CutoutOptions())


def crop(root: Path) -> object:
    return api.crop_faces(
        root / "imgs", root / "faces", FacesOptions(detector=DETECTOR, min_size=8, size=16)
    )


def erase(root: Path) -> object:
    return api.erase_faces(root / "imgs", root / "erased", FacesOptions(detector=DETECTOR))


def layout(root: Path) -> object:
    return api.layout((f"5_sks={root / 'imgs'}",), LayoutOptions(out=str(root / "dataset")))


def reg(root: Path) -> object:
    return api.reg(
        RegOptions(folder=str(root / "class"), class_name="1girl", out=str(root / "dataset"))
    )


def import_captions(root: Path) -> object:
    return api.import_captions(root / "imgs", ImportOptions(existing="overwrite"))


def export_shards(root: Path) -> object:
    return api.export(
        root / "imgs", ExportOptions(format="webdataset", out=str(root / "s"), shard_size=2)
    )


def import_shards(root: Path) -> object:
    return api.import_shards(
        root / "s", ImportOptions(source="webdataset", out=str(root / "imgs" / "new"))
    )


def _with_shards(root: Path) -> None:
    _plain(root)
    export_shards(root)


def _with_old_shards(root: Path) -> None:
    _with_shards(root)
    for n in (2, 5):  # of two shards
        (root / "imgs" / f"photo {n}.txt").write_text("edited\n")


def check_and_fix(root: Path) -> object:
    return api.check(root / "imgs", api.CheckOptions(only=MENDED, trigger=("sks",)), fix=True)


def undo_first(root: Path) -> object:
    return api.undo(root / "imgs", 1)


CASES = {
    case.name: case
    for case in (
        Case("tag", _plain, tag),
        Case("rename", _named, rename),
        Case("moves", _moved, _moves),
        Case("copies", _moved, _copies),
        Case("resize", _resizable, resize),
        Case("resize-again", _followed, resize),
        Case("resize-in-place", _plain, resize_in_place),
        Case("cutout", _plain, cutout),
        Case("cutout-again", _recut, cutout),
        Case("faces-crop", _plain, crop),
        Case("faces-erase", _plain, erase),
        Case("rules", _plain, rules),
        Case("layout", _laid_out, layout),
        Case("reg", _for_reg, reg),
        Case("import", _for_import, import_captions),
        Case("export-shards", _with_old_shards, export_shards),
        Case("import-shards", _with_shards, import_shards),
        Case("check", _spoiled, check_and_fix),
        Case("undo", _for_undo, undo_first),
    )
}
