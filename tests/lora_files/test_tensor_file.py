"""safetensors files: numbers are exact, and a header is believed in nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from datasetkit.core.errors import ModelFileError
from tests.lora_files import files
from trainer.files.hashes import sshs_hashes
from trainer.lora_files import tensor_file
from trainer.lora_files.precision import decode, encode, rounded


def written(path: Path, header: object, body: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + body)
    return path


def entry(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
HOSTILE = {
    "empty": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_bytes(b"hello\n"),
    "pickle in a zip": lambda p: p.write_bytes(b"PK\x03\x04" + bytes(64)),
    "bare pickle": lambda p: p.write_bytes(b"\x80\x02}q\x00."),
    "web page": lambda p: p.write_bytes(b"<!DOCTYPE html><html></html>"),
    "lfs pointer": lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
    "huge length": lambda p: written(p, {}, length=2**63),
    "length past the end": lambda p: written(p, {}, length=5000),
    "not JSON": lambda p: written(p, b"{nope"),
    "not UTF-8": lambda p: written(p, b'{"\xff":1}'),
    "a list": lambda p: written(p, []),
    "deep": lambda p: written(p, DEEP),
    "repeated key": lambda p: written(
        p, b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4),
    ),
    "no shape": lambda p: written(p, {"a": {"dtype": "F32"}}),
    "negative shape": lambda p: written(p, {"a": entry(shape=(-1,))}, bytes(4)),
    "boolean shape": lambda p: written(p, {"a": entry(shape=(True,))}, bytes(4)),
    "huge shape": lambda p: written(p, {"a": entry(shape=(10**6, 10**6, 10**6))}, bytes(4)),
    "offsets past the end": lambda p: written(
        p, {"a": entry(shape=(10**9,), offsets=(0, 4 * 10**9))}
    ),
    "backward offsets": lambda p: written(p, {"a": entry(shape=(0,), offsets=(4, 0))}, bytes(4)),
    "overlap": lambda p: written(p, {"a": entry(), "b": entry()}, bytes(4)),
    "gap": lambda p: written(p, {"a": entry(), "b": entry(offsets=(8, 12))}, bytes(12)),
    "more bytes": lambda p: written(p, {"a": entry()}, bytes(9)),
    "metadata of numbers": lambda p: written(p, {"__metadata__": {"a": 1}, "b": entry()}, bytes(4)),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_wrong_file_is_one_line(tmp_path, kind):
    path = tmp_path / "a.safetensors"
    HOSTILE[kind](path)
    with pytest.raises(ModelFileError) as raised:
        tensor_file.open_file(path)
    assert str(path) in raised.value.message and "\n" not in raised.value.message
    assert raised.value.hint


def test_a_file_that_was_cut_is_called_so(tmp_path):
    path = files.save(tmp_path / "a.safetensors", files.pair("lora_unet_x", 4, 4, 2))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ModelFileError, match="is cut off: 5 bytes are missing"):
        tensor_file.open_file(path)


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480])
def test_a_header_whose_length_begins_as_a_pickle_is_read(tmp_path, length):
    text = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path = written(tmp_path / "a.safetensors", text + b" " * (length - len(text)), bytes(4))
    assert path.read_bytes()[:2] == length.to_bytes(2, "little")
    assert list(tensor_file.open_file(path).entries) == ["a"]


@pytest.mark.parametrize(
    ("dtype", "kind"), [("BF16", torch.bfloat16), ("F16", torch.float16), ("F32", torch.float32)]
)
def test_numbers_are_rounded_as_torch_rounds_them(dtype, kind):
    rng = np.random.default_rng(1)
    values = rng.standard_normal(20_000) * 10.0 ** rng.integers(-42, 39, 20_000)
    values = np.concatenate([values, [0, -0.0, np.inf, -np.inf, np.nan, 3e38, 65519, 1 + 2**-8]])
    values = (
        np.clip(values, -3e38, 3e38).astype(np.float32).astype(np.float64)
    )  # torch rounds float64 twice
    expected = torch.tensor(values).to(kind).double().numpy()
    assert np.array_equal(rounded(values, dtype), expected, equal_nan=True)


def test_float64_is_rounded_to_bf16_once():
    tie = 1 + 2.0**-8  # halfway between two bfloat16 numbers
    assert list(rounded(np.array([tie - 2**-40, tie, tie + 2**-40]), "BF16")) == [1, 1, 1 + 2**-7]


@pytest.mark.parametrize(
    ("dtype", "kind"), [("F8_E4M3", torch.float8_e4m3fn), ("F8_E5M2", torch.float8_e5m2)]
)
def test_every_fp8_number_is_read(dtype, kind):
    codes = np.arange(256, dtype=np.uint8)
    expected = torch.tensor(codes).view(kind).double().numpy()
    assert np.array_equal(decode(codes.tobytes(), dtype), expected, equal_nan=True)


def test_a_written_file_and_its_hashes_are_those_of_the_library(tmp_path):
    tensors = {
        "b": torch.randn(300, 1000),
        "a": torch.randn(400, 900).half(),
        "c": torch.randn(70, 1000).bfloat16(),
        "alpha": torch.tensor(3.0),
    }
    metadata = {"ss_note": 'é\n"1', "modelspec.title": "b"}
    safetensors.torch.save_file(tensors, tmp_path / "theirs.safetensors", metadata)
    file = tensor_file.open_file(tmp_path / "theirs.safetensors")
    ours = tensor_file.sort_tensors(tensor_file.copied(file))
    with (tmp_path / "ours.safetensors").open("wb") as out:
        tensor_file.write(out, ours, metadata)
    again = tensor_file.open_file(tmp_path / "ours.safetensors")
    read_back = safetensors.torch.load_file(tmp_path / "ours.safetensors")
    assert all(torch.equal(read_back[name], tensor) for name, tensor in tensors.items())
    assert file.path.read_bytes()[file.body :] == again.path.read_bytes()[again.body :]
    assert tensor_file.sshs_hashes(ours, metadata) == sshs_hashes(tensors, metadata)


def test_encode_refuses_types_that_are_not_written():
    with pytest.raises(ValueError, match="F8_E4M3"):
        encode(np.zeros(1), "F8_E4M3")
