"""Answers that the model writes itself, their rewards and advantages."""
