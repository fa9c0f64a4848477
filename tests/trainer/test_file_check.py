"""The modules that a plan expects from the headers of a base model are those that a network has on
the loaded model: names, ranks and sizes.
"""

import pytest

from tests.trainer import tiny, tiny_families
from trainer import setup
from trainer.families import registry
from trainer.files import lora
from trainer.networks import file_check
from trainer.plan import model_shapes

ARGS = {
    "lora": ("networks.lora", ()),
    "locon": ("networks.lora", ("conv_dim=3",)),
    "dora": ("networks.lora", ("dora_wd=True",)),
    "loha": ("networks.loha", ("conv_dim=2",)),
    "lokr": ("networks.lokr", ("conv_dim=2", "decompose_both=True")),
    "lokr full": ("networks.lokr", ("factor=4",)),
    "lokr full convolutions": ("networks.lokr", ("conv_dim=1024",)),
}


def expected(base, tmp_path, module, args):
    """Return the modules of a network by the headers of a base model."""
    options = tiny.options(base, tmp_path, network_module=module, network_args=args)
    shapes = model_shapes.read(str(base))
    assert shapes is not None
    return options, file_check.expected(options, shapes)


@pytest.mark.parametrize("family", ["sd1", pytest.param("sdxl", marks=pytest.mark.long)])
def test_expected_modules_are_those_of_the_network(tmp_path, family):
    base = (
        tiny.save_small(tmp_path / "sd1")
        if family == "sd1"
        else tiny_families.save_pipeline(tmp_path / "sdxl", "sdxl")
    )
    for module, args in ARGS.values():
        options, modules = expected(base, tmp_path, module, args)
        parts = setup.load_parts(options)
        network = lora.attach(
            registry.family(parts.family), parts, setup.trained_parts(options, parts),
            dim=4, alpha=1.0, dropout=0.0, seed=0, args=options.network(),
        )  # fmt: skip
        assert modules == {
            m.name: file_check.ModuleShape(
                m.algo, m.rank.dim, {key: tensor.numel() for key, tensor in m.tensors.items()}
            )
            for m in network.modules
        }
        shapes = model_shapes.read(str(base))
        assert shapes is not None
        assert file_check.dimensions(options, shapes) == {2} | {
            tensor.ndim for m in network.modules for tensor in m.tensors.values()
        }


@pytest.mark.long
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_both_layouts_of_a_model_give_the_same_modules(tmp_path, family):
    (tmp_path / "file").mkdir()
    if family == "sd1":
        bases = [tiny.save_full(tmp_path / "folder"), tiny.save_checkpoint(tmp_path / "file")]
    else:
        bases = [
            tiny_families.save_pipeline(tmp_path / "folder", family),
            tiny_families.save_checkpoint(tmp_path / "file", family),
        ]
    folder, file = (expected(base, tmp_path, *ARGS["locon"])[1] for base in bases)
    assert folder and folder == file
