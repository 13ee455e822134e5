"""Hot operations against plain reference formulas: equal output first, then time and peak memory."""
