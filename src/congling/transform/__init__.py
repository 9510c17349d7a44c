"""A model made into another one: adapters attached, mixed and merged."""
