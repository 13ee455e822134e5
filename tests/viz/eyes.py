"""How three kinds of eyes see colors, and the search for colors that all of them can tell apart.

OKLab (Ottosson 2020); red-blind and green-blind eyes by Machado, Oliveira and Fernandes (2009).
"""

import numpy as np

PROTAN = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
DEUTAN = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def oklab(rgb):
    """sRGB [..., 3] in [0, 1] -> OKLab (lightness, green-red, blue-yellow)."""
    return _lab(_linear(rgb))


def _linear(rgb):
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _lab(linear):
    return np.cbrt(linear @ np.array(TO_CONES).T) @ np.array(TO_LAB).T


def views(rgb):
    """OKLab of colors [N, 3] for normal, red-blind and green-blind eyes: [3, N, 3]."""
    linear = _linear(rgb)
    return np.stack([_lab(k) for k in (linear, *((linear @ np.array(m).T).clip(0, 1) for m in (PROTAN, DEUTAN)))])


def search(first, count):
    """Colors [count, 3]: those given, then always the color that is farthest from all before it."""
    chosen, grid = np.array(first), np.stack(np.meshgrid(*[np.linspace(0, 1, 17)] * 3), -1).reshape(-1, 3)
    lightness, chroma = oklab(grid)[:, 0], np.hypot(*oklab(grid)[:, 1:].T)
    grid = grid[(lightness > 0.42) & (lightness < 0.88) & (chroma > 0.06)]  # no black, white or gray
    seen = views(grid)

    def distance(rgb):
        return np.linalg.norm(seen[:, :, None] - views(rgb)[:, None], axis=-1).min((0, 2))

    nearest = distance(chosen)
    while len(chosen) < count:
        best = grid[nearest.argmax()][None]
        chosen, nearest = np.concatenate([chosen, best]), np.minimum(nearest, distance(best))
    return chosen
