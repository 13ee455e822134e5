"""Data with weak labels: opened where they are annotated, simulated from masks where they are not."""

from wsis.weak.simulate import (
    extreme_points_from_masks,
    points_from_masks,
    simulate_file,
    with_base_masks,
    with_extreme_points,
    with_points,
)
from wsis.weak.sources import WORLDS, clicked, open_data

__all__ = ["WORLDS", "clicked", "extreme_points_from_masks", "open_data", "points_from_masks", "simulate_file"]
__all__ += ["with_base_masks", "with_extreme_points", "with_points"]
