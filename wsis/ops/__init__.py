"""Tensors in, tensors out: the operations that methods share. The shapes in their signatures are checked in tests."""
