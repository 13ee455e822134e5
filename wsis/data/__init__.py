"""Data sets: the embedded world, COCO-format folders, and the transforms that move an image with its labels."""
