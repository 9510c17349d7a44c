"""congling 从零: from a text file to a small language model, and anywhere."""

__version__ = "0.1.0"
