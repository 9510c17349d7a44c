"""Conversations as ids, by chat templates that run in a sandbox."""
