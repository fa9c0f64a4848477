"""What the safety tests share: the test tagger under its name."""

import pytest

from taggers import registry
from tests.safety import tagger


@pytest.fixture(autouse=True)
def test_tagger(monkeypatch):
    monkeypatch.setitem(registry.TAGGERS, tagger.NAME, tagger.TARGET)
    tagger.BEGUN.clear()
