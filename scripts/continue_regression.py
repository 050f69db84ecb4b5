"""Train the regression on in the other framework, and hold its losses against those of the source's own.

Both directions, in float64 and in float32: the fixture is converted, then source and result each take 1000
more steps of gradient descent on the same data in processes of their own. Prints the largest difference
of the losses at any step; exit 1 if one is over its bar (float64: 1e-9 relative; float32: 1e-5 of the
first loss).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bridge.emit.imported import load_emitted
from fixtures import build

STEPS = 1000
RATE = 0.01
X = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
Y = [[2.0], [4.0], [6.0]]
BARS = {"float64": 1e-9, "float32": 1e-5}


def train_torch(model: Any, dtype: str) -> list[float]:
    import torch

    model = model.to(getattr(torch, dtype))
    x, y = (torch.tensor(each, dtype=getattr(torch, dtype)) for each in (X, Y))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    losses = []
    for _ in range(STEPS):
        loss = torch.nn.functional.mse_loss(model(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def train_keras(directory: Path, dtype: str) -> list[float]:
    import keras
    import tensorflow as tf

    keras.config.set_floatx(dtype)
    model = load_emitted(directory)
    x, y = tf.constant(X, dtype), tf.constant(Y, dtype)
    optimizer = keras.optimizers.SGD(RATE)

    @tf.function
    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return [float(step()) for _ in range(STEPS)]


def train_tf1(checkpoint: Path, dtype: str) -> list[float]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(checkpoint))
    tf.compat.v1.disable_eager_execution()
    weights, bias = (
        tf.compat.v1.Variable(reader.get_tensor(name).astype(dtype)) for name in ("weights", "bias")
    )
    loss = tf.reduce_mean(tf.square(tf.matmul(tf.constant(X, dtype), weights) + bias - tf.constant(Y, dtype)))
    # As a Python float the rate would be rounded to float32 first, whatever the variables' dtype.
    optimizer = tf.compat.v1.train.GradientDescentOptimizer(tf.constant(RATE, dtype))
    train = optimizer.minimize(loss)
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        return [float(session.run([loss, train])[0]) for _ in range(STEPS)]


def worker(kind: str, path: Path, dtype: str, out: Path) -> None:
    if kind == "torch_source":
        import torch

        from fixtures import linear_torch

        model = linear_torch.build()
        model.load_state_dict(torch.load(path, weights_only=True))
        losses = train_torch(model, dtype)
    elif kind == "torch_result":
        losses = train_torch(load_emitted(path), dtype)
    elif kind == "tf_source":
        losses = train_tf1(path, dtype)
    else:
        losses = train_keras(path, dtype)
    np.save(out, np.asarray(losses, np.float64))


def losses_of(kind: str, path: Path, dtype: str, scratch: Path) -> np.ndarray[Any, np.dtype[Any]]:
    out = scratch / f"{kind}_{dtype}.npy"
    command = [
        sys.executable,
        "-m",
        "scripts.continue_regression",
        "--worker",
        kind,
        str(path),
        dtype,
        str(out),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return np.asarray(np.load(out))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", nargs=4, metavar=("KIND", "PATH", "DTYPE", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        kind, path, dtype, out = arguments.worker
        worker(kind, Path(path), dtype, Path(out))
        return 0
    torch_source = build.artifacts("linear_torch") / "state_dict.pt"
    tf_source = next((build.artifacts("linear_tf1") / "checkpoint").glob("*.index")).with_suffix("")
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        factory = ("--model", "fixtures.linear_torch:build", "--input", "Nx2")
        for source, to, kinds, options in (
            (torch_source, "tf", ("torch_source", "tf_result"), factory),
            (tf_source, "torch", ("tf_source", "torch_result"), ()),
        ):
            out = scratch / to
            command = [sys.executable, "-m", "bridge", "convert", str(source), "--to", to, "-o", str(out)]
            subprocess.run([*command, "--quiet", *options], check=True)
            for dtype, bar in BARS.items():
                theirs = losses_of(kinds[0], source, dtype, scratch)
                ours = losses_of(kinds[1], out, dtype, scratch)
                scale = theirs if dtype == "float64" else theirs[0]
                distance = float(np.max(np.abs(ours - theirs) / scale))
                worst = max(worst, distance / bar)
                verdict = "ok" if distance <= bar else "OVER"
                print(f"{verdict:4} {source.parent.name} to {to}, {dtype}: {distance:.1e} (bar {bar:.0e})")
    return int(worst > 1)


if __name__ == "__main__":
    sys.exit(main())
