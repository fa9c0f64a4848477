"""The benchmarks still run: two images and a tiny model, no word about speed."""

from __future__ import annotations

import re
import shutil

import pytest
from PIL import Image

from tests.benchmarks import check, faces, images, lora_resize, resize, review, scale, tag, undo
from tests.benchmarks.__main__ import main
from tests.benchmarks.measure import Cost, python, rows, run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return images.make(tmp_path_factory.mktemp("images"), 2, shrink=2)


def test_images_are_the_same_every_time(made, tmp_path):
    again = images.make(tmp_path, 1, shrink=2)
    assert again[0].read_bytes() == made[0].read_bytes()


def test_images_weigh_what_photos_weigh(made):
    for path in made:
        with Image.open(path) as image:
            megapixels = image.width * image.height / 1e6
        assert 0.2 < path.stat().st_size / 1e6 / megapixels < 0.6


def test_every_camera_gives_six_to_twelve_megapixels():
    assert all(5.9 < width * height / 1e6 <= 12 for width, height in images.CAMERAS)


@pytest.mark.slow
def test_resize_is_measured_beside_the_others(made, tmp_path):
    measured = {row.way: row for row in resize.measure(made, tmp_path, 1, 90)}
    assert {resize.BASELINE, resize.OURS, resize.PLAIN} <= set(measured)
    ours = measured[resize.OURS]
    assert ours.speed > 0 and ours.cpu > 0 and ours.peak > 20e6 and "PSNR" in ours.note
    with Image.open(tmp_path / "resize-out-2" / made[0].name) as image:
        assert max(image.size) == 1024


def test_without_mogrify_its_row_says_so(made, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(resize, "_once", lambda *arguments: Cost(1, 1, 1))
    monkeypatch.setattr(resize, "fidelity", lambda *arguments: 40.0)
    first, *others = resize.measure(made, tmp_path, 1, 90)
    assert first.note == "mogrify is not installed"
    assert [row.way for row in others] == [resize.OURS, resize.PLAIN]


def test_a_command_that_fails_is_no_measurement():
    with pytest.raises(RuntimeError, match="failed"):
        run(python("tests.benchmarks.no_such_module"))


def test_ratios_are_taken_round_by_round():
    costs = {"base": [Cost(10, 10, 1), Cost(30, 30, 1)], "ours": [Cost(5, 8, 2), Cost(10, 9, 3)]}
    base, ours = rows(costs, "base", 10, {})
    assert base.ratio == 1
    assert ours.ratio == 2.5 and ours.spread == (2, 3) and ours.peak == 3 and ours.cpu == 0.85


@pytest.mark.slow
def test_the_command_tags_beside_the_raw_session_and_prints_a_table(capsys, tmp_path):
    main(["tag", "--quick", "--work", str(tmp_path)])
    printed = capsys.readouterr().out
    assert f"| {tag.BASELINE} " in printed and f"| {tag.OURS} " in printed
    assert len(list((tmp_path / "tag-in").glob("*.txt"))) == 2


@pytest.mark.slow
def test_the_command_checks_beside_a_plain_loop_and_prints_a_table(capsys, tmp_path):
    main(["check", "--quick", "--work", str(tmp_path)])
    printed = capsys.readouterr().out
    assert all(f"| {way} " in printed for way in (check.BASELINE, check.OURS, check.AGAIN))


@pytest.mark.slow
@pytest.mark.skipif(not review.possible(), reason=review.NO_BROWSER)
def test_the_command_uses_the_review_page_and_prints_a_table(capsys, tmp_path):
    main(["review", "--quick", "--work", str(tmp_path)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(lines) == 1 + len(review.figures())
    assert all(re.search(r"\d", cell) for line in lines[1:] for cell in line.split("|")[2:4])


@pytest.mark.slow
def test_faces_are_measured_beside_a_plain_loop(made, tmp_path):
    measured = {row.way: row for row in faces.measure(made, tmp_path, 1)}
    assert set(measured) == {faces.BASELINE, faces.OURS}


@pytest.mark.slow
def test_the_undo_of_a_command_costs_about_as_much_as_the_command(tmp_path):
    # The median of three rounds: one may be disturbed by other work of the machine.
    pairs = undo.measure(tmp_path, 300, 3)
    assert [pair.command for pair in pairs] == ["rename", "rules", "layout"]
    assert all(0 < pair.synced < pair.seconds for pair in pairs)
    # Generous: a quadratic undo of 300 images took five times as long as the command.
    assert all(pair.undo < 3 * pair.cpu for pair in pairs)
    assert "| rename |" in undo.table("undo", pairs)


def test_images_of_the_scale_benchmark_are_distinct_and_can_be_read(tmp_path):
    scale.make(tmp_path, 30)
    paths = sorted(tmp_path.glob("*.jpg"))
    assert len({path.read_bytes() for path in paths}) == 30
    for path in paths:
        with Image.open(path) as image:
            image.load()
        caption = path.with_suffix(".txt").read_text("utf-8")
        assert len(set(caption.strip().split(", "))) == scale.TAGS + 1


def test_growth_compares_the_cost_per_image_at_both_sizes():
    row = scale.ScaleRow(scale.COMMANDS[0], (100, 1000), (1.0, 20.0), (10_000, 100_000))
    assert row.growth == 2 and row.microseconds == 20_000 and row.bytes_each == 100
    assert "| report | 1.00, 20.00 | 20000 | 2.00 |" in scale.table("scale", [row])


# These take most from each image, and least time in all: some minutes.
_MEASURED = (
    "rules",
    "rules again",
    "rules, nothing changed since",
    "plan-repeats",
    "report",
    "report again",
    "layout",
)


# How often the two sizes are measured, until no cost per image grows.
_ROUNDS = 3


@pytest.mark.slow
def test_the_cost_per_image_does_not_grow_with_their_number(tmp_path):
    # What is quadratic grows ten times in every round. Other work of the machine makes the CPU
    # seconds of single rounds differ: the best round of each command counts.
    best: dict[str, scale.ScaleRow] = {}
    for _ in range(_ROUNDS):
        for row in scale.measure(tmp_path, (2_000, 20_000), _MEASURED):
            other = best.setdefault(row.command.name, row)
            best[row.command.name] = min(other, row, key=lambda each: each.growth)
        if all(row.growth < 1.15 for row in best.values()):
            break
    rows = list(best.values())
    assert set(best) == set(_MEASURED)
    assert all(row.growth < 1.15 for row in rows), scale.table("scale", rows)
    # The goals are of an idle machine; a busy one takes up to twice as long.
    goals = [(row.microseconds, row.command.most) for row in rows if row.command.most is not None]
    assert all(each < 2 * most for each, most in goals), scale.table("scale", rows)


@pytest.mark.long
def test_a_lora_is_resized_fifty_times_faster_than_by_the_full_svd():
    pairs = lora_resize.measure(3)
    # The best of three rounds: the processor's caches are shared with other work.
    assert max(full / ours for full, ours in pairs) >= lora_resize.LEAST_RATIO, pairs
    assert "| ratio |" in lora_resize.table(pairs)
