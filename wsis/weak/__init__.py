"""Data with weak labels: opened where they are annotated, simulated from masks where they are not."""

from wsis.weak.files import simulate, simulate_file
from wsis.weak.simulate import (
    PointKind,
    extreme_points_from_masks,
    points_from_masks,
    with_base_masks,
    with_extreme_points,
    with_points,
)
from wsis.weak.sources import WORLDS, Data, clicked, open_data

__all__ = ["WORLDS", "Data", "PointKind", "clicked", "extreme_points_from_masks", "open_data"]
__all__ += ["points_from_masks", "simulate", "simulate_file", "with_base_masks", "with_extreme_points", "with_points"]
