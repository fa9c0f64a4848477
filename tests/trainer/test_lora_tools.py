"""The commands for LoRA files against the trainer's own writers and readers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from datasetkit import api
from datasetkit.core.errors import ConfigError, InputError, ModelFileError
from datasetkit.options.networks import NetworkArgs
from tests.trainer import tiny, tiny_families
from tests.trainer.test_lora import pipeline_of
from trainer.families import registry, sd
from trainer.files import lora
from trainer.lora_files import algebra, lora_file, tensor_file
from trainer.lora_files.layer_names import parse


@pytest.fixture(scope="module")
def trained(full_model):
    """A network on SD1's 264 layers, whose second factors are not zero."""
    parts = sd.load(str(full_model))
    network = lora.attach(
        sd, parts, ("unet", "text_encoder"), dim=4, alpha=2.0, dropout=0.0, seed=1
    )
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in network.modules:
            module.up.copy_(torch.randn(module.up.shape, generator=generator))
    return network


@pytest.fixture
def saved(trained, tmp_path):
    save_file(lora.kohya_tensors(trained, torch.float16), tmp_path / "kohya.safetensors")
    save_file(
        lora.diffusers_tensors(trained, torch.float16),
        tmp_path / "diffusers.safetensors",
        lora.diffusers_metadata(trained),
    )
    return tmp_path


@pytest.mark.long
def test_both_formats_are_converted_into_what_the_trainer_writes(saved):
    to_kohya = api.LoraConvertOptions(to="kohya")
    to_diffusers = api.LoraConvertOptions(to="diffusers")
    for to, source, options in (
        ("kohya", "diffusers", to_kohya),
        ("diffusers", "kohya", to_diffusers),
    ):
        out = api.lora_convert(saved / f"{source}.safetensors", options).out
        ours, theirs = load_file(out), load_file(saved / f"{to}.safetensors")
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        if to == "diffusers":
            changes = lora.diffusers_deltas(ours, lora_file.read(out).metadata)
            assert len(changes) == 264


@pytest.mark.long
def test_a_resized_file_goes_back_into_the_trainer(trained, saved):
    path = api.lora_resize(saved / "kohya.safetensors", api.LoraResizeOptions(rank=4)).out
    before = {module.name: module.delta().detach().double().numpy() for module in trained.modules}
    lora.load_kohya(trained, lora.read(str(path), registry.family("sd1")), source="the file")
    for layer in lora_file.read(path).layers:
        assert np.allclose(algebra.delta(layer), before[layer.key], rtol=0.02, atol=0.02)
    for module in trained.modules:
        after = module.delta().detach().double().numpy()
        assert np.linalg.norm(after - before[module.name]) < 2e-3 * np.linalg.norm(after)


# ---- into a checkpoint


def checkpoint(folder, family):
    folder.mkdir(parents=True, exist_ok=True)
    if family == "sd1":
        return tiny.save_checkpoint(folder)
    return tiny_families.save_checkpoint(folder, family)


def load(path, family):
    module: Any = registry.family(family)
    return module.load(str(path), configs=path.parent / "configs")


def network_of(parts, family, seed):
    """Return a network with convolutions on every part, whose changes are not zero."""
    which = parts.names
    args = NetworkArgs(conv_dim=3, conv_alpha=2.0)
    network = lora.attach(
        registry.family(family), parts, which, dim=4, alpha=2.0, dropout=0.0, seed=seed, args=args
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules:
            module.up.copy_(torch.randn(module.up.shape, generator=generator) / 10)
    return network


def weights_of(parts, network):
    """Return the base weight of each module of a network, from another loading of a model."""
    return {
        m.name: parts.part(m.part).get_submodule(m.path).weight.detach().double()
        for m in network.modules
    }


@pytest.fixture(scope="module", params=[pytest.param("sd1", marks=pytest.mark.long), "sd2", "sdxl"])
def based(request, tmp_path_factory):
    """A checkpoint, two LoRAs on it, and their changes."""
    family = request.param
    folder = tmp_path_factory.mktemp(family)
    path = checkpoint(folder / "base", family)
    changes = []
    for n in range(2):
        network = network_of(load(path, family), family, n + 1)
        tensors = registry.family(family).export(network, torch.float32, "kohya")[0]
        save_file(tensors, folder / f"{n}.safetensors")
        changes.append({m.name: m.product().detach().double() for m in network.modules})
    before = weights_of(load(path, family), network)
    return family, path, folder, network, changes, before


@pytest.mark.long
@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.3, 0.6), (-0.5, 1.5)], ids=str)
def test_a_merged_checkpoint_is_the_base_with_the_changes(based, tmp_path, weights):
    family, path, folder, network, changes, before = based
    out = tmp_path / path.name
    (tmp_path / "configs").symlink_to(path.parent / "configs")
    pairs = [(folder / f"{n}.safetensors", weight) for n, weight in enumerate(weights)]
    result = api.lora_merge(pairs, api.LoraMergeOptions(out=str(out), into=str(path)))
    after = weights_of(load(out, family), network)
    assert result.layers == len(before) == len(network.modules)
    for name, weight in before.items():
        change = sum(w * own[name] for w, own in zip(weights, changes, strict=True))
        expected = weight + change.reshape(weight.shape)
        assert (after[name] - expected).abs().max() < 1e-6, name
        assert (after[name] != weight).any(), name
    assert result.lost is not None and result.lost < 1e-4
    ours, theirs = tensor_file.open_file(out), tensor_file.open_file(path)
    assert list(ours.entries) == [e.name for e in sorted(
        theirs.entries.values(), key=lambda e: e.start)]  # fmt: skip
    changed = [k for k in ours.entries if ours.bytes_of(k) != theirs.bytes_of(k)]
    assert len(changed) == result.changed
    assert not any(key.startswith("first_stage_model.") for key in changed)


@pytest.mark.long
def test_a_dry_run_writes_no_checkpoint(based, tmp_path):
    _, path, folder, *_ = based
    options = api.LoraMergeOptions(out=str(tmp_path / "m.safetensors"), into=str(path))
    context = api.RunContext(dry_run=True)
    result = api.lora_merge([(folder / "0.safetensors", 1.0)], options, context)
    assert result.size > path.stat().st_size - 1000 and result.lost is None
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_the_loss_of_bf16_is_measured_and_a_warning(based, tmp_path):
    _, path, folder, *_ = based
    losses: dict[str, float] = {}
    for precision in ("bf16", "fp16", "float"):
        options = api.LoraMergeOptions(
            out=str(tmp_path / f"{precision}.safetensors"), into=str(path), precision=precision
        )
        result = api.lora_merge([(folder / "0.safetensors", 0.3)], options)
        losses[precision] = result.lost or 0.0
        assert bool(result.warnings) == (precision == "bf16")
    assert losses["bf16"] > 5 * losses["fp16"] > 50 * losses["float"]
    kinds = {e.dtype for e in tensor_file.open_file(tmp_path / "fp16.safetensors").entries.values()}
    assert kinds <= {"F16", "I64"}


@pytest.mark.long
def test_layers_without_a_target_are_an_error_or_left_out(based, tmp_path):
    _, path, folder, *_ = based
    tensors = load_file(folder / "0.safetensors")
    first = next(key.partition(".")[0] for key in tensors if key.startswith("lora_unet"))
    more = {
        k.replace(first, "lora_unet_new"): v.clone() for k, v in tensors.items() if first + "." in k
    }
    save_file(tensors | more, tmp_path / "more.safetensors")
    out = tmp_path / "m.safetensors"
    options = api.LoraMergeOptions(out=str(out), into=str(path))
    with pytest.raises(InputError, match="does not have 1 layer of the LoRA: lora_unet_new"):
        api.lora_merge([(tmp_path / "more.safetensors", 1.0)], options)
    assert not out.exists()
    result = api.lora_merge(
        [(tmp_path / "more.safetensors", 1.0)], replace(options, allow_missing=True)
    )
    assert result.missing == ("lora_unet_new",) and out.exists()


def test_a_target_that_cannot_be_one_is_refused(based, tmp_path):
    _, path, folder, *_ = based
    source = [(folder / "0.safetensors", 1.0)]
    out = str(tmp_path / "m.safetensors")
    for into, error in (("tiny", InputError), (str(folder / "1.safetensors"), ModelFileError)):
        with pytest.raises(error):
            api.lora_merge(source, api.LoraMergeOptions(out=out, into=into))
    with pytest.raises(InputError, match="never replaced"):
        api.lora_merge(source, api.LoraMergeOptions(out=str(path), into=str(path)))
    with pytest.raises(ConfigError, match="without a rank"):
        api.lora_merge(source, api.LoraMergeOptions(out=out, into=str(path), rank=4))
    assert not list(tmp_path.iterdir())


def test_the_extracted_difference_is_the_lora_that_was_merged(based, tmp_path):
    family, path, folder, _, changes, _ = based
    tuned = tmp_path / "tuned.safetensors"
    source = folder / "0.safetensors"
    options = api.LoraMergeOptions(out=str(tuned), into=str(path))
    api.lora_merge([(source, 1.0)], options)
    given = api.LoraExtractOptions(fro=1.0, max_rank=4, out=str(tmp_path / "lora.safetensors"))
    result = api.lora_extract(str(tuned), str(path), given)
    before = {layer.key: layer for layer in lora_file.read(source).layers}
    after = {layer.key: layer for layer in lora_file.read(result.out).layers}
    assert before.keys() == after.keys()
    # The last layer of SD2's text encoder is in the file and not used.
    assert result.same == (6 if family == "sd2" else 0)
    for key, layer in after.items():
        assert layer.shape == before[key].shape
        assert np.allclose(algebra.delta(layer), changes[0][key].numpy(), atol=2e-6)


@pytest.mark.long
@pytest.mark.parametrize("tool", ["resize", "merge", "convert"])
def test_diffusers_loads_what_the_tools_write(full_model, saved, tool):
    """The change that diffusers' own loader adds is that of plain arithmetic."""
    source = saved / "kohya.safetensors"
    if tool == "resize":
        out = api.lora_resize(source, api.LoraResizeOptions(rank=2, precision="float")).out
    elif tool == "merge":
        options = api.LoraMergeOptions(out=str(saved / "m.safetensors"), precision="float")
        out = api.lora_merge([(source, 0.5), (source, 0.25)], options).out
    else:
        given = api.LoraConvertOptions(to="diffusers", precision="float")
        out = api.lora_convert(source, given).out
    parts = sd.load(str(full_model))
    pipe = pipeline_of(parts)
    pipe.load_lora_weights(str(out.parent), weight_name=out.name)
    layers = {layer.name: layer for layer in lora_file.read(out).layers}
    compared = 0
    for part, model in (("unet", pipe.unet), ("text_encoder", pipe.text_encoder)):
        for path, module in model.named_modules():
            if not hasattr(module, "get_delta_weight"):
                continue
            whole = path if part == "unet" else f"text_model.{path.removeprefix('text_model.')}"
            (adapter,) = module.active_adapters
            actual = module.get_delta_weight(adapter).detach().double().flatten(1).numpy()
            expected = algebra.delta(layers[parse(f"{part}.{whole}")])
            assert np.allclose(actual, expected, rtol=1e-4, atol=1e-5), path
            compared += 1
    assert compared == len(layers) == 264
