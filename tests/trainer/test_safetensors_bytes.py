"""Equal tensors and metadata give equal bytes, which safetensors itself does not promise."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from trainer.files.safetensors_bytes import safetensors_bytes

TENSORS = {
    "b.lora_up.weight": torch.arange(6, dtype=torch.float32).reshape(3, 2),
    "a.alpha": torch.tensor(4.0, dtype=torch.float16),
    "a.lora_down.weight": torch.ones(2, 3, dtype=torch.bfloat16),
}
METADATA = {f"ss_key_{n}": f'value {n}, 張 "quoted"' for n in range(40)} | {"format": "pt"}


def test_equal_content_gives_equal_bytes():
    first = safetensors_bytes(TENSORS, METADATA)
    backwards = safetensors_bytes(TENSORS, dict(reversed(METADATA.items())))
    assert first == backwards == safetensors_bytes(TENSORS, METADATA)


def test_keys_are_sorted_and_tensors_begin_at_a_multiple_of_eight():
    data = safetensors_bytes(TENSORS, METADATA)
    size = int.from_bytes(data[:8], "little")
    assert size % 8 == 0
    assert list(json.loads(data[8 : 8 + size])["__metadata__"]) == sorted(METADATA)


@pytest.mark.parametrize("metadata", [METADATA, {}])
def test_the_library_reads_it(metadata, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_bytes(TENSORS, metadata))
    with safe_open(path, framework="pt") as file:
        assert (file.metadata() or {}) == metadata
    loaded = safetensors.torch.load_file(path)
    assert loaded.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert loaded[name].dtype == tensor.dtype and torch.equal(loaded[name], tensor)
