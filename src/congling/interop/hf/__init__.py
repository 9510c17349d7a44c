"""Hugging Face folders: ``model.read`` and ``model.write``, the rest is what these two are made of."""
