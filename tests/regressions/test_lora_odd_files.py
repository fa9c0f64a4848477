"""LoRA files that no program should write, and some do: each gives one line, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasetkit.core.errors import ConfigError, InputError, ModelFileError
from datasetkit.options.lora import (
    LoraCheckOptions,
    LoraConvertOptions,
    LoraMergeOptions,
    LoraResizeOptions,
)
from datasetkit.verbs.lora_check import lora_check
from datasetkit.verbs.lora_convert import lora_convert
from datasetkit.verbs.lora_info import lora_info
from datasetkit.verbs.lora_merge import lora_merge
from datasetkit.verbs.lora_resize import lora_resize
from tests.cli.conftest import Dsk, dsk, here  # noqa: F401 - fixtures
from tests.lora_files.files import BLOCK, adapter, pair, save
from trainer.lora_files import algebra, lora_file, tensor_file
from trainer.lora_files.merge import split_weight
from trainer.networks import file_check
from trainer.networks.file_check import ModuleShape

QUERY = f"{BLOCK}attn1_to_q"


def header_edited(path: Path, before: str, after: str) -> Path:
    """Replace a text in the header of a file; the tensors stay."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length].decode().rstrip().replace(before, after).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return save(tmp_path / "a.safetensors", pair(QUERY, 16, 16, 4, 4.0), {"ss_title": "x"})


@pytest.mark.parametrize("dtype", ["F8_E8M0", "F4", "C64", "F17"])
def test_unknown_type_is_named(plain: Path, dtype: str) -> None:
    header_edited(plain, '"F32"', f'"{dtype}"')
    with pytest.raises(ModelFileError, match=f"is stored as {dtype}, which is not supported"):
        lora_info([plain])


@pytest.mark.parametrize("place", [f"{QUERY}.alpha", "ss_title", '"x"'])
def test_lone_surrogate_in_the_header_is_damage(plain: Path, place: str) -> None:
    header_edited(plain, place, '"\\ud800"' if place[0] == '"' else "\\ud800")
    with pytest.raises(ModelFileError, match="not valid Unicode"):
        lora_info([plain])


def test_name_longer_than_a_file_can_have(plain: Path, tmp_path: Path) -> None:
    long = "x" * 300 + ".safetensors"
    with pytest.raises(ModelFileError, match="File name too long"):
        lora_info([Path(long)])
    assert split_weight(f"{long}:0.5") == (Path(long), 0.5)
    with pytest.raises(Exception, match="too long") as raised:
        lora_convert(plain, LoraConvertOptions(to="diffusers", out=str(tmp_path / long)))
    assert not isinstance(raised.value, OSError)


@pytest.mark.parametrize("stated", ["1e999", "NaN", "9" * 400])
def test_alpha_in_the_header_that_is_not_finite_is_an_error(tmp_path: Path, stated: str) -> None:
    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {
        f"{key}.lora_A.weight": np.ones((2, 768)),
        f"{key}.lora_B.weight": np.ones((8, 2)),
    }
    header = {"lora_adapter_metadata": f'{{"unet.lora_alpha": {stated}}}'}
    path = save(tmp_path / "a.safetensors", tensors, header)
    (checked,) = lora_check([path], LoraCheckOptions()).files
    (finding,) = [f for f in checked.findings if f.check == "finite"]
    assert finding.level == "error"
    assert "alpha of unet.down_blocks" in finding.message
    with pytest.raises(ModelFileError, match="not finite"):
        lora_convert(path, LoraConvertOptions(to="kohya"))


def lycoris(**shapes: tuple[int, ...]) -> dict[str, Any]:
    return {f"{QUERY}.{name}": np.ones(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        (
            lycoris(hada_w1_a=(16, 4), hada_w1_b=(4, 9), hada_w2_a=(8, 4), hada_w2_b=(4, 9)),
            "hada_w1 is 16 x 9, hada_w2 8 x 9",
        ),
        (
            lycoris(
                hada_t1=(4, 4, 3, 3), hada_w1_a=(4, 16), hada_w1_b=(5, 8),
                hada_t2=(4, 4, 3, 3), hada_w2_a=(4, 16), hada_w2_b=(4, 8),
            ),
            "the middle factor of hada_w1 does not fit",
        ),
        (
            lycoris(lokr_w1=(4, 4), lokr_t2=(2, 3, 3, 3), lokr_w2_a=(2, 4), lokr_w2_b=(2, 4)),
            "the middle factor of lokr_w2 does not fit",
        ),
        (
            lycoris(lokr_w1=(4, 4), lokr_w2_a=(4, 2), lokr_w2_b=(3, 4)),
            "lokr_w2_a has rank 2, lokr_w2_b 3",
        ),
    ],
)  # fmt: skip
def test_lycoris_factors_that_do_not_fit(
    tmp_path: Path, tensors: dict[str, Any], problem: str
) -> None:
    path = save(tmp_path / "a.safetensors", tensors)
    (checked,) = lora_check([path], LoraCheckOptions()).files
    assert problem in checked.findings[0].message
    with pytest.raises(ModelFileError, match="cannot be resized"):
        lora_resize(path, LoraResizeOptions(rank=2, as_lora=True))


def test_lycoris_factors_that_fit_are_not_refused(tmp_path: Path) -> None:
    tensors = lycoris(
        hada_t1=(4, 5, 3, 3), hada_w1_a=(4, 16), hada_w1_b=(5, 8),
        hada_w2_a=(16, 4), hada_w2_b=(4, 72),
    )  # fmt: skip
    path = save(tmp_path / "a.safetensors", tensors)
    assert lora_file.read(path).layers[0].method == "loha"
    assert lora_resize(path, LoraResizeOptions(rank=2, as_lora=True)).layers[0].rank == 2


def test_change_of_a_norm_is_no_matrix(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", {f"{BLOCK}norm1.diff": np.ones(16)})
    with pytest.raises(InputError, match="changes a norm or a bias"):
        lora_resize(path, LoraResizeOptions(rank=2, as_lora=True))


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_resize_prints_one_json_document(tmp_path: Path, dsk: Dsk, dry: list[str]) -> None:  # noqa: F811
    path = save(tmp_path / "a.safetensors", pair(QUERY, 16, 16, 4, 4.0))
    ended = dsk("lora", "resize", path, "--rank", "2", "--json", *dry)
    assert ended.code == 0
    assert ended.result["layers"][0]["is_zero"] is False


def test_json_names_the_command(tmp_path: Path, dsk: Dsk) -> None:  # noqa: F811
    path = save(tmp_path / "a.safetensors", pair(QUERY, 16, 16, 4, 4.0))
    for verb, *rest in (
        ["resize", "--rank", "2"],
        ["convert"],
        ["merge", "--out", "m.safetensors"],
    ):
        ended = dsk("lora", verb, path, *rest, "--json", "--dry-run")
        assert ended.json["verb"] == f"lora {verb}"


CONV = "lora_unet_down_blocks_0_resnets_0_conv1"


@pytest.mark.parametrize(
    ("ranks", "message", "hint"),
    [
        ((2, 2, 4), "has rank 2, not 4", "set network_dim = 2"),
        ((4, 4, 2), "has rank 2, not 4", "set conv_dim=2 in network_args"),
        ((4, 3, 4), "has several ranks", "--rank 4"),
    ],
)
def test_network_weights_of_other_ranks_name_the_option_that_fits(
    ranks: tuple[int, int, int], message: str, hint: str
) -> None:
    names = (QUERY, f"{BLOCK}attn1_to_k", CONV)
    saved, modules = {}, {}
    for name, rank in zip(names, ranks, strict=True):
        kernel = (3, 3) if name == CONV else ()
        down, up = "lora_down.weight", "lora_up.weight"
        saved[name] = {down: (rank, 8, *kernel), up: (8, rank)}
        size = 4 * 8 * (9 if kernel else 1)
        modules[name] = ModuleShape("lora", 4, {down: size, up: 32})
    with pytest.raises(ConfigError, match=message) as raised:
        file_check.compare(saved, modules, source="a.safetensors")
    assert hint in raised.value.hint


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_conversion_names_the_file_with_numbers_that_are_not_finite(
    tmp_path: Path, value: float
) -> None:
    tensors = pair(QUERY, 16, 16, 4, 4.0)
    tensors[f"{QUERY}.lora_up.weight"][0, 0] = value
    path = save(tmp_path / "a.safetensors", tensors)
    with pytest.raises(ModelFileError, match=r"a\.safetensors: .* not finite"):
        lora_convert(path, LoraConvertOptions(to="diffusers"))


@pytest.mark.parametrize("weight", ["", "abc", "0,8", "nan", "1e400"])
def test_weight_that_is_no_number_is_named(weight: str) -> None:
    with pytest.raises(ConfigError, match="is not a number") as raised:
        split_weight(f"a.safetensors:{weight}")
    assert raised.value.hint == "e.g. a.safetensors:0.8"


@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_weight_of_a_program_that_is_no_number_is_named(plain: Path, weight: float) -> None:
    with pytest.raises(ConfigError, match="is not a number"):
        lora_merge([(plain, weight)], LoraMergeOptions(out=str(plain.with_name("m.safetensors"))))


def test_drive_letter_is_not_a_weight() -> None:
    assert split_weight(r"C:\x.safetensors") == (Path(r"C:\x.safetensors"), 1.0)
    assert split_weight(r"C:\x.safetensors:0.8") == (Path(r"C:\x.safetensors"), 0.8)


def test_every_merged_file_keeps_its_hash(plain: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "b" / plain.name, pair(QUERY, 16, 16, 2, 2.0, seed=1))
    out = tmp_path / "m.safetensors"
    lora_merge([(plain, 1.0), (other, 1.0)], LoraMergeOptions(out=str(out)))
    hashes = json.loads(tensor_file.open_file(out).metadata["modelspec.merged_from"])
    assert list(hashes) == ["a (1):1", "a (2):1"]
    assert len(set(hashes.values())) == 2


def test_strength_of_a_transformers_lora_stays(tmp_path: Path) -> None:
    key = "transformer.transformer_blocks.0.attn.to_q"
    up, down = np.diag([4.0, 2.0, 1.0, 0.5]), np.eye(4)
    tensors = {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}
    facts = {"transformer.r": 4, "transformer.lora_alpha": 2}
    path = save(tmp_path / "a.safetensors", tensors, adapter(facts))
    out = tmp_path / "b.safetensors"
    lora_resize(path, LoraResizeOptions(rank=2, out=str(out)))
    header = json.loads(tensor_file.open_file(out).metadata["lora_adapter_metadata"])
    # alpha / rank is multiplied into lora_B: programs read the header's alpha differently.
    assert (header["transformer.r"], header["transformer.lora_alpha"]) == (2, 2.0)
    change = algebra.low_rank(lora_file.read(out).layers[0]).product()
    np.testing.assert_allclose(change, np.diag([2.0, 1.0, 0.0, 0.0]), atol=1e-6)
