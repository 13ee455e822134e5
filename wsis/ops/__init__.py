"""Tensors in, tensors out: the operations that methods share."""
