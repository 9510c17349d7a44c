"""Vocabularies that other programs made, opened without changing an id."""
