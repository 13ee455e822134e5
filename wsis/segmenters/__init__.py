"""Fully supervised segmenters: the last stage, trained on the masks that a method made."""
