"""Shared by the safety tests: the test tagger and detectors, and a folder for trials."""

import os
import tempfile
from pathlib import Path

import pytest

from datasetkit.stages import cutout
from datasetkit.verbs import cutout as cutting
from datasetkit.vision import faces
from taggers import registry
from tests.safety import finders, tagger


@pytest.fixture(autouse=True)
def test_tagger(monkeypatch):
    monkeypatch.setitem(registry.TAGGERS, tagger.NAME, tagger.TARGET)
    tagger.BEGUN.clear()


@pytest.fixture(autouse=True)
def test_finders(monkeypatch):
    monkeypatch.setattr(cutout, "SubjectFinder", finders.MiddleSubject)
    monkeypatch.setattr(cutting, "require_rembg", lambda: None)
    monkeypatch.setitem(faces.DETECTORS, finders.DETECTOR, finders.MiddleFace)


@pytest.fixture
def workdir(tmp_path):
    """A folder for many trials, in memory if possible: a kill does not depend on the disk."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="dsk-tests-") as folder:
        yield Path(folder)
