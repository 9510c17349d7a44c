"""Tensors in fewer bits: the block types of GGUF, and layers that keep their weights packed."""
