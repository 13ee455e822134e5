"""The tiny networks' own "ImageNet": scenes of the embedded world."""
