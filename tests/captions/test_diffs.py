"""What a caption's change shows."""

from pathlib import Path

import pytest

from datasetkit.captions.diffs import CaptionChange
from datasetkit.core.records import Caption


def change(before: str | None, after: str) -> CaptionChange:
    old = None if before is None else Caption(tuple(before.split()))
    return CaptionChange(Path("a.png"), old, Caption(tuple(after.split())))


def test_a_new_caption_only_adds():
    new = change(None, "a b")
    assert (new.added, new.removed, new.reordered) == (("a", "b"), (), False)


def test_added_and_removed_tags_keep_the_order_of_their_captions():
    both = change("a b c d", "z c y a")
    assert (both.added, both.removed) == (("z", "y"), ("b", "d"))


def test_a_removed_second_copy_is_shown_as_removed():
    assert change("a b a", "a b").removed == ("a",)


def test_another_spelling_is_one_tag_removed_and_one_added():
    respelled = change("long_hair a", "Long_Hair a")
    assert (respelled.added, respelled.removed) == (("Long_Hair",), ("long_hair",))


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ("a b c", "c a b", True),
        ("a b c", "a x c", False),
        ("a b", "x a b", False),
        ("a b", "a b", False),
    ],
)
def test_only_a_changed_order_of_shared_tags_is_reordered(before, after, moved):
    assert change(before, after).reordered is moved
