"""Mean field on colors: masks that follow the edges of the image (MAL, CVPR 2023; official code)."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

Maps = Float[Tensor, "B H W"]
Masks = Bool[Tensor, "B H W"]
Pairs = list[tuple[int, Tensor]]
EPSILON = 1e-6  # favors the background where both products are tiny (official code)
LOW, HIGH = 0.1, 0.9  # of the clip (official code)
LATER = ((0, 1), (1, -1), (1, 0), (1, 1))  # (down, right): the later half of a window of 3 x 3 pixels
STOP_EVERY = 10  # iterations


@torch.no_grad()
def mean_field(
    image: Float[Tensor, "B 3 H W"], probability: Maps, box: Maps | Masks, zeta: float, iterations: int
) -> Masks:
    """Whether each pixel of a box belongs to its object. Computes in float32, or in float64 where `probability` is.

    An iteration multiplies, for l = 0 background, 1 object, the probabilities in the 3 x 3 window around i, itself included:
    a_l(i) = prod_j p_l(j)^k_ij with k_ij = exp(-|I_i - I_j|^2 / (2 zeta^2)), and sets p_1 = clip(b a_1 / (eps + a_0 + b a_1)).
    There is no unary term but the start, clip(b p): this is a smoothing gated by color.

    image: in the units of zeta (the release: [0, 1] divided by ImageNet's standard deviations). probability: of the object.
    box: b, in [0, 1]. On a CPU the loop looks now and then whether the last iteration changed nothing, and then ends with the
    same result; a GPU would have to wait for it.
    """
    dtype = torch.promote_types(probability.dtype, torch.float32)
    pairs, inside = _pairwise_kernel(image.to(dtype), zeta), box.to(dtype).flatten()
    p = (probability.to(dtype).flatten() * inside).clamp(LOW, HIGH)
    state, gate = torch.stack((p.logit(), (1 - p).log())), inside.log()
    clip = math.log(LOW / (1 - LOW)), math.log(HIGH / (1 - HIGH))
    for i in range(1, iterations + 1):
        previous, state = state, _step(state, pairs, gate, clip)
        if image.device.type == "cpu" and i % STOP_EVERY == 0 and torch.equal(previous, state):
            break
    return (state[0] > 0).view(box.shape)


def _step(state: Tensor, pairs: Pairs, gate: Tensor, clip: tuple[float, float]) -> Tensor:
    """One iteration in logit form, without the products. state: [2, N], gate: log b [N].

    With x = log(p_1 / p_0) and y = log p_0, whose weighted sums over the window are X and
    Y = log a_0: x' = X + log b + logsigmoid(Y - log eps) and y' = logsigmoid(-x').
    """
    sums = state.clone()  # over the window, where k of a pixel with itself is 1
    for shift, weights in pairs:
        sums[..., :-shift].addcmul_(weights, state[..., shift:])
        sums[..., shift:].addcmul_(weights, state[..., :-shift])
    enough = logsigmoid(sums[1].sub_(math.log(EPSILON)))
    logit = sums[0].add_(gate).add_(enough).clamp_(*clip)
    return torch.stack((logit, logsigmoid(-logit)))


def _pairwise_kernel(image: Tensor, zeta: float) -> Pairs:
    """k of each pixel with the later half of its window, as (shift, weights [N - shift]); weights are 0 outside the image.

    All B H W = N pixels stand in one row, where a neighbor is a shift away.
    """
    batch, _, height, width = image.shape
    pairs = []
    for dy, dx in LATER:
        if dy < height and abs(dx) < width:
            here, there = slice(max(0, -dx), width - max(0, dx)), slice(max(0, dx), width - max(0, -dx))
            difference = image[:, :, : height - dy, here] - image[:, :, dy:, there]
            weights = image.new_zeros(batch, height, width)
            weights[:, : height - dy, here] = (difference.square().sum(1) / (-2 * zeta**2)).exp()
            shift = dy * width + dx
            pairs.append((shift, weights.flatten()[:-shift]))
    return pairs
