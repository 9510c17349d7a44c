"""A run in its directory: begun, saved, stopped and resumed."""
