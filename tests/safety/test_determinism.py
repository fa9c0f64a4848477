"""Workers, order and other images change nothing in captions, images and tables."""

import random
import shutil

import pytest

from datasetkit import api
from tests.safety.datasets import write_image
from tests.safety.finders import DETECTOR
from tests.safety.harness import tree
from tests.safety.tagger import NAME

N = 13


def images(folder, numbers) -> None:
    for i in numbers:
        write_image(folder / f"{i:02d}.{'png' if i % 3 else 'jpg'}", i, (40 + i, 30))


def everything(root, workers: int) -> dict[str, str]:
    api.tag(
        root / "imgs",
        api.TagOptions(tagger=NAME, trigger=("sks",), mcut=True, rating="last", workers=workers),
    )
    api.resize(root / "imgs", root / "out", api.ResizeOptions(max=32, workers=workers))
    api.cutout(
        root / "out", root / "cut", api.CutoutOptions(bg="random", feather=1, workers=workers)
    )
    api.erase_faces(
        root / "out", root / "erased", api.FacesOptions(detector=DETECTOR, workers=workers)
    )
    api.report(root / "out", api.ReportOptions(out=str(root / "report")))
    found, sheet = str(root / "report" / "found.csv"), str(root / "report" / "found.png")
    api.check(root / "imgs", api.CheckOptions(workers=workers, csv=found, sheet=sheet))
    return tree(root)


@pytest.mark.long
def test_workers_and_the_order_of_files_change_nothing(workdir):
    trees = []
    for turn, workers in enumerate((1, 2, 8, 0)):
        root = workdir / str(turn)
        numbers = list(range(N))
        random.Random(turn).shuffle(numbers)
        images(root / "imgs", numbers)
        trees.append(everything(root, workers))
    assert all(seen == trees[0] for seen in trees)
    assert sum(name.endswith(".txt") for name in trees[0]) == 4 * N


@pytest.mark.long
@pytest.mark.parametrize("subset", [range(1), range(4, 9), range(0, N, 2)])
def test_other_images_in_the_folder_change_nothing(subset, workdir):
    images(workdir / "all" / "imgs", range(N))
    images(workdir / "some" / "imgs", subset)
    whole, part = everything(workdir / "all", 2), everything(workdir / "some", 2)
    mine = {
        name: what
        for name, what in part.items()
        if not name.startswith("report/") and what != "folder"
    }
    assert mine.items() <= whole.items()


@pytest.mark.long
def test_a_second_run_changes_nothing_and_infers_nothing(workdir):
    images(workdir / "imgs", range(N))
    first = everything(workdir, 2)
    times = {p: p.stat().st_mtime_ns for p in (workdir / "imgs").glob("*.*") if p.is_file()}
    again = api.tag(
        workdir / "imgs", api.TagOptions(tagger=NAME, trigger=("sks",), mcut=True, rating="last")
    )
    assert again.inferred == 0
    assert again.changes == ()
    assert tree(workdir) == first
    assert {p: p.stat().st_mtime_ns for p in times} == times


def test_stored_and_new_scores_give_the_same_captions(workdir):
    images(workdir / "imgs", range(N))
    api.tag(workdir / "imgs", api.TagOptions(tagger=NAME, threshold=0.9))
    api.tag(workdir / "imgs", api.TagOptions(tagger=NAME, threshold=0.2))
    stored = tree(workdir)
    shutil.rmtree(workdir / "imgs" / ".dsk")
    api.tag(workdir / "imgs", api.TagOptions(tagger=NAME, threshold=0.2, existing="overwrite"))
    assert tree(workdir) == stored
