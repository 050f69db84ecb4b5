"""The code base as it was: Keras."""
