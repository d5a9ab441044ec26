"""Fuzzing of the Python side: ``python -m fuzz surface CORPUS``; see ``__main__.py``."""
