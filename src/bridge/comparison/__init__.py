"""TensorFlow or PyTorch for this model on this machine? One model in both frameworks, compared."""
