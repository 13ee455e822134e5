"""EXITS' networks: shapes and sizes, the decoder by its formula, how the teacher follows, what the extractor reads."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from wsis.core.config import changed
from wsis.methods.exits.config import ExitsConfig
from wsis.methods.exits.model import MaskDecoder, build_extractor, build_teaching
from wsis.training.schedule import Schedule, make_optimizer

FULL = changed(ExitsConfig(), **{"generator.weights": "random", "extractor.weights": "random"})
CFG = changed(
    FULL,
    classes=5,
    **{"generator.backbone": "vit_tiny", "generator.ema": 0.75, "extractor.backbone": "vit_tiny", "extractor.layer": 3},
)


def images(seed=0, batch=2, size=(32, 32)):
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def parameters(module):
    return sum(p.numel() for p in module.parameters())


# The decoder


def test_the_decoder_at_the_published_size():
    """Four convolutions 768 -> 256 -> 256 -> 256 -> 256, two linear layers 768 -> 256 -> 256."""
    decoder = MaskDecoder(768)
    assert decoder(torch.rand(1, 1024, 768), (32, 32)).shape == (1, 128, 128)
    assert parameters(decoder.pixels) == 768 * 256 * 9 + 256 + 3 * (256 * 256 * 9 + 256)
    assert parameters(decoder) == 3_802_624


def test_a_width_that_three_does_not_divide():
    decoder = MaskDecoder(128)
    assert {m.out_channels for m in decoder.pixels if isinstance(m, nn.Conv2d)} == {42}
    assert decoder(torch.rand(2, 16, 128), (4, 4)).shape == (2, 16, 16)


def test_pixels_are_enlarged_between_the_second_and_the_third_convolution():
    decoder, sizes = MaskDecoder(12), []
    for layer in decoder.pixels:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda m, inputs, out: sizes.append((inputs[0].shape[-1], out.shape[-1])))
    decoder(torch.rand(1, 25, 12), (5, 5))
    assert sizes == [(5, 5), (5, 5), (20, 20), (20, 20)]


def test_every_convolution_has_a_relu_and_none_a_norm():
    kinds = [type(m) for m in MaskDecoder(12).pixels]
    assert kinds == [nn.Conv2d, nn.ReLU] * 2 + [nn.Upsample] + [nn.Conv2d, nn.ReLU] * 2


def test_logits_are_products_of_pixels_and_prototype():
    decoder, tokens = MaskDecoder(12), torch.rand(2, 6, 12)
    pixels = decoder.pixels(tokens.transpose(1, 2).reshape(2, 12, 2, 3))
    prototype = decoder.prototype(tokens.mean(1))
    expected = (pixels * prototype[:, :, None, None]).sum(1)
    torch.testing.assert_close(decoder(tokens, (2, 3)), expected)


def test_tokens_lie_in_rows():
    """A change of the token in row 1, column 10 of 8 x 12 stays in that corner of the pixel features."""
    torch.manual_seed(0)
    decoder, tokens = MaskDecoder(12), torch.rand(1, 96, 12)
    other = tokens.clone()
    other[0, 1 * 12 + 10] += 1
    seen = []
    decoder.pixels.register_forward_hook(lambda m, inputs, out: seen.append(out))
    for t in (tokens, other):
        decoder(t, (8, 12))
    rows, columns = (seen[0] != seen[1]).any(1)[0].nonzero().unbind(1)
    assert rows.max() < 4 * (1 + 4) and columns.min() >= 4 * (10 - 4)


def test_logits_are_in_full_precision():
    torch.manual_seed(0)
    decoder = MaskDecoder(96)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = decoder(torch.rand(1, 16, 96), (4, 4))
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


# The generator


@pytest.mark.parametrize(
    ("stem", "count"), [("conv", 93_090_400), ("patch", 85_798_656 + 3_802_624)], ids=["93 M", "patch"]
)
def test_the_generator_at_the_published_size(stem, count):
    """Table a5: 93M, with the convolutional stem of MAL."""
    with torch.device("meta"):
        model = build_teaching(changed(FULL, **{"generator.stem": stem})).student
    assert parameters(model) == count


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_masks_have_the_shape_of_the_crop(stem):
    model = build_teaching(changed(CFG, **{"generator.stem": stem})).student
    assert model(images(size=(32, 48))).shape == (2, 16, 24)


@pytest.mark.parametrize("lowered", [False, True])
def test_every_parameter_is_taught_in_full_precision(lowered):
    model = build_teaching(CFG).student
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lowered):
        logits = model(images())
    logits.square().sum().backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
    assert all(p.grad.isfinite().all() for p in model.parameters())


# The teacher


def teaching(seed=0):
    torch.manual_seed(seed)
    return build_teaching(CFG).train()


def state(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def shift(model, amount):
    """What an optimiser would do: add to every parameter of the student."""
    with torch.no_grad():
        for p in model.student.parameters():
            p += amount


def test_the_teacher_starts_as_a_copy():
    model = teaching()
    assert torch.equal(state(model.teacher), state(model.student))
    shift(model, 1.0)
    assert not (state(model.teacher) == state(model.student)).any()


def test_the_first_call_does_not_change_the_teacher():
    model = teaching()
    before = state(model.teacher)
    model(images(), images())
    assert torch.equal(state(model.teacher), before)


def test_the_teacher_after_k_steps():
    """The student gains 1 per step: 1, .. k at the calls, so the teacher has gained sum of (1 - m) m^(k - i) i."""
    model = teaching()
    before = state(model.teacher)
    k, m = 4, CFG.generator.ema
    for _ in range(k):
        shift(model, 1.0)
        model(images(), images())
    gained = sum((1 - m) * m ** (k - i) * i for i in range(1, k + 1))
    torch.testing.assert_close(state(model.teacher) - before, torch.full_like(before, gained), rtol=0, atol=1e-5)


def test_the_teacher_moves_before_it_is_used():
    model = teaching()
    shift(model, 0.01)
    outputs = model(images(), images())
    torch.testing.assert_close(outputs.teacher, model.teacher(images()))


def test_the_teacher_rests_in_evaluation():
    model = teaching().eval()
    before = state(model.teacher)
    shift(model, 1.0)
    model(images(), images())
    assert torch.equal(state(model.teacher), before)


def test_only_the_student_is_trained():
    model = teaching()
    outputs = model(images(), images().requires_grad_())
    assert outputs.student.requires_grad and not outputs.teacher.requires_grad
    trained = {id(p) for group in make_optimizer(model, Schedule()).param_groups for p in group["params"]}
    assert trained == {id(p) for p in model.student.parameters()}


def test_the_teacher_stays_in_eval_mode():
    model = teaching()
    assert model.student.training
    assert not any(m.training for m in model.teacher.modules())


class Fixed(nn.Module):
    """A network whose logits are always the same."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        return self.logits


def test_logits_are_averaged_and_enlarged_before_they_become_probabilities():
    model = teaching().eval()
    student, teacher = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(3)) * 6
    model.student, model.teacher = Fixed(student), Fixed(teacher)

    def enlarged(logits):
        return interpolate(logits[None], (32, 32), mode="bilinear", align_corners=False)[0].sigmoid()

    crops = images(batch=1)
    torch.testing.assert_close(model.probability(crops, "student", False), enlarged(student))
    torch.testing.assert_close(model.probability(crops, "mean", False), enlarged((student + teacher) / 2))
    torch.testing.assert_close(model.probability(crops, "teacher", True), enlarged((teacher + teacher.flip(2)) / 2))


def test_views_go_to_their_networks():
    model = teaching().eval()
    shift(model, 0.01)
    outputs = model(images(1), images(2))
    torch.testing.assert_close(outputs.student, model.student(images(1)))
    torch.testing.assert_close(outputs.teacher, model.teacher(images(2)))


def test_a_restored_model_goes_on_bit_identically():
    model = teaching()

    def go_on(network, steps):
        optimizer = torch.optim.SGD(network.student.parameters(), lr=0.01)
        for step in steps:
            optimizer.zero_grad()
            network(images(step), images(step)).student.square().mean().backward()
            optimizer.step()
        return torch.cat([state(network.student), state(network.teacher)])

    go_on(model, [0, 1])
    stored = copy.deepcopy(model.state_dict())
    expected = go_on(model, [2, 3])
    other = teaching(seed=1)
    other.load_state_dict(stored)
    assert torch.equal(go_on(other, [2, 3]), expected)


# The extractor


def test_the_extractor_at_the_published_size():
    """Table a5: 86M, without the head."""
    with torch.device("meta"):
        assert parameters(build_extractor(FULL).encoder) == 85_798_656


def test_what_the_warmup_gets():
    assert build_extractor(CFG)(images(size=(32, 48))).shape == (2, 24)


def test_token_logits_lie_in_the_order_of_the_tokens():
    model = build_extractor(CFG).eval()
    tokens = model.encoder(images())
    torch.testing.assert_close(model(images())[0, 7], model.head(tokens[0, 7])[0])


def test_similarity_is_the_attention_at_the_layer_of_the_settings():
    model = build_extractor(CFG)
    found = model.similarity(images())
    assert torch.equal(found, model.encoder.attention(images(), 3))
    assert found.shape == (2, 16, 16) and found.dtype == torch.float32 and not found.requires_grad


def test_layer_0_is_the_mean_of_all():
    model = build_extractor(changed(CFG, **{"extractor.layer": 0}))
    layers = [model.encoder.attention(images(), i) for i in range(1, 13)]
    torch.testing.assert_close(model.similarity(images()), torch.stack(layers).mean(0))
