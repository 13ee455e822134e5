"""Tensors in, tensors out: the operations that methods share. The shapes in their signatures are checked in tests."""

from wsis.ops import components, enlarge, grouping, losses, matching, mean_field, pamr, patches, random_walk, rollout

__all__ = ["components", "enlarge", "grouping", "losses", "matching", "mean_field", "pamr", "patches"]
__all__ += ["random_walk", "rollout"]
