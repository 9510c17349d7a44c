"""The floor everything stands on; nothing here imports torch."""
