"""The model: parts chosen by a configuration, assembled in ``transformer.py`` (read that file first)."""
