"""A person edits the folder while dsk works in it: their latest text is kept."""

from datasetkit import api
from tests.safety import datasets
from tests.safety.datasets import TAG, caption, small_set
from tests.safety.harness import digest
from tests.safety.tagger import ColoursForTests


def meanwhile(monkeypatch, action) -> None:
    """Do something while the model runs."""
    scores = ColoursForTests.scores

    def slow(self, batch):
        action()
        return scores(self, batch)

    monkeypatch.setattr(ColoursForTests, "scores", slow)


def test_a_caption_that_appears_while_the_model_runs_is_kept(workdir, monkeypatch):
    image = small_set(workdir / "imgs")[5]
    meanwhile(monkeypatch, lambda: caption(image, "mine, just now\n"))
    result = api.tag(workdir / "imgs", TAG)
    assert image.with_suffix(".txt").read_text(encoding="utf-8") == "mine, just now\n"
    assert "edited by a person" in {s.record.path: s.reason for s in result.report.skipped}[image]


def test_a_caption_that_becomes_unreadable_while_the_model_runs_fails_alone(workdir, monkeypatch):
    image = small_set(workdir / "imgs")[5]
    meanwhile(monkeypatch, lambda: image.with_suffix(".txt").write_bytes(b"\xff\xfe\xff"))
    result = api.tag(workdir / "imgs", TAG)
    assert [failed.path for failed in result.report.failed] == [image]
    assert image.with_suffix(".txt").read_bytes() == b"\xff\xfe\xff"
    assert len(result.report.done) == 2  # three of the others have a person's captions


def test_captions_of_a_person_survive_every_command_in_turn(workdir):
    images = small_set(workdir / "imgs")
    paths = sorted(map(digest, images))
    api.tag(workdir / "imgs", TAG)
    datasets.rename(workdir)
    api.tag(workdir / "imgs", TAG)
    texts = [path.read_text(encoding="utf-8") for path in sorted((workdir / "imgs").glob("*.txt"))]
    assert [text for text in texts if text.startswith("by hand")] == [
        f"by hand {n}, lips, smile\n" for n in (0, 1, 2)
    ]
    assert (
        sorted(
            map(digest, (p for p in (workdir / "imgs").iterdir() if p.suffix in (".png", ".jpg")))
        )
        == paths
    )
