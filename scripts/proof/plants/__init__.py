"""Models with one known fault in them: what the verdict has to find, and to name."""
