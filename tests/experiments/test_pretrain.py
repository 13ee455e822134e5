"""Each objective learns from what it may see; one command writes weights with their card, and goes on where it stopped."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from wsis.core.errors import ConfigError
from wsis.core.files import digest
from wsis.data.transforms import collate
from wsis.data.world import World
from wsis.experiments.pretraining import recipes as pretrain
from wsis.experiments.pretraining import vit as pretrain_vit
from wsis.experiments.pretraining.vit import MaskedAutoencoder, SelfDistillation
from wsis.models import build_pyramid
from wsis.models.vit import build_vit
from wsis.training.loop import LoopOptions


@pytest.fixture(scope="module")
def batch():
    world = World("train", 4, config=pretrain_vit.SCENES)
    return collate([world[i] for i in range(4)])


def test_a_quarter_of_the_patches_is_seen():
    visible, hidden = pretrain_vit.random_split(torch.rand(3, 3, 96, 96), 8, pretrain_vit.VISIBLE_RATE)
    assert visible.shape == (3, 36)
    assert torch.equal(torch.cat([visible, hidden], 1).sort(1).values, torch.arange(144).expand(3, -1))
    assert not torch.equal(visible[0], visible[1])


def test_only_hidden_patches_count():
    painted, target = torch.zeros(1, 6, 2), torch.zeros(1, 6, 2)
    hidden = torch.tensor([[1, 4]])
    target[0, [0, 2, 3, 5]] = 7
    assert pretrain_vit.masked_error(painted, target, hidden) == 0
    target[0, 4] = 2
    assert pretrain_vit.masked_error(painted, target, hidden) == 2


@torch.no_grad()
def test_the_encoder_does_not_see_hidden_patches(batch):
    torch.manual_seed(0)
    mae = MaskedAutoencoder(build_vit("vit_tiny", "random")).eval()
    visible, hidden = pretrain_vit.random_split(batch.images, 8, pretrain_vit.VISIBLE_RATE)
    image_of = torch.zeros(4, 144).scatter(1, hidden, 1.0).view(4, 1, 12, 12)
    blanked = batch.images * (1 - image_of.repeat_interleave(8, 2).repeat_interleave(8, 3))
    painted = mae.paint(batch.images, visible)
    assert painted.shape == (4, 144, 192)
    torch.testing.assert_close(mae.paint(blanked, visible), painted)
    assert (mae.paint(batch.images.flip(0), visible) - painted).abs().max() > 1e-3


def test_targets_are_the_patches_normalized(batch):
    mae = MaskedAutoencoder(build_vit("vit_tiny", "random"))
    ramp = torch.arange(96.0).expand(1, 3, 96, 96) / 96
    target = mae.target(ramp)
    assert target.shape == (1, 144, 192)
    torch.testing.assert_close(target.mean(-1), torch.zeros(1, 144), atol=1e-4, rtol=0)
    torch.testing.assert_close(target[0, 0], target[0, 143], atol=1e-3, rtol=0)  # the same ramp, elsewhere
    corner = batch.images[:, :, 8:16, 16:24].flatten(1)  # the patch in row 1, column 2
    normal = (corner - corner.mean(1, keepdim=True)) / (corner.var(1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(mae.target(batch.images)[:, 14], normal)


@torch.no_grad()
def test_the_center_is_a_running_mean_and_undoes_what_all_images_prefer(batch, monkeypatch):
    monkeypatch.setattr(pretrain_vit, "random_view", lambda images: images)
    torch.manual_seed(0)
    model = SelfDistillation(build_vit("vit_tiny", "random"))
    scores = model.teacher(batch.images, 1.0).mean(0)
    usage = model(batch)["usage"]
    torch.testing.assert_close(model.center, 0.1 * scores, atol=1e-5, rtol=1e-4)
    model.center.copy_(scores)
    assert model(batch)["usage"] > usage


def test_the_teacher_follows_and_is_not_trained(batch):
    torch.manual_seed(0)
    model = SelfDistillation(build_vit("vit_tiny", "random"))
    before = model.vit.backbone.cls_token.clone()
    with torch.no_grad():
        model.student.vit.backbone.cls_token.add_(1)
    terms = model(batch)
    torch.testing.assert_close(model.vit.backbone.cls_token, before + 0.01)
    assert model.center.abs().sum() > 0
    terms["total"].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.student.parameters())


def test_views_stay_images(batch):
    torch.manual_seed(0)
    view = pretrain_vit.random_view(batch.images)
    assert view.shape == (4, 3, 64, 64) and view.min() >= 0 and view.max() <= 1
    assert not torch.equal(view, pretrain_vit.random_view(batch.images))


class Known(nn.Module):
    """Attends to the patches of the same truth and has the class as token."""

    patch = 8

    def __init__(self, world):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.owners = {}
        for i in range(len(world)):
            sample = world[i]
            cover = sample.truth.masks.view(-1, 12, 8, 12, 8).float().mean((2, 4)).flatten(1)
            owner = torch.where(cover.max(0).values > 0.5, cover.argmax(0), -1)
            names = torch.cat([sample.truth.labels, torch.tensor([2])])[owner]
            self.owners[float(sample.image.float().div(255).mean())] = owner, names

    def attention(self, images, layer):
        owner, _ = self.owners[float(images.mean())]
        return (owner[:, None] == owner)[None].float()

    def forward(self, images):
        _, names = self.owners[float(images.mean())]
        return nn.functional.one_hot(names, 3)[None].float()


def test_perfect_attention_and_tokens_score_one():
    world = World("val", 12, seed=1, config=replace(pretrain_vit.SCENES, classes=("cat", "dog")))
    assert pretrain_vit.quality(Known(world), world) == {"pair_auc": 1.0, "token_accuracy": 1.0}


@pytest.fixture
def short(monkeypatch):
    """Recipes of four scenes and two steps, each with a checkpoint."""

    def shorter(recipe):
        return replace(recipe, counts=(4, 4), schedule=replace(recipe.schedule, steps=2, batch_size=2, warmup=0))

    monkeypatch.setattr(pretrain, "RECIPES", {name: shorter(recipe) for name, recipe in pretrain.RECIPES.items()})
    monkeypatch.setattr(pretrain, "LoopOptions", partial(LoopOptions, checkpoint_every=1))


@pytest.mark.parametrize("name", ["vit_tiny_mae", "vit_tiny_supervised", "vit_tiny_dino", "resnet_tiny"])
def test_two_steps_write_weights_and_card_and_resume(tmp_path, short, name):
    card = pretrain.pretrain(name, tmp_path)
    path, folder = tmp_path / f"{name}.safetensors", tmp_path / f".{name}"
    assert card == json.loads(path.with_suffix(".json").read_text())
    assert card["sha256"] == digest([path]) and card["steps"] == 2 and card["trained_on"].startswith("4 scenes")
    if name in pretrain.PYRAMIDS:
        build_pyramid(name, str(path))
        assert 0 <= card["accuracy"] <= 1
    else:
        build_vit("vit_tiny", str(path))
        assert 0 <= card["pair_auc"] <= 1 and 0 <= card["token_accuracy"] <= 1
    assert [p.name for p in folder.glob("*.safetensors")] == [f"{name}-00000001.safetensors"]
    again = pretrain.pretrain(name, tmp_path)  # from step 1
    assert again["sha256"] == card["sha256"]
    assert [row.split(",")[0] for row in (folder / f"{name}.csv").read_text().splitlines()] == ["step", "0", "1"]


def test_the_teacher_is_what_is_kept():
    model = pretrain.RECIPES["vit_tiny_dino"].learner(16)
    assert pretrain.RECIPES["vit_tiny_dino"].shipped(model) is model.teacher.vit.backbone


def test_objectives_without_labels_see_the_same_images():
    mae, dino = (pretrain.RECIPES[f"vit_tiny_{name}"] for name in ("mae", "dino"))
    assert (mae.scenes, mae.counts, mae.augment) == (dino.scenes, dino.counts, dino.augment)
    assert mae.schedule.batch_size == dino.schedule.batch_size


@pytest.mark.parametrize("name", ["vit_tiny_supervised", "vgg_tiny"])
def test_images_to_name_have_one_tag(name):
    """The losses take the one tag of an image; a second would be ignored in silence."""
    world = World("train", 40, seed=pretrain.SEED, config=pretrain.RECIPES[name].scenes)
    assert all(world[i].tags.sum() == 1 for i in range(len(world)))


def test_unknown_weights(tmp_path):
    with pytest.raises(ConfigError, match="vit_tiny_mae"):
        pretrain.pretrain("vit_tiny_clip", tmp_path)
