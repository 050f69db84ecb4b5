"""The code base as it will be: PyTorch."""
