"""python -m ported.train: goes on where Keras stopped, and writes models/digits.pt."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from data import digits
from ported.model import Digits, trained


def batches(count: int, seed: int, size: int = 64):
    images, labels = digits(count, seed)
    for start in range(0, count, size):
        image = torch.from_numpy(images[start : start + size]).permute(0, 3, 1, 2)
        yield image, torch.from_numpy(labels[start : start + size])


def accuracy(model: Digits) -> float:
    model.eval()
    with torch.inference_mode():
        right = [(model(image).argmax(1) == label).float() for image, label in batches(500, seed=2)]
    return torch.cat(right).mean().item()


def main() -> None:
    torch.manual_seed(0)
    model = trained()
    print(f"accuracy before {accuracy(model):.3f}")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(2):
        model.train()
        for image, label in batches(2000, seed=10 + epoch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(image), label).backward()
            optimizer.step()
    print(f"accuracy after {accuracy(model):.3f}")
    Path("models").mkdir(exist_ok=True)
    torch.save(model.state_dict(), "models/digits.pt")


if __name__ == "__main__":
    main()
