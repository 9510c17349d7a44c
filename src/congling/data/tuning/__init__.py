"""Rows of conversations, preferences and questions, on their way to batches."""
