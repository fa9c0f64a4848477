"""Image files that would cost minutes or gigabytes are refused at once, in one line, by every
reader; and however many threads read, the decoded images fit in a bounded memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasetkit import api
from datasetkit.cli.main import run
from datasetkit.core.errors import InputError
from datasetkit.executors import in_flight
from datasetkit.executors.in_flight import DECODED, PixelBudget
from datasetkit.images import limits, near_duplicates, pixels
from datasetkit.images.lossless import pixels_only
from tests.regressions import bombs
from trainer.data import pixels as trained

CPU_SECONDS, MEGABYTES = 2.0, 512
# The peak of this process alone: ru_maxrss also counts the process that started it, up to its exec.
PEAK = """
import resource, sys
from pathlib import Path

def peak_megabytes():
    status = Path("/proc/self/status")
    if status.is_file():
        [line] = [row for row in status.read_text().splitlines() if row.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)
"""
# Every way from a file to its pixels, in a process of its own: pytest's memory does not count.
READERS = (
    PEAK
    + """
import json, sys, time
from pathlib import Path
from types import SimpleNamespace
from datasetkit.core.errors import InputError
from datasetkit.core.records import ImageRecord
from datasetkit.images import near_duplicates, pixels
from datasetkit.images.lossless import pixels_only
from datasetkit.stages.tag import TagWorker
from trainer.data import pixels as trained

def trainer():
    trained.read_mask(
        SimpleNamespace(
            mask=path, size=(1, 1), bucket=SimpleNamespace(bucket=(64, 64), resized=(64, 64))
        ),
        (0, 0), flip=False,
    )

def copied():
    header = pixels.probe(path)
    if header.format in ("JPEG", "PNG", "WEBP"):
        pixels_only(path, header.format, (header.width, header.height))

class Tagger:
    decode_at = None
    def prepare(self, image):
        return image.size

readers = {
    "probe": lambda: pixels.probe(path),
    "load": lambda: pixels.load(path),
    "load_reduced": lambda: pixels.load_reduced(path, 256),
    "thumbnail": lambda: near_duplicates.small(path, 256),
    "copy": copied,
    "trainer": trainer,
    "tag": lambda: TagWorker(Tagger(), 64_000_000).prepare(ImageRecord(path, "", 1, 1, None)),
}
for line in sys.stdin:
    path = Path(line.strip())
    results = {}
    for name, read in readers.items():
        begun = time.process_time()
        try:
            read()
            message = ""
        except InputError as error:
            message = f"{error.message} ({error.hint})"
        results[name] = (time.process_time() - begun, message)
    print(json.dumps([peak_megabytes(), results]), flush=True)
"""
)


@pytest.fixture(scope="module")
def readers():
    """A process with every reader: it takes a path a line, and answers with its peak of memory, and
    each reader's seconds and error.
    """
    with subprocess.Popen(
        [sys.executable, "-c", READERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        questions, answers = process.stdin, process.stdout

        def read(path):
            questions.write(f"{path}\n")
            questions.flush()
            return json.loads(answers.readline())

        yield read
        questions.close()


@pytest.mark.skipif(os.name == "nt", reason="holes in files, and the peak of a process's memory")
@pytest.mark.parametrize("name", bombs.BOMBS)
def test_a_bomb_costs_every_reader_next_to_nothing(name, readers, tmp_path):
    make, reason = bombs.BOMBS[name]
    path = tmp_path / name
    make(path)
    megabytes, results = readers(path)
    path.unlink()
    assert megabytes < MEGABYTES
    for reader, (seconds, message) in results.items():
        assert seconds < CPU_SECONDS, reader
        assert "\n" not in message
        if reason:
            assert f"cannot read {path}: " in message, reader
            assert reason in message, reader
            assert not message.endswith("()"), "no hint"
        elif reader not in ("trainer", "copy"):
            assert message == "", reader


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="holes in files")
@pytest.mark.parametrize("verb", ["resize", "tag", "check"])
def test_a_bomb_costs_a_folder_only_itself(verb, capsys, tmp_path):
    folder = tmp_path / "imgs"
    folder.mkdir()
    bombs.noise(folder / "good.png")
    refused = {name: make for name, (make, reason) in bombs.BOMBS.items() if reason}
    for name in ("scans.jpg", "zeros.jpg", "hole.png", "numbers.tif", "lines.bmp"):
        refused[name](folder / name)
    arguments = {
        "resize": [str(tmp_path / "out"), "--max", "32"],
        "tag": ["--tagger", "basic"],
        "check": ["--json"],
    }[verb]
    run([verb, str(folder), *arguments])
    out, err = capsys.readouterr()
    for name in ("scans.jpg", "zeros.jpg", "hole.png", "numbers.tif", "lines.bmp"):
        assert name in out + err
    if verb == "resize":
        assert (tmp_path / "out" / "good.png").is_file()
    if verb == "tag":
        assert (folder / "good.txt").is_file()


def test_a_large_file_is_read_where_the_limit_of_pixels_was_raised(tmp_path):
    path = tmp_path / "large.png"
    bombs.with_hole(path, bombs.png(16, 16), 600_000_000)
    with pytest.raises(InputError, match="600 MB") as caught:
        pixels.probe(path)
    assert "--max-pixels" in caught.value.hint
    assert pixels.probe(path, max_pixels=80_000_000).width == 16


@pytest.mark.parametrize(
    "data",
    [
        bombs.jpeg(40, 30),
        bombs.jpeg(40, 30, progressive=True),
        bombs.jpeg(40, 30, progressive=True, comment=b"\xff\xd9\xff\xda"),
        bombs.png(40, 30),
        bombs.png(40, 30, bits=16, colour=6),
    ],
    ids=["jpeg", "progressive", "marker in a comment", "png", "16 bits"],
)
def test_ordinary_files_pass(data, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(data)
    assert pixels.load(path).size == (40, 30)


def test_the_frames_of_ordinary_animations_and_the_pages_of_a_tiff_are_counted(tmp_path):
    frames = [Image.new("RGB", (8, 8), (n * 40, 0, 0)) for n in range(5)]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    counted = {p.suffix: pixels.probe(p).frames for p in sorted(tmp_path.iterdir())}
    assert counted == {".gif": 5, ".png": 5, ".tif": 5, ".webp": 5}


def test_scans_up_to_the_limit_are_read(tmp_path):
    path = tmp_path / "scans.jpg"
    path.write_bytes(bombs.scans_jpeg(limits.MAX_SCANS))
    assert pixels.probe(path).width == bombs.WIDE
    path.write_bytes(bombs.scans_jpeg(limits.MAX_SCANS + 1))
    with pytest.raises(InputError, match="scans"):
        pixels.probe(path)


def test_damaged_files_keep_the_words_of_their_decoder(tmp_path):
    path = tmp_path / "cut"
    for data in (bombs.png(40, 30)[:40], bombs.jpeg(40, 30)[:300], bombs.tiff(1)[:20], b"GIF89a"):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"damaged or cut short|not a whole image"):
            pixels.load(path)


def test_random_damage_never_ends_a_reader_in_anything_but_an_input_error(tmp_path):
    import random

    draw = random.Random(5)
    wholes = [
        bombs.jpeg(40, 30), bombs.jpeg(40, 30, progressive=True), bombs.png(40, 30),
        bombs.tiff(3), bombs.gif(4, comment=20), bombs.webp(2),
        bombs.rle_bmp(4, 2, b"\4\1\0\0\4\1"),
    ]  # fmt: skip
    path = tmp_path / "damaged"
    for n in range(700):
        data = bytearray(wholes[n % len(wholes)])
        for _ in range(draw.randint(1, 6)):
            value = draw.choice((0, 1, 0x7F, 0xFF, draw.randrange(256)))
            data[draw.randrange(4, len(data))] = value
        path.write_bytes(data[: draw.randint(4, len(data))] if n % 3 == 0 else data)
        try:
            limits.inspect(BytesIO(path.read_bytes()), "it")
            pixels.load(path)
        except InputError:
            pass


def test_a_file_with_more_behind_its_pixels_is_not_copied_byte_for_byte(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(bombs.png(16, 16))
    assert pixels_only(path, "PNG", (16, 16)) == path.read_bytes()
    bombs.with_hole(path, bombs.png(16, 16), 50_000_000)
    assert pixels_only(path, "PNG", (16, 16)) is None


def test_a_thumbnail_of_a_hostile_cache_is_refused():
    for data in (b"no JPEG", bombs.jpeg(4000, 8), bombs.scans_jpeg(2000)):
        with pytest.raises(InputError):
            near_duplicates.decode(data)
    assert near_duplicates.decode(bombs.jpeg(256, 200)).size == (256, 200)


# ---- pixels in flight
# --------------------------------------------------------------------------------------------------


def at_work(budget: PixelBudget, sizes: list[int]) -> int:
    """Let a thread each decode an image of these pixels; return the most pixels at one time."""
    now, most, lock = 0, 0, threading.Lock()

    def work(pixels_: int) -> None:
        nonlocal now, most
        with budget.work():
            budget.take(pixels_)
            with lock:
                now += pixels_
                most = max(most, now)
            time.sleep(0.01)
            with lock:
                now -= pixels_

    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    return most


def test_threads_hold_no_more_pixels_than_the_budget_has():
    assert at_work(PixelBudget(100), [40] * 12) == 80
    assert at_work(PixelBudget(100), [1] * 12) <= 12


def test_an_image_beyond_the_budget_is_decoded_alone():
    assert at_work(PixelBudget(100), [300, 20, 300, 20]) == 300


def test_a_second_image_of_the_same_work_does_not_wait_for_the_first():
    budget = PixelBudget(10)
    both_began = threading.Barrier(2, timeout=5)

    def image_and_mask() -> None:
        with budget.work():
            budget.take(5)
            both_began.wait()
            budget.take(5)

    threads = [threading.Thread(target=image_and_mask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert budget._used == 0


@pytest.mark.long
def test_an_error_gives_the_pixels_back(tmp_path):
    whole = bombs.png(40, 30)
    (tmp_path / "cut.png").write_bytes(whole[:60])
    with pytest.raises(InputError):
        pixels.load(tmp_path / "cut.png")
    assert DECODED._used == 0


@pytest.mark.long
@pytest.mark.parametrize("read", ["resize", "thumbnail", "trainer"])
def test_images_of_all_readers_count_until_they_are_done(read, tmp_path, monkeypatch):
    """The whole work on an image counts, not its decoding alone."""
    bombs.noise(tmp_path / "a.png")
    held = []
    original = Image.Image.resize

    def resize(self, *args, **named):
        held.append(DECODED._used)
        return original(self, *args, **named)

    monkeypatch.setattr(Image.Image, "resize", resize)
    if read == "resize":
        api.resize(tmp_path, tmp_path / "out", api.ResizeOptions(max=32))
    elif read == "thumbnail":
        near_duplicates.small(tmp_path / "a.png", 16)
    else:
        from types import SimpleNamespace

        bucket = SimpleNamespace(bucket=(32, 24), resized=(32, 24))
        subset = SimpleNamespace(interpolation=None)
        image: Any = SimpleNamespace(path=tmp_path / "a.png", bucket=bucket, subset=subset)
        trained.read(image, (0, 0), flip=False)
    assert held
    assert set(held) == {64 * 48}
    assert DECODED._used == 0


FOUR = (
    PEAK
    + """
from datasetkit import api
result = api.resize(Path("imgs"), Path("out"), api.ResizeOptions(max=64, workers=4))
print(len(result.report.done), peak_megabytes())
"""
)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the peak of a process's memory")
def test_four_threads_with_the_largest_images_take_the_memory_of_two(tmp_path):
    folder = tmp_path / "imgs"
    folder.mkdir()
    bombs.large_png(folder / "0.png")
    for n in range(1, 4):
        os.link(folder / "0.png", folder / f"{n}.png")
    output = subprocess.run(
        [sys.executable, "-c", FOUR],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    done, megabytes = output.stdout.split()
    assert int(done) == 4
    assert float(megabytes) < 1700


@pytest.mark.long
def test_the_largest_image_that_is_read_by_default_fits_in_the_budget():
    assert in_flight.MAX_PIXELS_IN_FLIGHT >= limits.DEFAULT_MAX_PIXELS
    assert Path(in_flight.__file__).name == "in_flight.py"
