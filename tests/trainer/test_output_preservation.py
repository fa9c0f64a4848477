"""Preservation: the base's own prediction as a target, and its effect on gradients."""

import pytest
import torch

from datasetkit.core.errors import ConfigError, DatasetError
from tests.trainer import tiny
from trainer import loop, setup
from trainer.config import translate
from trainer.data.epochs import epoch_batches
from trainer.objective import output_preservation
from trainer.plan.plan import find_subsets, make_plan


def ready(data, options):
    plan = make_plan(find_subsets(data, options)[0], options)
    return setup.assemble(options, plan, setup.load_parts(options))


def wake(run):
    """Give the LoRA a change, as training does."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in run.lora.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


def losses(run):
    """The loss of each sample of an epoch, and whether its image is of regularisation."""
    found, is_reg = [], []
    for batch in epoch_batches(run.plan, 42, 0):
        seen = loop.reader(run).batch(batch, 0)
        found.append(loop.sample_losses(run, seen, 0).detach())
        is_reg += [one.image.subset.is_reg for one in seen]
    return torch.cat(found), torch.tensor(is_reg)


@pytest.mark.long
@pytest.mark.parametrize("text_encoder_lr", [0.01, 0.0])
def test_new_lora_has_no_preservation_loss(data, model, tmp_path, text_encoder_lr):
    others = {"text_encoder_lr": text_encoder_lr}
    found, is_reg = losses(
        ready(data, tiny.options(model, tmp_path, diff_output_preservation=True, **others))
    )
    plain, _ = losses(ready(data, tiny.options(model, tmp_path, **others)))
    assert (found[is_reg] < 1e-10).all() and (plain[is_reg] > 0.1).all()
    assert torch.equal(found[~is_reg], plain[~is_reg])


@pytest.mark.long
def test_preservation_pulls_the_lora_back_to_the_base(data, model, tmp_path):
    run = ready(data, tiny.options(model, tmp_path, diff_output_preservation=True))
    wake(run)
    found, is_reg = losses(run)
    assert (found[is_reg] > 1e-8).all()
    for batch in epoch_batches(run.plan, 42, 0):
        seen = [one for one in loop.reader(run).batch(batch, 0) if one.image.subset.is_reg]
        if seen:
            loop.sample_losses(run, seen, 0).sum().backward()
    for part in ("unet", "text_encoder"):
        assert any(
            float(p.grad.abs().sum()) > 0 for p in run.lora.parameters(part) if p.grad is not None
        )


def test_lora_is_disabled_only_inside_the_context(data, model, tmp_path):
    run = ready(data, tiny.options(model, tmp_path))
    base = loop_prediction(run)
    wake(run)
    changed = loop_prediction(run)
    with output_preservation.without_lora(run.lora):
        assert torch.equal(loop_prediction(run), base)
        assert all(p.requires_grad for p in run.lora.parameters())
    assert torch.equal(loop_prediction(run), changed)
    assert not torch.equal(base, changed)
    with pytest.raises(KeyError), output_preservation.without_lora(run.lora):
        raise KeyError
    assert torch.equal(loop_prediction(run), changed)


def loop_prediction(run):
    batch = loop.reader(run).batch(epoch_batches(run.plan, 42, 0)[0], 0)
    shape = run.encoder.moments(batch[0].image, batch[0].at, batch[0].flip).mean.shape
    drawn = torch.randn((len(batch), *shape), generator=torch.Generator().manual_seed(0))
    t = torch.full((len(batch),), 300)
    with torch.no_grad():
        return loop.predict(run, batch, loop.NoisyBatch(drawn, drawn, drawn, t)).clone()


def test_preservation_needs_regularisation_images(tmp_path, model):
    tiny.save_images(tmp_path / "data" / "train" / "1_sks", [(128, 128)])
    options = tiny.options(model, tmp_path, diff_output_preservation=True)
    with pytest.raises(DatasetError, match="regularisation images"):
        make_plan(find_subsets(tmp_path / "data", options)[0], options)


def test_subset_of_sd_scripts_can_enable_preservation(tmp_path):
    text = """
    [[datasets]]
      [[datasets.subsets]]
      image_dir = "a"
      custom_attributes.diff_output_preservation = true
      [[datasets.subsets]]
      image_dir = "b"
    """
    (tmp_path / "dataset.toml").write_text(text, encoding="utf-8")
    message = translate(None, tmp_path / "dataset.toml", {"resolution": 512})
    assert [s.preserved for s in message.subsets] == [True, False]
    wrong = text.replace("diff_output_preservation", "diff_output")
    (tmp_path / "dataset.toml").write_text(wrong, encoding="utf-8")
    with pytest.raises(ConfigError, match="custom_attributes"):
        translate(None, tmp_path / "dataset.toml", {"resolution": 512})


@pytest.mark.long
def test_preservation_does_not_depend_on_the_batch(data, model, tmp_path):
    """The base's prediction of an image does not depend on its neighbours."""
    found = []
    for size in (1, 8):
        run = ready(
            data,
            tiny.options(model, tmp_path, diff_output_preservation=True, train_batch_size=size),
        )
        wake(run)
        each, is_reg = losses(run)
        found.append(torch.sort(each[is_reg]).values)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-9)
