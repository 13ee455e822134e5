"""Focal and dice losses and the cross entropy of hard pixels, by hand."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from torchvision.ops import sigmoid_focal_loss

from wsis.core.types import IGNORE
from wsis.ops.losses import dice, focal, hard_cross_entropy, squared_dice

P, T = torch.tensor([[0.5, 1.0], [0, 0]]), torch.tensor([[1.0, 1], [1, 0]])


def test_focal_loss_and_its_gradient_are_those_of_torch():
    generator = torch.Generator().manual_seed(0)
    target = (torch.rand(3, 40, generator=generator) < 0.3).double()
    logits = (9 * torch.randn(3, 40, generator=generator, dtype=torch.double)).requires_grad_()
    weights = torch.tensor([1.0, 2.0, 3.0])
    ours, theirs = focal(logits, target), sigmoid_focal_loss(logits, target, 0.25, 2).mean(1)
    torch.testing.assert_close(ours, theirs)
    gradients = (torch.autograd.grad((weights * each).sum(), logits)[0] for each in (ours, theirs))
    torch.testing.assert_close(*gradients)


def test_dice_by_hand():
    assert dice(P, T).tolist() == pytest.approx([1 - 4 / 4.5, 1 - 1 / 2])
    assert squared_dice(P, T).tolist() == pytest.approx([1 - 3 / (3.25 + 0.002), 1])


def test_dice_of_equal_masks_is_zero_up_to_the_constants():
    mask = (torch.arange(64) < 40).float().view(1, 8, 8)
    assert dice(mask.flatten(1), mask.flatten(1)).item() == 0
    assert squared_dice(mask, mask).item() == pytest.approx(1 - 80 / 80.002, abs=1e-7)


def test_squared_dice_does_not_overflow_in_half_precision():
    mask = torch.ones(1, 512, 512, dtype=torch.float16)  # the sum of squares is beyond 65,504
    assert squared_dice(mask, mask).item() == pytest.approx(0, abs=1e-6)


@pytest.fixture
def semantic():
    """Logits and a target of 120 pixels, 38 of them ignored."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (1, 10, 12), generator=generator)
    target.view(-1)[:38] = IGNORE
    return torch.randn(1, 3, 10, 12, generator=generator), target


def test_the_whole_fraction_is_the_plain_mean(semantic):
    torch.testing.assert_close(hard_cross_entropy(*semantic, 1.0), cross_entropy(*semantic, ignore_index=IGNORE))


@pytest.mark.parametrize(("official", "pixels"), [(False, 120 - 38), (True, 120)])
@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9])
def test_mean_of_the_hardest(semantic, fraction, official, pixels):
    """The release takes its share of all pixels; where that is more than there are labels, zeros join."""
    losses = cross_entropy(*semantic, ignore_index=IGNORE, reduction="none").flatten()
    expected = losses.sort(descending=True).values[: int(fraction * pixels)].mean()
    torch.testing.assert_close(hard_cross_entropy(*semantic, fraction, official), expected)


def test_the_mean_is_over_the_pixels_that_count():
    for pixels in (1, 3, 7, 9):
        logits, target = torch.zeros(1, 3, 1, pixels), torch.zeros(1, 1, pixels, dtype=torch.long)
        assert hard_cross_entropy(logits, target, 0.2).item() == pytest.approx(torch.tensor(3.0).log().item())


@pytest.mark.parametrize("fraction", [0.2, 1.0])
def test_without_a_label_loss_and_gradient_are_zero(fraction):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = hard_cross_entropy(logits, torch.full((1, 4, 4), IGNORE), fraction)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()
