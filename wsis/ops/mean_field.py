"""Mean field on colors: masks that follow the edges of the image (MAL, CVPR 2023; official code)."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from wsis.ops.random_walk import near_sums, neighbors

Maps = Float[Tensor, "B H W"]
Masks = Bool[Tensor, "B H W"]
EPSILON = 1e-6  # favors the background where both products are tiny (official code)
LOW, HIGH = 0.1, 0.9  # of the clip (official code)
RADIUS = 1.5  # pixels: a window of 3 x 3
STOP_EVERY = 10  # iterations


@torch.no_grad()
def mean_field(
    image: Float[Tensor, "B 3 H W"], probability: Maps, box: Maps | Masks, zeta: float, iterations: int
) -> Masks:
    r"""Whether each pixel of a box belongs to its object. Computes in float32, or in float64 where `probability` is.

    An iteration multiplies, for l = 0 background, 1 object, the probabilities in the 3 x 3 window around i,
    :math:`a_l(i) = \prod_j p_l(j)^{k_{ij}}` with :math:`k_{ij} = \exp(-|I_i - I_j|^2 / 2 \zeta^2)` (j = i included), and
    sets :math:`p_1 = \mathrm{clip}(b\, a_1 / (\epsilon + a_0 + b\, a_1))`. There is no unary term but the start, clip(b p):
    this is a smoothing gated by color.

    image: in the units of zeta (the release: [0, 1] divided by ImageNet's standard deviations). probability: of the object.
    box: b, in [0, 1]. On a CPU the loop looks now and then whether the last iteration changed nothing, and then ends with the
    same result; a GPU would have to wait for it.
    """
    dtype = torch.promote_types(probability.dtype, torch.float32)
    image, inside = image.to(dtype), box.to(dtype)
    distances = [(image - near).square().sum(1) for near in neighbors(image, RADIUS)]
    kernel = (torch.stack(distances, 1) / (-2 * zeta**2)).exp()
    p = (probability.to(dtype) * inside).clamp(LOW, HIGH)
    state, gate = torch.stack((p.logit(), (1 - p).log()), 1), inside.log()
    clip = math.log(LOW / (1 - LOW)), math.log(HIGH / (1 - HIGH))
    for i in range(1, iterations + 1):
        previous, state = state, _step(state, kernel, gate, clip)
        if image.device.type == "cpu" and i % STOP_EVERY == 0 and torch.equal(previous, state):
            break
    return state[:, 0] > 0


def _step(state: Tensor, kernel: Tensor, gate: Tensor, clip: tuple[float, float]) -> Tensor:
    r"""One iteration in logit form, without the products. state: [B, 2, H, W], gate: log b.

    With :math:`x = \log p_1 / p_0` and :math:`y = \log p_0`, whose sums over the window are
    X and :math:`Y = \log a_0`: :math:`x' = X + \log b + \log\sigma(Y - \log \epsilon)` and
    :math:`y = \log\sigma(-x)`.
    """
    sums = near_sums(kernel, RADIUS, state)
    enough = logsigmoid(sums[:, 1].sub_(math.log(EPSILON)))
    logit = sums[:, 0].add_(gate).add_(enough).clamp_(*clip)
    return torch.stack((logit, logsigmoid(-logit)), 1)
