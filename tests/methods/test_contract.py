"""What every method has to offer: the verbs of `wsis.training.stages.Method`, on a few scenes of the world."""

import dataclasses
import importlib
import inspect
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import wsis.methods
from wsis.core.masks import RunLengths
from wsis.core.types import Instances, Trace
from wsis.data.transforms import collate
from wsis.data.wrappers import Cached, Mapped, Shrunk
from wsis.methods import METHODS, method
from wsis.training.loop import order
from wsis.training.stages import Method, Stage
from wsis.weak.simulate import with_extreme_points

VERBS = [name for name, value in vars(Method).items() if inspect.isfunction(value) and not name.startswith("_")]
FILES = ("config", "model", "labels", "objective", "verbs", "stages", "__init__")
SHARED_SETTINGS = ("supervision", "backbone", "weights", "classes", "size", "loss", "network")

every_method = pytest.mark.parametrize("m", [method(name) for name in METHODS], ids=METHODS)
every_preset = pytest.mark.parametrize("preset", ["FULL", "SMALL", "TINY"])


@pytest.fixture(scope="module")
def annotated(world):
    """Scenes with every annotation that a method may ask for."""
    return Mapped(world, with_all_labels)


def with_all_labels(sample):
    return with_extreme_points(replace(sample, semantic_map=sample.true_semantic))


def settings(m, dataset):
    """The tiny preset on random weights."""
    return m.TINY.for_classes(dataset.classes).for_dry_run()


def built(m, cfg):
    torch.manual_seed(0)
    return m.build(cfg)


def lesson(m, model, dataset, cfg):
    """One batch of the method's training data, and its targets."""
    data = m.training_data(dataset, cfg)
    (groups,) = order(data, 4, 0, 0, 1)
    batch = collate([data[key] for group in groups for key in group])
    return batch, m.targets(model, batch, cfg)


def flat(result):
    """All tensors of a result."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, RunLengths):
        return [result.decode()]
    parts = result if isinstance(result, (list, tuple)) else vars(result).values()
    return [tensor for part in parts for tensor in flat(part)]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(flat(first), flat(second), strict=True))


def is_result(result, images):
    """Class maps of a batch, or one `Instances` for each of its images."""
    if isinstance(result, torch.Tensor):
        return result.dtype == torch.long and len(result) == images
    return len(result) == images and all(isinstance(one, Instances) for one in result)


@every_method
def test_the_files_are_those_of_every_method(m):
    assert {path.stem for path in Path(m.__file__).parent.glob("*.py")} >= set(FILES)


@every_method
def test_a_file_imports_only_what_stands_before_it(m):
    prefix = f"{m.__name__}."
    for position, name in enumerate(FILES[:-1]):
        source = inspect.getsource(importlib.import_module(prefix + name))
        later = [other for other in FILES[position:-1] if f"from {prefix}{other} import" in source]
        assert later == [], f"{name} imports {later}"


@every_method
@pytest.mark.parametrize("verb", VERBS)
def test_verbs_have_the_protocols_parameters(m, verb):
    wanted = list(inspect.signature(getattr(Method, verb)).parameters)[1:]
    assert list(inspect.signature(getattr(m, verb)).parameters) == wanted


@every_method
def test_presets_share_a_type_and_the_names_of_what_they_have_in_common(m):
    assert type(m.FULL) is type(m.TINY)
    names = {field.name for field in dataclasses.fields(m.FULL)}
    assert set(SHARED_SETTINGS) - names <= {"backbone", "weights"}  # EXITS has two transformers, each with its own
    assert m.TINY.image_side > 0 and m.TINY.for_classes(tuple("abcdefgh")).classes == 8


@every_method
def test_training_data_can_be_sent_to_a_spawned_worker(m, annotated):
    cfg = settings(m, annotated)
    data = m.training_data(Shrunk(Cached(annotated), 640), cfg)
    (groups,) = order(data, 4, 0, 0, 1)
    first, second = groups[0][0], groups[-1][-1]
    sent = pickle.loads(pickle.dumps(data))
    assert all(torch.equal(sent[key].image, data[key].image) for key in (first, second))


@every_method
def test_build_is_deterministic(m, annotated):
    cfg = settings(m, annotated)
    first, second = built(m, cfg), built(m, cfg)
    assert isinstance(first, nn.Module)
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())


@every_method
@pytest.mark.parametrize("trained", [False, True])
def test_labels_are_of_one_type_and_deterministic(m, annotated, trained):
    cfg = settings(m, annotated)
    model = built(m, cfg).eval() if trained else None
    batch = collate([annotated[0], annotated[1]])
    first, second = (m.pseudo_labels(model, batch, cfg) for _ in range(2))
    assert is_result(first, 2) and equal(first, second)
    assert not any(tensor.requires_grad for tensor in flat(first))


@every_method
@pytest.mark.parametrize("trained", [False, True])
def test_explain_gives_named_tensors(m, annotated, trained):
    cfg = settings(m, annotated)
    trace = m.explain(built(m, cfg).eval() if trained else None, collate([annotated[0]]), cfg)
    assert isinstance(trace, Trace) and trace.steps
    assert all(isinstance(step, torch.Tensor) for step in trace.steps.values())


@every_method
def test_loss_is_finite_and_reaches_the_heads(m, annotated):
    cfg = settings(m, annotated)
    model = built(m, cfg).train()
    batch, targets = lesson(m, model, annotated, cfg)
    assert targets is not None
    terms = m.loss(model, batch, targets, cfg)
    assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
    terms["total"].backward()
    learner = getattr(model, "network", model)  # beside it EXITS has its extractor and its final segmenter
    graded = [p for p in learner.parameters() if p.grad is not None]
    assert sum(p.numel() for p in graded) > 0.5 * sum(p.numel() for p in learner.parameters() if p.requires_grad)
    assert all(p.grad.isfinite().all() for p in graded)
    assert sum(p.grad.ne(0).any().item() for p in graded) > 0.9 * len(graded)


@every_method
def test_loss_is_deterministic(m, annotated):
    cfg = settings(m, annotated)

    def total():
        model = built(m, cfg).train()
        batch, targets = lesson(m, model, annotated, cfg)
        torch.manual_seed(1)
        return m.loss(model, batch, targets, cfg)["total"]

    assert torch.equal(total(), total())


@every_method
def test_predict_needs_images_alone(m, annotated):
    cfg = settings(m, annotated)
    model, images = built(m, cfg).eval(), collate([annotated[0], annotated[1]]).images
    first, second = (m.predict(model, images, cfg) for _ in range(2))
    assert is_result(first, 2) and equal(first, second)
    assert not any(tensor.requires_grad for tensor in flat(first))


@every_method
@every_preset
def test_stages_name_settings_and_stages_that_exist(m, preset):
    cfg = getattr(m, preset)
    stages = m.stages(cfg)
    assert all(isinstance(stage, Stage) for stage in stages)
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names) and {"network", "evaluation"} <= set(names)
    for i, stage in enumerate(stages):
        assert set(stage.needs.split()) <= set(names[:i])
        assert set(stage.settings.split()) <= set(vars(cfg))


def test_there_is_a_package_for_every_method():
    folder = Path(wsis.methods.__file__).parent
    assert {path.parent.name for path in folder.glob("*/verbs.py")} == set(METHODS)
