"""What several tests share: small models, runs and files, doubles, and programs that are run as processes.

Tests and the processes that they start import it as ``support``: ``tests`` is on the path of pytest
(``pyproject.toml``) and of those processes (``tests/conftest.py``).
"""
