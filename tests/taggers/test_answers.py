"""What models answer, as captions."""

import pytest

from taggers.answers import LONGEST, description_of, full_sentences
from taggers.captioner import Description, NoDescription


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("  A cat\nsits.\n\nIt is red. ", "A cat sits. It is red."),
        ("Here is the caption:\n\nA cat sits.", "A cat sits."),
        ('Sure! Here\'s a caption for the image:\n\n"A cat sits."', "A cat sits."),
        ("**Caption:** A cat sits.", "A cat sits."),
        ("Description: A cat sits.", "A cat sits."),
        ('"A cat sits."', "A cat sits."),
        ('"Yes" and "no" on a wall', '"Yes" and "no" on a wall'),
        ("“一只猫坐着。”", "一只猫坐着。"),
        ("<think>What is it?\n\nA cat.</think>\n\nA cat sits.", "A cat sits."),
        ("It could be a dog.</think>A cat sits.", "A cat sits."),
        ("- A cat.\n- A **red** dog.", "A cat. A red dog."),
        ("# Title\nA cat.", "Title A cat."),
        ("A sign {red|blue} says ||| go", "A sign (red/blue) says /// go"),
        ("\ufeffA\u200b cat\x07 sits.\x1b[31m", "A cat sits.[31m"),
        ("A cat at 10:30 sits: it waits.", "A cat at 10:30 sits: it waits."),
        ("A cat named Sorry", "A cat named Sorry"),
    ],
)
def test_caption_is_one_plain_line(answer, caption):
    assert description_of(answer) == Description(caption)


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, I can't describe people.",
        "I\u2019m sorry, but no.",
        "I cannot help with this.",
        "As an AI model, I",
        "抱歉，我无法描述这张图片。",
        "К сожалению, я не могу описать это изображение.",
        "Извините, я не могу.",
    ],
)
def test_refusals_are_known(answer):
    refusal = description_of(answer)
    assert isinstance(refusal, NoDescription)
    assert "refused" in refusal.reason


def test_full_sentences_end_at_a_full_stop_and_not_within_a_number():
    assert full_sentences("It is 3.5 m. And then") == "It is 3.5 m."
    assert full_sentences('He says "go!" and le') == 'He says "go!"'
    assert full_sentences("一只猫坐着。它在") == "一只猫坐着。"
    assert full_sentences("no end") == ""


def test_endless_answer_is_cut_at_a_sentence():
    described = description_of("A cat sits. " * LONGEST)
    assert isinstance(described, Description)
    assert len(described.text) <= LONGEST
    assert described.text.endswith("sits.")
    assert described.note
