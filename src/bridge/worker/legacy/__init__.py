"""Loaders for the environments of old frameworks: Python 3.7 syntax, the framework, and numpy.

docs/environments.md says which versions they load. They import nothing of bridge but what runs there too
(tests/worker/test_old_syntax.py).
"""
