"""Segmentation from cheap labels: image tags, points, extreme points and base-class masks.

Four published methods (BESTIE, EXITS, AttentionShift, SimFormer) on one spine, each explained and measured in the
book that comes with this package.
"""

__version__ = "0.1.0"
