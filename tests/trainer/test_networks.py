"""Each kind of network has the effect that its file has in peft and in other programs."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from datasetkit.core.errors import ConfigError, ModelFileError
from tests.trainer import tiny, tiny_families
from tests.trainer.test_lora import output, pipeline_of
from tests.trainer.test_run import Killer, Stopped, planned, whole
from trainer import loop, setup
from trainer.errors import LoraCheckFailed
from trainer.families import sd
from trainer.families.base import Part
from trainer.files import lora, lora_check, roundtrip
from trainer.grid.applied import AppliedLora
from trainer.lora_files import lora_file
from trainer.networks import dora, layers, merged
from trainer.networks.dropout import Dropout
from trainer.networks.norm import NormLayer
from trainer.networks.ranks import RankSettings
from trainer.plan import model_shapes
from trainer.run import train

# The text encoder and the UNet's middle: with its other blocks the same is tested, and for longer.
MIDDLE = ("down_lr_weight=zeros", "up_lr_weight=zeros")
# name -> module, rank, arguments. The random base has layers of 8 to 64 channels: rank 1 is low
# there.
KINDS = {
    "locon": ("networks.lora", 4, ("conv_dim=2", "conv_alpha=1")),
    "rslora": ("networks.lora", 4, ("rs_lora=True",)),
    "dora": ("networks.lora", 4, ("dora_wd=True", "conv_dim=2")),
    "loha": ("networks.loha", 2, ("conv_dim=2",)),
    "lokr": ("networks.lokr", 1, ("conv_dim=1", "decompose_both=True")),
    "lokr whole": ("networks.lokr", 64, ("factor=2",)),
    "lycoris": ("lycoris.kohya", 2, ("algo=loha", "dora_wd=True")),
    "full": ("lycoris.kohya", 2, ("algo=full",)),
    "locon cp": ("lycoris.kohya", 2, ("algo=locon", "use_cp=True")),
    "loha cp": ("lycoris.kohya", 2, ("algo=loha", "use_tucker=True")),
    "norms": ("lycoris.kohya", 2, ("algo=locon", "preset=attn-mlp", "train_norm=True")),
    "full norms": ("lycoris.kohya", 2, ("algo=full", "train_norm=True")),
}
ALL = pytest.mark.parametrize("kind", KINDS)
BY_ARITHMETIC = (
    "dora", "loha", "lokr", "lokr whole", "lycoris", "full", "locon cp", "loha cp", "norms",
    "full norms",
)  # fmt: skip
NAME = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


def options_of(kind, model, out, **others):
    module, dim, args = KINDS[kind]
    own = {"network_module": module, "network_dim": dim, "network_alpha": 3.0, **others}
    return tiny.options(
        model, out, **{**own, "network_args": (*MIDDLE, *others.get("network_args", args))}
    )


def attached(options):
    parts = sd.load(options.pretrained_model_name_or_path)
    which: tuple[Part, ...] = ("unet", "text_encoder")
    return parts, lora.attach(
        sd, parts, which, dim=options.network_dim, alpha=options.network_alpha, dropout=0.0, seed=1,
        args=options.network(),
    )  # fmt: skip


@torch.no_grad()
def disturb(network, size=0.1):
    generator = torch.Generator().manual_seed(5)
    for module in network.modules:
        grown = module.tensors[module.zero_init]
        grown.copy_(torch.randn(grown.shape, generator=generator) * size)
        if (magnitude := module.tensors.get(dora.SCALE)) is not None:
            magnitude.mul_(1 + size * torch.randn(magnitude.shape, generator=generator))
    return network


@pytest.fixture(scope="module")
def trained(model, data, tmp_path_factory):
    made = {}

    def get(kind):
        if kind not in made:
            options = options_of(kind, model, tmp_path_factory.mktemp("out"))
            made[kind] = setup.assemble(options, planned(data, options), setup.load_parts(options))
            disturb(made[kind].lora)
        return made[kind]

    return get


@pytest.mark.long
@ALL
def test_new_network_changes_nothing(model, tmp_path, kind):
    plain = output(sd.load(str(model)))
    parts, network = attached(options_of(kind, model, tmp_path))
    assert torch.equal(output(parts), plain)
    disturb(network)
    assert float((output(parts) - plain).abs().max()) > 1e-3


@ALL
@pytest.mark.long
def test_file_has_the_weight_change_of_peft(trained, kind):
    network = trained(kind).lora
    read = lora.by_module(lora.kohya_tensors(network, torch.float32))
    for module in network.modules:
        with torch.no_grad():
            peft = module.layer.get_delta_weight(lora.ADAPTER).double().flatten(1)
        assert torch.allclose(lora.file_delta(read[module.name]), peft, rtol=1e-4, atol=1e-6)


@pytest.mark.long
@ALL
def test_plan_has_the_number_of_trained_parameters(trained, model, kind):
    made = trained(kind)
    base, options = model_shapes.read(str(model)), made.options
    assert base is not None
    ranks = RankSettings(options.network(), options.network_dim, options.network_alpha, base.blocks)
    counted = sum(layers.parameter_count(own, ranks) for own in base.layers.values())
    assert counted == sum(parameter.numel() for parameter in made.lora.parameters())


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_file_passes_lora_check_and_round_trip_check(trained, tmp_path, kind, dtype):
    made = trained(kind)
    path = tmp_path / "x.safetensors"
    save_file(lora.kohya_tensors(made.lora, dtype), path)
    assert lora_check.check(path, made.lora, dtype=dtype).modules == len(made.lora.modules)
    assert roundtrip.by_arithmetic(made.lora, load_file(path)) == (kind in BY_ARITHMETIC)
    roundtrip.check(path, made, dtype)


@ALL
def test_wrong_file_is_detected(trained, tmp_path, kind):
    made = trained(kind)
    module = next(m for m in made.lora.modules if m.name == NAME)
    for name, change, words in (
        (module.zero_init, lambda t: t.zero_(), "learned nothing"),
        (module.zero_init, lambda t: t.mul_(1.01), "differ from the trained"),
        (next(iter(module.tensors)), lambda t: t.view(-1)[0].fill_(math.nan), "not finite"),
    ):
        tensors = lora.kohya_tensors(made.lora, torch.float32)
        change(tensors[f"{NAME}.{name}"])
        with pytest.raises(LoraCheckFailed, match=words):
            lora_check.check_tensors(
                tensors, made.lora, name="x", unreachable=(), dtype=torch.float32
            )
    for tensor in tensors.values():
        tensor.nan_to_num_().mul_(1.2)
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(LoraCheckFailed, match=r"x\.safetensors failed the LoRA check"):
        roundtrip.check(tmp_path / "x.safetensors", made, torch.float32)


@ALL
def test_loaded_network_keeps_its_strength_with_another_alpha(trained, model, tmp_path, kind):
    made = trained(kind)
    tensors = lora.kohya_tensors(made.lora, torch.float32)
    parts, network = attached(options_of(kind, model, tmp_path, network_alpha=1.0))
    lora.load_kohya(network, tensors, source="first")
    again = lora.deltas(lora.kohya_tensors(network, torch.float32))
    for name, delta in lora.deltas(tensors).items():
        assert torch.allclose(again[name], delta, rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        assert torch.allclose(output(parts), output(made.parts), atol=1e-5)


@pytest.mark.parametrize(
    ("file", "own", "error", "words"),
    [
        ("loha", "lokr", ConfigError, "is loha, not lokr"),
        ("locon", "rslora", ModelFileError, "has other modules"),
        ("dora", "locon", ConfigError, "dora_scale"),
        ("locon", "dora", ConfigError, "dora_scale"),
    ],
)
def test_file_of_another_network_is_an_error(trained, model, tmp_path, file, own, error, words):
    tensors = lora.kohya_tensors(trained(file).lora, torch.float32)
    with pytest.raises(error, match=words):
        lora.load_kohya(attached(options_of(own, model, tmp_path))[1], tensors, source="first")


def test_keys_of_files_are_those_of_other_programs(trained):
    def keys(kind, name=NAME):
        return set(lora.by_module(lora.kohya_tensors(trained(kind).lora, torch.float16))[name])

    convolution = "lora_unet_mid_block_resnets_0_conv1"
    assert keys("locon", convolution) == {"alpha", "lora_down.weight", "lora_up.weight"}
    assert keys("dora") == {"alpha", "lora_down.weight", "lora_up.weight", "dora_scale"}
    assert keys("loha", convolution) == {
        "alpha",
        "hada_w1_a",
        "hada_w1_b",
        "hada_w2_a",
        "hada_w2_b",
    }
    assert keys("lokr whole") == {"alpha", "lokr_w1", "lokr_w2"}
    assert keys("lokr") == {"alpha", "lokr_w1", "lokr_w2_a", "lokr_w2_b"} or "lokr_w1_a" in keys(
        "lokr"
    )
    shapes = lora.kohya_tensors(trained("locon").lora, torch.float16)
    assert shapes[f"{convolution}.lora_down.weight"].shape == (2, 8, 3, 3)
    assert shapes[f"{convolution}.lora_up.weight"].shape == (8, 2, 1, 1)
    assert len(shapes) == 3 * len(trained("locon").lora.modules)
    assert float(shapes[f"{convolution}.alpha"]) == 1.0


def test_rank_stabilised_file_is_that_of_peft(model, tmp_path):
    _, network = attached(options_of("rslora", model, tmp_path))
    alpha = lora.kohya_tensors(network, torch.float16)[f"{NAME}.alpha"]
    assert float(alpha) == pytest.approx(3.0 * math.sqrt(4))
    assert network.modules[0].scale == pytest.approx(3.0 / math.sqrt(4))  # peft: alpha / sqrt(r)


def test_full_matrices_of_lokr_have_scale_1(model, tmp_path):
    _, network = attached(options_of("lokr whole", model, tmp_path))
    assert {module.scale for module in network.modules} == {1.0}


# ---- DoRA
# --------------------------------------------------------------------------------------------------


def as_comfyui(weight, delta, scale):
    """What ComfyUI does: the axis by the shape, and on the output axis the norm of the base
    alone.
    """
    whole = weight + delta
    if scale.shape[0] == weight.shape[0]:
        norm = weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.ndim - 1))
    else:
        norm = whole.transpose(0, 1).flatten(1).norm(dim=1).view(1, -1, *[1] * (weight.ndim - 2))
    return whole * (scale / (norm + torch.finfo(weight.dtype).eps))


def as_a1111(weight, delta, scale):
    """What A1111 does: the input axis, for every shape."""
    whole = weight + delta
    norm = whole.transpose(0, 1).flatten(1).norm(dim=1).view(1, -1, *[1] * (weight.ndim - 2))
    return whole * (scale / norm)


@pytest.mark.parametrize("reader", [as_comfyui, as_a1111])
def test_dora_scale_restores_the_trained_layer_in_other_programs(trained, reader):
    made = trained("dora")
    read = lora.by_module(lora.kohya_tensors(made.lora, torch.float32))
    for module in made.lora.modules:
        base = module.layer.get_base_layer()
        own, inputs = read[module.name], base.weight.shape[1]
        assert own[dora.SCALE].shape == (1, inputs, *[1] * (base.weight.ndim - 2))
        theirs = reader(
            base.weight.detach(),
            lora.file_delta(own).float().view_as(base.weight),
            own[dora.SCALE],
        )
        assert torch.allclose(
            theirs, merged.weight(own, base.weight.detach()).float(), rtol=1e-4, atol=1e-6
        )
        # The layer's answers to unit inputs are the columns of its weight.
        if base.weight.ndim == 2:
            with torch.no_grad():
                columns = module.layer.eval()(torch.eye(inputs)) - (
                    0 if base.bias is None else base.bias
                )
            assert torch.allclose(columns.T, theirs, rtol=1e-3, atol=1e-5)


def test_dora_norm_is_a_constant_in_the_backward_pass(model, tmp_path):
    _, network = attached(options_of("dora", model, tmp_path))
    disturb(network)
    module = next(m for m in network.modules if m.name == NAME)
    seen = torch.randn(3, module.down.shape[1], generator=torch.Generator().manual_seed(2))
    (module.layer(seen) ** 2).sum().backward()
    found = {name: p.grad.clone() for name, p in module.tensors.items()}
    down, up, scale = (p.detach().clone().requires_grad_() for p in module.tensors.values())
    base = module.layer.get_base_layer()
    whole = base.weight + up @ down * module.scale
    weight = whole * (scale / whole.detach().norm(dim=0, keepdim=True))
    (torch.nn.functional.linear(seen, weight, base.bias) ** 2).sum().backward()
    for mine, theirs in zip((down, up, scale), found.values(), strict=True):
        assert torch.allclose(mine.grad, theirs, rtol=1e-4, atol=1e-5)


def test_magnitudes_are_not_rounded_by_the_files_precision(trained):
    tensors = lora.kohya_tensors(trained("dora").lora, torch.bfloat16)
    kinds = {key.partition(".")[2]: tensor.dtype for key, tensor in tensors.items()}
    assert (
        kinds["dora_scale"] == kinds["alpha"] == torch.float32
        and kinds["lora_up.weight"] == torch.bfloat16
    )


def test_disabled_network_equals_the_base(trained, model):
    made = trained("dora")
    for module in made.lora.modules:
        module.layer._disable_adapters = True
    try:
        assert torch.equal(output(made.parts), output(sd.load(str(model))))
    finally:
        for module in made.lora.modules:
            module.layer._disable_adapters = False


# ---- blocks and rates
# -----------------------------------------------------------------------------------------------

DIMS = "block_dims=" + ",".join(str(n % 3 + 1) for n in range(24)) + ",0"
ALPHAS = "block_alphas=" + ",".join(str(n % 2 + 1) for n in range(25))


def saved(network, path, form):
    if form == "kohya":
        save_file(lora.kohya_tensors(network, torch.float32), path)
    else:
        save_file(
            lora.diffusers_tensors(network, torch.float32),
            path,
            metadata=lora.diffusers_metadata(network),
        )
    return path


@pytest.mark.parametrize(("form", "args"), [("kohya", ()), ("diffusers", (ALPHAS,))])
@pytest.mark.long
def test_diffusers_loads_ranks_by_block_and_convolutions(full_model, tmp_path, form, args):
    options = tiny.options(
        full_model, tmp_path, network_args=(DIMS, *args, "conv_dim=2", "mid_lr_weight=0")
    )
    parts, network = attached(options)
    disturb(network)
    names = {m.name for m in network.modules}
    assert not any("mid_block" in name or "up_blocks_3_attentions_2" in name for name in names)
    assert {m.rank.dim for m in network.modules if m.part == "unet"} == {1, 2, 3}
    assert {m.rank.dim for m in network.modules if m.part == "text_encoder"} == {4}
    path = saved(network, tmp_path / "lora.safetensors", form)
    fresh = sd.load(str(full_model))
    pipeline_of(fresh).load_lora_weights(str(path))
    assert torch.allclose(output(fresh), output(parts), atol=1e-6)
    if form == "diffusers":
        with safe_open(path, "pt") as file:
            theirs = lora.diffusers_deltas(load_file(path), file.metadata())
        ours = lora.deltas(lora.kohya_tensors(network, torch.float32))
        norms = [sorted(float(d.norm()) for d in found.values()) for found in (ours, theirs)]
        assert norms[0] == pytest.approx(norms[1], rel=1e-6)


@pytest.mark.long
def test_alphas_that_diffusers_would_lose_are_checked_by_arithmetic(data, model, tmp_path):
    """A guard: where diffusers keeps them one day, this fails and the exception in the proof can
    go.
    """
    options = tiny.options(model, tmp_path, network_args=(ALPHAS, "down_lr_weight=zeros"))
    made = setup.assemble(options, planned(data, options), setup.load_parts(options))
    path = saved(disturb(made.lora), tmp_path / "lora.safetensors", "kohya")
    assert roundtrip.alphas_are_lost(made.lora) and not roundtrip.alphas_are_lost(
        attached(tiny.options(model, tmp_path))[1]
    )
    roundtrip.check(path, made, torch.float32)
    fresh = sd.load(str(model))
    with pytest.warns(RuntimeWarning, match="alpha_pattern"):
        pipeline_of(fresh).load_lora_weights(str(path))
    assert not torch.allclose(output(fresh), output(made.parts), atol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize(
    ("family", "module", "args"),
    [
        ("sdxl", "networks.lora", ("conv_dim=2", "mid_lr_weight=1,0,1", "dora_wd=False")),
        (
            "sdxl",
            "networks.loha",
            ("conv_dim=2", "down_lr_weight=" + ",".join("0" * 9), "dora_wd=True"),
        ),
        ("sd2", "networks.lora", ("conv_dim=2", "rs_lora=True", "up_lr_weight=zeros")),
        ("sd2", "networks.lora", ("dora_wd=True", "up_lr_weight=zeros")),
    ],
)
def test_other_families_have_the_same_networks(data, tmp_path, family, module, args):
    base = tiny_families.save_pipeline(tmp_path / family, family)
    options = tiny.options(base, tmp_path, network_module=module, network_args=args)
    made = setup.assemble(options, planned(data, options), setup.load_parts(options))
    disturb(made.lora)
    assert any(m.rank.dim == 2 for m in made.lora.modules) == ("conv_dim=2" in args)
    if family == "sdxl":
        assert all(
            name.startswith(("lora_unet_input", "lora_unet_middle", "lora_unet_output", "lora_te"))
            for name in (m.name for m in made.lora.modules)
        )
        absent = (
            "lora_unet_middle_block_1_" if module == "networks.lora" else "lora_unet_input_blocks_"
        )
        assert not any(m.name.startswith(absent) for m in made.lora.modules)
    path = tmp_path / "x.safetensors"
    save_file(made.family.export(made.lora, torch.float16, "kohya")[0], path)
    lora_check.check(path, made.lora, dtype=torch.float16)
    roundtrip.check(path, made, torch.float16)


def rates_of(made):
    return {group["name"]: group["lr"] for group in made.optimizer.param_groups}


def test_blocks_and_second_factors_have_rates_of_their_own(data, full_model, tmp_path):
    down = "down_lr_weight=" + ",".join(["1"] * 11) + ",0.5"
    args = (down, "up_lr_weight=zeros", "loraplus_lr_ratio=16", "loraplus_text_encoder_lr_ratio=4")
    options = tiny.options(
        full_model, tmp_path, network_args=args, lr_scheduler="constant", text_encoder_lr=1e-3
    )
    made = setup.assemble(options, planned(data, options), setup.load_parts(options))
    rates = rates_of(made)
    assert rates["unet_block2"] == pytest.approx(1e-2) and rates[
        "unet_block2_plus"
    ] == pytest.approx(16e-2)
    assert rates["text_encoder"] == pytest.approx(1e-3) and rates[
        "text_encoder_plus"
    ] == pytest.approx(4e-3)
    assert not any(
        int(name.split("block")[1].split("_")[0]) > 12 for name in rates if "block" in name
    )
    grouped = [p for group in made.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in made.lora.parameters()} and len(
        grouped
    ) == len(set(grouped))
    plus = {
        id(p)
        for g in made.optimizer.param_groups
        if g["name"].endswith("plus")
        for p in g["params"]
    }
    assert plus == {id(m.up) for m in made.lora.modules}


def test_plain_lora_has_one_group_per_part(data, options):
    made = setup.assemble(options, planned(data, options), setup.load_parts(options))
    assert list(rates_of(made)) == ["unet", "text_encoder"]
    assert made.optimizer.param_groups[0]["params"] == made.lora.parameters("unet")


def test_plan_rejects_different_rates_for_prodigy(data, options):
    wrong = replace(options, optimizer_type="Prodigy", network_args=("loraplus_lr_ratio=16",))
    with pytest.raises(ConfigError, match="one learning rate for all parts"):
        planned(data, wrong)


# ---- dropout
# --------------------------------------------------------------------------------------------------


def test_rank_dropout_is_per_image_and_rescales():
    torch.manual_seed(0)
    drop = Dropout(ranks=0.25)
    linear, convolution = torch.nn.Linear(3, 40).train(), torch.nn.Conv2d(3, 40, 1).train()
    seen = drop(linear, (), torch.ones(6, 5, 40))
    assert seen.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(seen[:, :1].expand_as(seen), seen)  # all places of an image alike
    assert not torch.equal(seen[0], seen[1])
    seen = drop(convolution, (), torch.ones(2, 40, 4, 4))
    assert torch.equal(seen[:, :, :1, :1].expand_as(seen), seen)
    assert torch.equal(drop(linear.eval(), (), seen), seen)


def test_module_dropout_drops_the_whole_module():
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 4).train()
    drop = Dropout(module=0.5)
    kept = [bool(drop(layer, (), torch.ones(2, 4)).any()) for _ in range(200)]
    assert 70 < sum(kept) < 130


# ---- runs
# --------------------------------------------------------------------------------------------------

RUNS: dict[str, dict[str, Any]] = {
    "dora": {
        "network_args": ("dora_wd=True", "conv_dim=1", "rank_dropout=0.2", "module_dropout=0.2"),
        "ema_decay": 0.9,
    },
    "loha": {"network_args": ("module_dropout=0.2", "rank_dropout=0.1"), "scale_weight_norms": 0.5},
    "lokr": {
        "network_args": ("loraplus_lr_ratio=2", "mid_lr_weight=.5"),
        "mixed_precision": "bf16",
    },
    "norms": {
        "network_args": ("algo=locon", "train_norm=True", "rank_dropout=0.2"),
        "ema_decay": 0.9,
        "scale_weight_norms": 0.5,
        "mixed_precision": "bf16",
    },
}


@pytest.mark.parametrize(
    "kind", ["dora", *(pytest.param(k, marks=pytest.mark.slow) for k in ("loha", "lokr", "norms"))]
)
@pytest.mark.long
def test_resumed_run_is_bit_identical(data, full_model, tmp_path, kind):
    def run_of(folder):
        short = {"max_train_steps": 3, "save_every_n_epochs": 0, "save_every_n_steps": 2}
        return options_of(kind, full_model, tmp_path / folder, **short, **RUNS[kind])

    uninterrupted = load_file(whole(data, run_of("whole")).files[-1])
    options = run_of("stopped")
    with pytest.raises(Stopped):
        train(options, planned(data, options), reporter=Killer(3))
    result = train(options, planned(data, options), resume=True)
    assert result.start == 2
    resumed = load_file(result.files[-1])
    assert uninterrupted.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[key]) for key, value in uninterrupted.items())


@pytest.mark.long
def test_metadata_has_the_network(data, model, tmp_path):
    options = options_of("dora", model, tmp_path, max_train_steps=1, ema_decay=0.5)
    with safe_open(whole(data, options).files[-1], "pt") as file:
        message = file.metadata()
    assert message["ss_network_module"] == "networks.lora" and message["ss_ema_decay"] == "0.5"
    args = json.loads(message["ss_network_args"])
    assert (args["dora_wd"], args["conv_dim"], args["up_lr_weight"]) == ("True", "2", "zeros")


def test_norms_of_full_weight_changes_are_limited(data, model, tmp_path):
    options = options_of(
        "loha", model, tmp_path, scale_weight_norms=0.01, max_train_steps=2, learning_rate=0.5
    )
    made = setup.assemble(options, planned(data, options), setup.load_parts(options))
    logs = list(loop.steps(made))
    norms = [
        float(d.norm()) for d in lora.deltas(lora.kohya_tensors(made.lora, torch.float32)).values()
    ]
    assert max(norms) <= 0.01 * (1 + 1e-4)
    assert logs[-1].norms is not None and int(logs[-1].norms.scaled) > 0


@pytest.mark.long
def test_ema_weights_are_saved(data, model, tmp_path):
    options = tiny.options(
        model,
        tmp_path,
        max_train_steps=4,
        ema_decay=0.3,
        network_train_text_encoder_only=True,
        save_every_n_epochs=0,
    )
    made = setup.assemble(options, planned(data, options), setup.load_parts(options))
    wanted = [p.detach().clone() for p in made.lora.parameters()]
    for n, _ in enumerate(loop.steps(made), 1):
        decay = min(0.3, (1 + n) / (10 + n))
        wanted = [
            decay * mean + (1 - decay) * p.detach()
            for mean, p in zip(wanted, made.lora.parameters(), strict=True)
        ]
    exact = [p.detach().clone() for p in made.lora.parameters()]
    with made.inference_weights():
        assert all(
            torch.allclose(p, mean, atol=1e-7)
            for p, mean in zip(made.lora.parameters(), wanted, strict=True)
        )
        tensors = lora.kohya_tensors(made.lora, torch.float32)
    assert all(torch.equal(p, was) for p, was in zip(made.lora.parameters(), exact, strict=True))
    saved = load_file(whole(data, replace(options, output_dir=str(tmp_path / "run"))).files[-1])
    assert all(torch.equal(value, saved[key]) for key, value in tensors.items())


def test_norms_in_a_file_are_applied_to_a_loaded_model(model, tmp_path):
    """As a grid of preview images does; the base is restored bit by bit."""
    trained_parts, network = attached(options_of("norms", model, tmp_path))
    disturb(network)
    path = tmp_path / "x.safetensors"
    save_file(lora.kohya_tensors(network, torch.float32), path)
    parts = sd.load(str(model))
    plain = output(parts)
    applied = AppliedLora(parts)
    applied.apply(lora_file.read(path))
    assert torch.allclose(output(parts), output(trained_parts), atol=1e-5)
    applied.apply(lora_file.read(path), unet=0.0, text=0.0)
    assert torch.equal(output(parts), plain)


@pytest.mark.parametrize("kind", ["norms", "full norms"])
def test_norms_are_those_of_the_trained_blocks_of_the_unet(full_model, tmp_path, kind):
    _, network = attached(options_of(kind, full_model, tmp_path, network_alpha=1.0))
    norms = [m for m in network.modules if m.algo == "norm"]
    # The middle block alone is trained, see MIDDLE: its attention, and its two residual layers.
    assert len(norms) == (4 if kind == "norms" else 8)
    assert {m.part for m in norms} == {"unet"} and all("mid_block" in m.name for m in norms)
    assert all(set(m.tensors) == {"w_norm", "b_norm"} and not m.has_alpha for m in norms)


@torch.no_grad()
def test_norms_have_no_limit_of_scale_weight_norms(model, tmp_path):
    _, network = attached(options_of("norms", model, tmp_path))
    disturb(network, size=10.0)
    before = {m.name: m.delta().clone() for m in network.modules}
    network.limit_norms(0.1)
    for module in network.modules:
        is_same = torch.equal(module.delta(), before[module.name])
        assert is_same == (module.algo == "norm"), module.name


@torch.no_grad()
def test_a_small_change_of_a_norm_is_not_rounded_away_in_half_precision():
    base = torch.nn.GroupNorm(2, 4).to(torch.bfloat16)
    layer = NormLayer(base, 4)
    layer.w_norm.fill_(2**-10)  # 1 + 2^-10 is 1 in bf16
    x = torch.randn(64, 4, 8, 8, dtype=torch.bfloat16) * 100
    assert layer(x).dtype == torch.bfloat16
    assert not torch.equal(layer(x), base(x))
    layer._disable_adapters = True
    assert torch.equal(layer(x), base(x))
