"""The loop: every image has the same weight, and randomness depends on the sample alone."""

import math
from contextlib import closing
from itertools import islice

import pytest
import torch
from PIL import Image

from tests.trainer import tiny
from trainer import loop, setup
from trainer.data.epochs import epoch_batches
from trainer.errors import LossDiverged
from trainer.files import lora
from trainer.loop import gradients, steps
from trainer.plan.plan import find_subsets, make_plan


def ready(data, options):
    plan = make_plan(find_subsets(data, options)[0], options)
    return setup.assemble(options, plan, setup.load_parts(options))


def wake(run):
    """Give the LoRA a first change, so that the down factors have gradients as well."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in run.lora.modules:
            module.up.copy_(torch.randn(module.up.shape, generator=generator) * 0.1)


def epoch_gradient(run, workers=0):
    """Add up an epoch's gradients at learning rate 0, for a sample each of weight 1."""
    plan = run.plan
    with closing(loop.reader(run).steps(workers=workers)) as read:
        for work in islice(read, plan.totals.steps_per_epoch):
            gradients(run, work)
    size = plan.batch_settings.batch_size * plan.batch_settings.gradient_accumulation
    return torch.cat([p.grad.flatten() for p in run.lora.parameters()]) * size


def sample_losses(run, batch, epoch):
    return loop.sample_losses(run, loop.reader(run).batch(batch, epoch), epoch)


EVERYTHING = {
    "flip_aug": True,
    "random_crop": True,
    "caption_dropout_rate": 0.2,
    "caption_tag_dropout_rate": 0.2,
    "multires_noise_iterations": 3,
    "ip_noise_gamma": 0.1,
    "min_snr_gamma": 5.0,
    "prior_loss_weight": 0.5,
    "clip_skip": 2,
    "loss_type": "huber",
    "v_pred_like_loss": 0.1,
    "diff_output_preservation": True,
    "enable_wildcard": True,
    "caption_prefix": "{a|(b:1.3)},",
    "weighted_captions": True,
    "color_aug": True,
    "cache_latents": False,
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("others", "sizes"),
    [({}, ((1, 1), (4, 1), (5, 1))), (EVERYTHING, ((3, 1), (5, 2)))],
    ids=["plain", "every option, accumulated"],
)
def test_gradient_of_an_epoch_does_not_depend_on_the_batch_size(
    data, model, tmp_path, others, sizes
):
    found = []
    if not others:  # six samples, of which five share a bucket: 5, or 4 + 1, or one by one
        data = tmp_path / "few"
        tiny.save_images(data / "train" / "1_sks", [(128, 128)] * 5 + [(192, 128)])
    for batch, accumulation in sizes:
        options = tiny.options(
            model,
            tmp_path,
            train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            **others,
        )
        run = ready(data, options)
        wake(run)
        found.append(epoch_gradient(run))
    size = float(found[0].norm())
    assert size > 0
    assert all(float((other - found[0]).norm()) / size < 2e-6 for other in found[1:])


@pytest.mark.long
def test_cached_latents_do_not_change_the_result(data, model, tmp_path):
    def losses(keep):
        run = ready(data, tiny.options(model, tmp_path, cache_latents=keep, flip_aug=True))
        if keep:
            run.encoder.fill(run.plan.images)
        return torch.cat(
            [sample_losses(run, b, 0).detach() for b in epoch_batches(run.plan, 42, 0)]
        )

    assert torch.equal(losses(True), losses(False))


@pytest.mark.long
def test_cached_text_does_not_change_the_result_and_saves_encoding(data, model, tmp_path):
    def losses(keep):
        varied = {
            "shuffle_caption": True,
            "caption_tag_dropout_rate": 0.3,
            "caption_dropout_rate": 0.2,
        }
        run = ready(
            data,
            tiny.options(
                model, tmp_path, network_train_unet_only=True, train_batch_size=1, **varied
            ),
        )
        run.texts.trained = not keep
        calls = []
        run.parts.encoders["text_encoder"].register_forward_hook(lambda *_: calls.append(1))
        found = [
            sample_losses(run, b, epoch)
            for epoch in (0, 1)
            for b in epoch_batches(run.plan, 42, epoch)
        ]
        return torch.cat(found).detach(), len(calls)

    (kept, once), (fresh, always) = losses(True), losses(False)
    assert torch.equal(kept, fresh)
    assert once < always == len(fresh)


def test_reg_images_are_weighted_by_prior_loss_weight(data, model, tmp_path):
    def losses(weight):
        run = ready(data, tiny.options(model, tmp_path, prior_loss_weight=weight))
        batch = epoch_batches(run.plan, 42, 0)[0]
        is_reg = [run.plan.images[v.image].subset.is_reg for v in batch]
        return sample_losses(run, batch, 0).detach(), torch.tensor(is_reg)

    (full, is_reg), (half, _) = losses(1.0), losses(0.5)
    assert torch.equal(half, torch.where(is_reg, full * 0.5, full))
    assert 0 < int(is_reg.sum()) < len(is_reg)


def test_steps_taken_are_the_steps_planned(data, model, tmp_path):
    run = ready(
        data, tiny.options(model, tmp_path, gradient_accumulation_steps=2, max_train_epochs=2)
    )
    taken = list(steps(run))
    assert [log.step for log in taken] == list(range(1, run.plan.steps + 1))
    assert [log.epoch for log in taken if log.last_of_epoch] == [1, 2]
    assert sum(log.samples for log in taken) == 2 * run.plan.totals.samples
    assert all(math.isfinite(log.loss) and log.grad_norm > 0 for log in taken)


def test_max_train_steps_ends_a_run_in_the_middle_of_an_epoch(data, model, tmp_path):
    run = ready(data, tiny.options(model, tmp_path, max_train_steps=3))
    assert [log.last_of_epoch for log in steps(run)] == [False, False, False]
    assert (run.plan.steps, run.plan.epochs) == (3, 1)


def test_training_changes_only_the_lora(data, model, tmp_path):
    run = ready(data, tiny.options(model, tmp_path, max_train_steps=2))
    trained = {id(p) for p in run.lora.parameters()}
    frozen = [
        p
        for part in (run.parts.denoiser, run.parts.encoders["text_encoder"])
        for p in part.parameters()
        if id(p) not in trained
    ]
    before = [p.clone() for p in frozen]
    starts = [p.detach().clone() for p in run.lora.parameters()]
    list(steps(run))
    assert all(torch.equal(was, now) for was, now in zip(before, frozen, strict=True))
    assert all(
        not torch.equal(was, now) for was, now in zip(starts, run.lora.parameters(), strict=True)
    )


@pytest.mark.long
def test_max_grad_norm_limits_the_step_of_any_optimizer(data, model, tmp_path):
    """Plain descent at a rate of 1: the change of the weights is the gradient that was let
    through.
    """

    def change(limit):
        run = ready(
            data,
            tiny.options(
                model,
                tmp_path,
                optimizer_type="torch.optim.SGD",
                optimizer_args=("momentum=0.5",),
                learning_rate=1.0,
                text_encoder_lr=1.0,
                lr_scheduler="constant",
                max_train_steps=1,
                max_grad_norm=limit,
            ),
        )
        assert run.optimizer.defaults["momentum"] == 0.5
        before = [p.detach().clone() for p in run.lora.parameters()]
        (log,) = steps(run)
        moved = [p.detach() - was for p, was in zip(run.lora.parameters(), before, strict=True)]
        return math.sqrt(sum(float(m.square().sum()) for m in moved)), log.grad_norm

    free, gradient = change(0.0)
    assert free == pytest.approx(gradient, rel=1e-4)
    held, seen = change(gradient / 8)
    assert seen == pytest.approx(gradient, rel=1e-4)
    assert held == pytest.approx(gradient / 8, rel=1e-3)


def test_part_with_rate_0_is_not_trained(data, model, tmp_path):
    run = ready(data, tiny.options(model, tmp_path, text_encoder_lr=0.0))
    assert run.lora.parts == ("unet",)
    run = ready(
        data, tiny.options(model, tmp_path, network_train_text_encoder_only=True, max_train_steps=1)
    )
    assert run.lora.parts == ("text_encoder",)
    assert [log.rates.keys() for log in steps(run)] == [{"text_encoder"}]


def test_run_stops_at_a_loss_that_is_not_finite(data, model, tmp_path):
    run = ready(data, tiny.options(model, tmp_path))
    with torch.no_grad():
        run.lora.modules[-1].up.fill_(float("nan"))
    with pytest.raises(LossDiverged, match="step 1"):
        list(steps(run))


def test_weight_norms_are_limited(data, model, tmp_path):
    run = ready(
        data,
        tiny.options(
            model, tmp_path, scale_weight_norms=0.01, max_train_steps=2, learning_rate=0.5
        ),
    )
    logs = list(steps(run))
    norms = [
        float(d.norm()) for d in lora.deltas(lora.kohya_tensors(run.lora, torch.float32)).values()
    ]
    assert max(norms) <= 0.01 * (1 + 1e-5)
    assert logs[-1].norms is not None and int(logs[-1].norms.scaled) > 0


@pytest.mark.long
@pytest.mark.parametrize("others", [{"v_parameterization": True}, {"gradient_checkpointing": True}])
def test_variants_train(data, model, tmp_path, others):
    run = ready(data, tiny.options(model, tmp_path, max_train_steps=2, **others))
    assert len(list(steps(run))) == 2


@pytest.mark.slow
def test_checkpointing_changes_no_gradient(data, model, tmp_path):
    found = []
    for on in (False, True):
        run = ready(
            data, tiny.options(model, tmp_path, gradient_checkpointing=on, train_batch_size=8)
        )
        wake(run)
        found.append(epoch_gradient(run))
    assert torch.allclose(found[0], found[1], rtol=1e-5, atol=1e-7)


@pytest.mark.long
def test_bfloat16_base_agrees_with_float32(data, model, tmp_path):
    found = []
    for precision in ("no", "bf16"):
        run = ready(
            data, tiny.options(model, tmp_path, mixed_precision=precision, max_train_steps=3)
        )
        found.append([log.loss for log in steps(run)])
        assert all(p.dtype == torch.float32 for p in run.lora.parameters())
    assert found[1] == pytest.approx(found[0], rel=0.01)


def test_pixels_outside_the_mask_do_not_count(data, model, tmp_path):
    folder = tiny.copy_folder(data, tmp_path / "data")
    masks = folder / "train" / "2_sks" / "masks"
    masks.mkdir()

    def fill(level):
        for n, size in enumerate([(128, 128), (192, 128), (130, 200), (128, 128)], 1):
            Image.new("L", size, level).save(masks / f"{n}.png")

    fill(255)  # an image whose mask is black is left out of the plan
    run = ready(folder, tiny.options(model, tmp_path, masked_loss=True))
    fill(0)
    batches = epoch_batches(run.plan, 42, 0)
    for batch in batches:
        for loss, sample in zip(sample_losses(run, batch, 0).tolist(), batch, strict=True):
            assert (loss == 0) == (not run.plan.images[sample.image].subset.is_reg)
    assert any("2 of 6 images have no mask" in notice for notice in run.plan.notices)
