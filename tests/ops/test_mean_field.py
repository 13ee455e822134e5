"""Refinement by colour: mean field in logit form against the formula, in known cases, and that nothing leaks."""

import ast
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import softmax

from benchmarks.exits_crf import class_scores, plain_mean_field, plain_refinement, scene
from benchmarks.measure import Size
from wsis.ops import mean_field as crf
from wsis.ops.mean_field import mean_field
from wsis.ops.pamr import pixel_adaptive_refinement

SETTINGS = {"zeta": 0.1, "iterations": 100}
smooth = partial(mean_field, **SETTINGS)
CPU = torch.device("cpu")


def noisy(noise=0.1, batch=2, dtype=torch.float64):
    return scene(Size(pixels=40, batch=batch, instances=1), CPU, noise, dtype)


def flat(dtype=torch.float64):
    """One colour and probabilities without any order: the worst case for products of small numbers."""
    generator = torch.Generator().manual_seed(3)
    probability = 0.15 + 0.8 * torch.rand(2, 40, 40, generator=generator, dtype=dtype)
    box = torch.zeros(2, 40, 40, dtype=torch.bool)
    box[:, 3:30, 5:38] = True
    return torch.zeros(2, 3, 40, 40, dtype=dtype), probability, box


def oblong(height=7, width=13):
    """Noise of a size that is not square, where a shift by one row is not one by one column."""
    generator = torch.Generator().manual_seed(4)
    image = 0.1 * torch.randn(3, 3, height, width, generator=generator, dtype=torch.float64)
    probability = torch.rand(3, height, width, generator=generator, dtype=torch.float64)
    return image, probability, torch.ones(3, height, width, dtype=torch.bool)


SCENES = {"clean": noisy(0.0), "noisy": noisy(0.05), "noise": noisy(0.3), "flat": flat(), "oblong": oblong()}


# Pixel-adaptive refinement


def test_refinement_is_its_formula():
    inputs = class_scores(Size(pixels=40, batch=2, instances=1), torch.device("cpu"))
    torch.testing.assert_close(pixel_adaptive_refinement(*inputs), plain_refinement(*inputs), atol=1e-5, rtol=1e-5)


def test_refinement_keeps_distributions():
    generator = torch.Generator().manual_seed(0)
    p = softmax(torch.randn(2, 4, 12, 17, generator=generator), 1)
    refined = pixel_adaptive_refinement(p, torch.rand(2, 3, 12, 17, generator=generator))
    torch.testing.assert_close(refined.sum(1), torch.ones(2, 12, 17))


def test_refinement_does_not_cross_a_strong_edge():
    images = torch.zeros(1, 3, 16, 16)
    images[..., 8:] = 1
    p = torch.zeros(1, 2, 16, 16)
    p[:, 0, :, :8] = p[:, 1, :, 8:] = 1
    assert torch.equal(pixel_adaptive_refinement(p, images).argmax(1), p.argmax(1))


# Mean field in known cases


def box_and_mostly_object(size):
    """A box with a margin of an eighth, and probabilities of .8 with a fifth of .4."""
    generator = torch.Generator().manual_seed(0)
    box = torch.zeros(1, size, size, dtype=torch.bool)
    box[:, size // 8 : -size // 8, size // 8 : -size // 8] = True
    return box, torch.where(torch.rand(1, size, size, generator=generator) < 0.8, 0.8, 0.4)


def test_one_colour_fills_its_box():
    box, probability = box_and_mostly_object(32)
    assert torch.equal(smooth(box[:, None].float().expand(1, 3, 32, 32), probability, box), box)


def test_one_colour_beyond_the_box_rounds_its_corners():
    box, probability = box_and_mostly_object(64)
    actual = smooth(torch.zeros(1, 3, 64, 64), probability, box)
    assert not (actual & ~box).any()
    assert actual[:, 16:48, 16:48].all()
    assert 0.85 < actual.sum() / box.sum() < 1


def test_two_colours_are_labelled_as_wholes_with_an_exact_edge():
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    disc = (y - 15.5) ** 2 + (x - 15.5) ** 2 < 81
    image = torch.where(disc, 1.0, -1.0).expand(1, 3, 32, 32)
    noise = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(1)) - 0.5
    probability = (0.35 + 0.3 * disc + 0.7 * noise).clamp(0, 1)
    assert ((probability > 0.5) != disc).float().mean() > 0.15
    actual = smooth(image, probability, torch.ones(1, 32, 32, dtype=torch.bool))
    assert torch.equal(actual[0], disc)


def test_nothing_outside_the_box():
    image, _, box = noisy()
    assert not (smooth(image, torch.ones_like(image[:, 0]), box) & ~box).any()


def test_no_iteration_thresholds_the_start():
    image, probability, box = noisy()
    assert torch.equal(smooth(image, probability, box, iterations=0), (probability > 0.5) & box)


# The logit form


@pytest.mark.parametrize("name", SCENES)
def test_scenes_have_both_labels(name):
    assert 0 < smooth(*SCENES[name]).float().mean() < 1


@pytest.mark.parametrize("iterations", [2, 100])
@pytest.mark.parametrize("name", SCENES)
def test_equals_the_products(name, iterations):
    settings = SETTINGS | {"iterations": iterations}
    actual, expected = (f(*SCENES[name], **settings) for f in (mean_field, plain_mean_field))
    assert torch.equal(actual, expected)


def test_equals_the_products_in_single_precision():
    inputs = noisy(0.05, batch=4, dtype=torch.float32)
    assert torch.equal(smooth(*inputs), plain_mean_field(*inputs, **SETTINGS))


def test_a_box_with_soft_edges_multiplies():
    image, probability, box = SCENES["noisy"]
    soft = nn.functional.avg_pool2d(box.double(), 5, 1, 2)
    actual = smooth(image, probability, soft)
    assert torch.equal(actual, plain_mean_field(image, probability, soft, **SETTINGS))
    assert not torch.equal(actual, smooth(image, probability, soft > 0))


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (2, 2), (1, 1)])
def test_images_smaller_than_the_window(size):
    inputs = oblong(*size)
    assert torch.equal(smooth(*inputs), plain_mean_field(*inputs, **SETTINGS))


def test_images_of_a_batch_do_not_touch():
    together = smooth(*SCENES["oblong"])
    alone = [smooth(*(x[i : i + 1] for x in SCENES["oblong"])) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_epsilon_favours_the_background(monkeypatch):
    with_it = smooth(*flat())
    monkeypatch.setattr(crf, "EPSILON", 1e-300)
    without = smooth(*flat())
    assert (with_it <= without).all() and with_it.sum() < without.sum()


# Early stop, precision, errors


@pytest.mark.parametrize(("stop_every", "most"), [(1000, 100), (10, 20), (1, 15)])
def test_the_early_stop_ends_a_clean_scene_with_the_same_result(monkeypatch, stop_every, most):
    inputs = [x.float() for x in SCENES["clean"]]
    expected, steps, step = plain_mean_field(*inputs, **SETTINGS), [], crf._step
    monkeypatch.setattr(crf, "_step", lambda *args: steps.append(1) or step(*args))
    monkeypatch.setattr(crf, "STOP_EVERY", stop_every)
    assert torch.equal(smooth(*inputs), expected)
    assert len(steps) <= most
    assert (len(steps) == 100) == (stop_every == 1000)


def test_autocast_does_not_lower_the_precision():
    inputs = noisy(0.05, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = smooth(*inputs)
    assert torch.equal(actual, smooth(*inputs))


def test_half_precision_is_raised():
    image, probability, box = noisy(0.05, dtype=torch.float32)
    rounded = probability.bfloat16()
    assert torch.equal(smooth(image, rounded, box), smooth(image, rounded.float(), box))


# The release

RELEASE = os.environ.get("WSIS_MAL")


@pytest.mark.skipif(not RELEASE, reason="set WSIS_MAL to a folder of MAL's release to compare with it")
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
def test_equals_the_release(noise):
    tree = ast.parse((Path(RELEASE) / "models" / "mal.py").read_text())
    tree.body = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "MeanField"]
    names = {"torch": torch, "nn": nn}
    exec(compile(tree, "mal.py", "exec"), names)
    theirs = names["MeanField"](
        SimpleNamespace(
            crf_kernel_size=3, crf_zeta=0.1, crf_num_iter=100, crf_value_high_thres=0.9, crf_value_low_thres=0.1
        )
    )
    image, probability, box = noisy(noise, batch=4, dtype=torch.float32)
    expected = theirs(image, probability, box.float()) > 0
    assert torch.equal(smooth(image, probability, box), expected)
