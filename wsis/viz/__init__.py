"""Figures for the book: drawn for a static page first, opaque, legible, with the same colors everywhere.

This is the only room that imports matplotlib; IPython, ipywidgets, anywidget and plotly are imported when a page asks for
them.
"""

from wsis.core.table import table
from wsis.viz.canvas import Annotator, annotate
from wsis.viz.claims import room_and_noise
from wsis.viz.curves import read_log, training_curves
from wsis.viz.exits import draw_labelled, draw_tokens
from wsis.viz.offsets import draw_heat, draw_magnitude, draw_offsets, offset_to_color
from wsis.viz.overlay import draw_boxes, draw_extreme_points, draw_instances, draw_points, draw_semantic, zoom
from wsis.viz.plots import interactive, magnitude_surface, similarity_plot
from wsis.viz.recording import record
from wsis.viz.scores import draw_confusion, draw_overlap, draw_precision_recall
from wsis.viz.scrub import scrub
from wsis.viz.style import RC, Map, class_colors, instance_colors, show
from wsis.viz.widgets import Clicks, explore, live

__all__ = ["RC", "Annotator", "Clicks", "Map", "annotate", "class_colors", "draw_boxes", "draw_confusion"]
__all__ += ["draw_extreme_points", "draw_heat", "draw_instances", "draw_labelled", "draw_magnitude"]
__all__ += ["draw_offsets", "draw_overlap", "draw_points", "draw_precision_recall", "draw_semantic"]
__all__ += ["draw_tokens", "explore", "instance_colors", "interactive", "live", "magnitude_surface"]
__all__ += ["offset_to_color", "read_log", "record", "room_and_noise", "scrub", "show", "similarity_plot"]
__all__ += ["table", "training_curves", "zoom"]
