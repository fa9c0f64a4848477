"""The hashes of base models."""

from __future__ import annotations

import hashlib

from trainer.files import hashes


def test_a_file_of_the_hub_has_the_hash_that_the_hub_recorded(tmp_path):
    """It is not read: a base model has gigabytes."""
    blob = tmp_path / "blobs" / ("e" * 64)
    blob.parent.mkdir()
    blob.write_bytes(b"weights")
    file = tmp_path / "snapshot" / "unet" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.symlink_to(blob)
    assert hashes.model_hash(file) == hashes.checkpoint_hashes(file)[1] == "e" * 64
    listed = f"unet/model.safetensors {'e' * 64}\n"
    assert hashes.model_hash(tmp_path / "snapshot") == hashlib.sha256(listed.encode()).hexdigest()


def test_any_other_file_is_read(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    link = tmp_path / "link.safetensors"
    link.symlink_to(file)
    expected = hashlib.sha256(b"weights").hexdigest()
    assert hashes.model_hash(file) == hashes.model_hash(link) == expected
    assert hashes.checkpoint_hashes(file)[1] == expected
