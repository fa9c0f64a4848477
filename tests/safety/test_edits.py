"""A person works in the folder while dsk does: what they wrote last is kept."""

from datasetkit import api
from tests.safety import datasets
from tests.safety.datasets import TAG, caption, small_set
from tests.safety.harness import digest
from tests.safety.tagger import ColoursForTests


def meanwhile(monkeypatch, action) -> None:
    """Do something while the model is at work."""
    scores = ColoursForTests.scores

    def slow(self, batch):
        action()
        return scores(self, batch)

    monkeypatch.setattr(ColoursForTests, "scores", slow)


def test_a_caption_that_appears_while_the_model_runs_is_kept(place, monkeypatch):
    image = small_set(place / "imgs")[5]
    meanwhile(monkeypatch, lambda: caption(image, "mine, just now\n"))
    result = api.tag(place / "imgs", TAG)
    assert image.with_suffix(".txt").read_text(encoding="utf-8") == "mine, just now\n"
    assert "edited by a person" in {s.record.path: s.reason for s in result.report.skipped}[image]


def test_a_caption_that_becomes_unreadable_while_the_model_runs_costs_itself_only(
    place, monkeypatch
):
    image = small_set(place / "imgs")[5]
    meanwhile(monkeypatch, lambda: image.with_suffix(".txt").write_bytes(b"\xff\xfe\xff"))
    result = api.tag(place / "imgs", TAG)
    assert [failed.path for failed in result.report.failed] == [image]
    assert image.with_suffix(".txt").read_bytes() == b"\xff\xfe\xff"
    assert len(result.report.done) == 2  # of the others three have captions of a person


def test_captions_of_a_person_survive_every_verb_in_turn(place):
    images = small_set(place / "imgs")
    paths = sorted(map(digest, images))
    api.tag(place / "imgs", TAG)
    datasets.rename(place)
    api.tag(place / "imgs", TAG)
    texts = [path.read_text(encoding="utf-8") for path in sorted((place / "imgs").glob("*.txt"))]
    assert [text for text in texts if text.startswith("by hand")] == [
        f"by hand {n}, lips, smile\n" for n in (0, 1, 2)
    ]
    assert (
        sorted(map(digest, (p for p in (place / "imgs").iterdir() if p.suffix in (".png", ".jpg"))))
        == paths
    )
