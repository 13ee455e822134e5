"""Figures for the book: drawn for a static page first, opaque, legible, with the same colors everywhere.

This is the only room that imports matplotlib; IPython, ipywidgets, anywidget and plotly are imported when a page asks for
them.
"""

from wsis.core.table import table
from wsis.viz.annotator import Annotator, annotate
from wsis.viz.canvas import record
from wsis.viz.charts import (
    draw_confusion,
    draw_overlap,
    draw_precision_recall,
    read_log,
    room_and_noise,
    training_curves,
)
from wsis.viz.maps import draw_heat, draw_labelled, draw_magnitude, draw_offsets, draw_tokens, offset_to_color
from wsis.viz.overlay import draw_boxes, draw_extreme_points, draw_instances, draw_points, draw_semantic, zoom
from wsis.viz.plots import curves_picture, curves_plot, interactive, magnitude_surface, score_plot
from wsis.viz.scrub import scrub
from wsis.viz.style import RC, class_colors, draw_map, instance_colors, show
from wsis.viz.widgets import Clicks, explore, live

__all__ = ["Annotator", "Clicks", "RC", "annotate", "class_colors", "curves_picture"]
__all__ += ["curves_plot", "draw_boxes", "draw_confusion", "draw_extreme_points", "draw_heat"]
__all__ += ["draw_instances", "draw_labelled", "draw_magnitude", "draw_map", "draw_offsets", "draw_overlap"]
__all__ += ["draw_points", "draw_precision_recall", "draw_semantic", "draw_tokens", "explore"]
__all__ += ["instance_colors", "interactive", "live", "magnitude_surface", "offset_to_color"]
__all__ += ["read_log", "record", "room_and_noise", "score_plot", "scrub", "show", "table"]
__all__ += ["training_curves", "zoom"]
