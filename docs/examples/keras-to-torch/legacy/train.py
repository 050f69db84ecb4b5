"""python -m legacy.train: trains the classifier and writes models/digits.keras."""

from __future__ import annotations

from pathlib import Path

import keras

from data import digits
from legacy.model import build


def main() -> None:
    keras.utils.set_random_seed(0)
    model = build()
    model.compile(
        optimizer=keras.optimizers.Adam(5e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(*digits(2000, seed=1), batch_size=64, epochs=15, verbose=0)
    _, accuracy = model.evaluate(*digits(500, seed=2), verbose=0)
    print(f"accuracy {accuracy:.3f}")
    Path("models").mkdir(exist_ok=True)
    model.save("models/digits.keras")


if __name__ == "__main__":
    main()
