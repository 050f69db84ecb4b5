"""PyTorch to the hub: reading modules, programs, archives and checkpoints through torch.export."""
