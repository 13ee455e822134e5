"""What every method has to offer: the verbs of `wsis.types.Method`, on one small batch of the world."""

import importlib
import inspect
from dataclasses import replace

import pytest
import torch
from torch import nn

from wsis.core.config import changed
from wsis.core.types import InstanceMap, Instances
from wsis.data.transforms import collate
from wsis.methods import METHODS, attentionshift, exits, simformer
from wsis.methods.exits.crops import CropAugment
from wsis.methods.exits.model import build_extractor
from wsis.training.stages import Method, Stage
from wsis.weak.simulate import with_extreme_points

VERBS = [name for name, value in vars(Method).items() if inspect.isfunction(value) and not name.startswith("_")]
RESULTS = (InstanceMap, Instances, torch.Tensor, list)


def method(name):
    return importlib.import_module(f"wsis.methods.{name}")


@pytest.fixture(scope="module")
def settings(tiny):
    random = {"generator.weights": "random", "extractor.weights": "random", "final.weights": "random"}
    return {
        "bestie": tiny,
        "exits": changed(exits.TINY, classes=tiny.classes, **random),
        "attentionshift": changed(attentionshift.TINY, classes=tiny.classes, weights="random"),
        "simformer": changed(simformer.TINY, classes=tiny.classes, novel=(0,), **{"pairs.points": 20}),
    }


@pytest.fixture(scope="module")
def batch(world):
    samples = (with_extreme_points(replace(s, semantic_map=s.true_semantic)) for s in (world[0], world[1]))
    return collate(list(samples))


def taught(name, batch, cfg):
    """What `loss` takes: a batch and its targets."""
    if name == "exits":  # learns from crops of single objects
        samples = [replace(s, extreme_points=s.extreme_points[:1]) for s in exits.unstacked(batch)]
        crops = collate([CropAugment(cfg.crop, training=True)(s, i) for i, s in enumerate(samples)])
        return crops, exits.find_points(build_extractor(cfg).eval(), crops, cfg)
    if name in ("attentionshift", "simformer"):  # make their labels themselves
        return batch, None
    return batch, method(name).pseudo_labels(None, batch, cfg)


def made(name, settings):
    torch.manual_seed(0)
    return method(name).build(settings[name])


def flat(result):
    """All tensors of a result."""
    if isinstance(result, torch.Tensor):
        return [result]
    parts = result if isinstance(result, (list, tuple)) else vars(result).values()
    return [t for part in parts for t in flat(part)]


def test_the_verbs_are_known():
    assert set(VERBS) >= {"build", "pseudo_labels", "loss", "predict", "stages"}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", METHODS)
def test_verbs_have_the_protocols_parameters(name, verb):
    wanted = list(inspect.signature(getattr(Method, verb)).parameters)[1:]
    assert list(inspect.signature(getattr(method(name), verb)).parameters) == wanted


@pytest.mark.parametrize("name", METHODS)
def test_presets_are_of_one_type(name):
    assert type(method(name).FULL) is type(method(name).TINY)


@pytest.mark.parametrize("name", METHODS)
def test_build_is_deterministic(name, settings):
    first, second = made(name, settings), made(name, settings)
    assert isinstance(first, nn.Module)
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_labels_without_a_model_are_deterministic(name, settings, batch):
    first, second = (method(name).pseudo_labels(None, batch, settings[name]) for _ in range(2))
    assert isinstance(first, RESULTS)
    assert all(torch.equal(a, b) for a, b in zip(flat(first), flat(second), strict=True))


@pytest.mark.parametrize("with_model", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_the_trace_changes_nothing(name, with_model, settings, batch):
    model = made(name, settings).eval() if with_model else None
    plain = method(name).pseudo_labels(model, batch, settings[name])
    labels, trace = method(name).pseudo_labels(model, batch, settings[name], trace=True)
    assert all(torch.equal(a, b) for a, b in zip(flat(plain), flat(labels), strict=True))
    assert trace.steps
    assert all(isinstance(step, torch.Tensor) for step in trace.steps.values())


@pytest.mark.parametrize("name", METHODS)
def test_loss_is_finite_and_reaches_the_heads(name, settings, batch):
    model = made(name, settings).train()
    terms = method(name).loss(model, *taught(name, batch, settings[name]), settings[name])
    assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
    terms["total"].backward()
    graded = [p for p in model.parameters() if p.grad is not None]
    learner = getattr(model, "network", model)  # beside it EXITS has its final segmenter
    learns = sum(p.numel() for p in learner.parameters() if p.requires_grad)
    assert sum(p.numel() for p in graded) > 0.5 * learns
    assert all(p.grad.isfinite().all() for p in graded)
    assert sum(p.grad.ne(0).any().item() for p in graded) > 0.9 * len(graded)


@pytest.mark.parametrize("name", METHODS)
def test_loss_is_deterministic(name, settings, batch):
    def totals():
        model = made(name, settings).train()
        torch.manual_seed(1)
        return method(name).loss(model, *taught(name, batch, settings[name]), settings[name])["total"]

    assert torch.equal(totals(), totals())


@pytest.mark.parametrize("name", METHODS)
def test_predict_needs_images_alone(name, settings, batch):
    model = made(name, settings).eval()
    first, second = (method(name).predict(model, batch.images, settings[name]) for _ in range(2))
    assert isinstance(first, RESULTS)
    assert not any(t.requires_grad for t in flat(first))
    assert all(torch.equal(a, b) for a, b in zip(flat(first), flat(second), strict=True))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("preset", ["FULL", "TINY"])
def test_stages_name_settings_and_stages_that_exist(name, preset):
    cfg = getattr(method(name), preset)
    stages = method(name).stages(cfg)
    assert all(isinstance(stage, Stage) for stage in stages)
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names)
    for i, stage in enumerate(stages):
        assert set(stage.needs) <= set(names[:i])
        assert set(stage.settings) <= set(vars(cfg))
