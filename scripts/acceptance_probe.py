"""What a converted directory is worth to somebody who has only the target framework.

A standalone program: `acceptance_probe.py torch|tf DIRECTORY INPUTS.npz` prints one JSON object. It
hides bridge, ONNX and the other framework from the imports of its process, loads model.py and the
framework's own artifact, runs both with each batch in the file, and trains one step.

`acceptance_probe.py names FILE` prints the trained tensors of a source file, as its framework lists them.

`acceptance_probe.py train torch|tf DIRECTORY|FILE DTYPE` continues the linear regression for 1000 steps from
the weights in a converted directory or in a source file (state_dict, checkpoint) and prints the losses.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

STEP = 1.0
"""The learning rate of the one step: large, since it is only to be seen that every tensor moves."""

Array = np.ndarray[Any, np.dtype[Any]]

HIDDEN = {
    "torch": {"tensorflow", "keras", "tf2onnx"},
    "tf": {"torch", "torchvision", "timm"},
}
ALWAYS_HIDDEN = {"bridge", "bridge_converters", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "safetensors"}


class Hide:
    """A finder of modules that does not find some packages, as if they were not installed."""

    def __init__(self, finder: Any, names: set[str]) -> None:
        self._finder = finder
        self._names = names

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        if name.partition(".")[0] in self._names:
            return None
        return self._finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def load_source(directory: Path, dtype: str = "float32") -> Any:
    """The model of model.py; variables that are declared as float32 there get another `dtype`."""
    file = directory / "model.py"
    source = file.read_text().replace('dtype="float32"', f'dtype="{dtype}"')
    module = ModuleType("converted_model")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    exec(compile(source, file, "exec"), module.__dict__)
    return module.load()


def batches(path: Path) -> dict[str, list[Array]]:
    """The arrays of each batch in order; they are stored as `BATCH/POSITION`."""
    found: dict[str, list[Array]] = {}
    with np.load(path) as data:
        for key in sorted(data.files, key=lambda key: [int(part) for part in key.split("/")]):
            found.setdefault(key.split("/")[0], []).append(data[key])
    return found


def distance(one: list[Array], other: list[Array]) -> float:
    """The largest relative difference; infinite where outputs cannot be paired."""
    if len(one) != len(other) or any(a.shape != b.shape for a, b in zip(one, other, strict=True)):
        return float("inf")
    return max(
        float(np.linalg.norm((a - b).ravel()) / max(float(np.linalg.norm(b.ravel())), 1e-12))
        for a, b in zip(one, other, strict=True)
    )


def flat(outputs: Any) -> list[Array]:
    if isinstance(outputs, dict):
        return [each for value in outputs.values() for each in flat(value)]
    if isinstance(outputs, list | tuple):
        return [each for value in outputs for each in flat(value)]
    return [np.asarray(outputs.detach() if hasattr(outputs, "detach") else outputs, dtype=np.float64)]


def probe_torch(directory: Path, runs: dict[str, list[Array]]) -> dict[str, Any]:
    import torch

    model = load_source(directory)
    exported = torch.export.load(directory / "model.pt2")
    artifact = exported.module()
    distances = {}
    for batch, arrays in runs.items():
        tensors = [torch.from_numpy(each) for each in arrays]
        with torch.no_grad():
            distances[batch] = distance(flat(artifact(*tensors)), flat(model(*tensors)))
    transposes = sum(
        str(node.target).startswith(("aten.permute", "aten.transpose", "aten.t."))
        for node in exported.graph.nodes
        if node.op == "call_function"
    )
    trainable = {name: each.requires_grad for name, each in model.named_parameters()}
    buffers = [name for name, _ in model.named_buffers()]
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    # In evaluation mode, since BatchNorm on batch statistics leaves a bias before it without a gradient.
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=STEP)
    outputs = model(*(torch.from_numpy(each) for each in runs["3"]))
    listed = outputs.values() if isinstance(outputs, dict) else outputs
    loss = sum((each**2).sum() for each in (listed if not torch.is_tensor(outputs) else [outputs]))
    # Divided by its own size, so that a step is not lost below the resolution of the weights.
    (loss / loss.detach()).backward()
    optimizer.step()
    moved = sum(not torch.equal(before[name], each) for name, each in model.named_parameters())
    return {
        "distances": distances,
        "transposes": transposes,
        "trainable": trainable,
        "buffers": buffers,
        "moved": moved,
        "output_ranks": [each.ndim for each in flat(outputs)],
        "dynamic_batch": True,
        "inputs_named": True,
    }


def probe_tf(directory: Path, runs: dict[str, list[Array]]) -> dict[str, Any]:
    import tensorflow as tf

    model = load_source(directory)
    loaded = tf.saved_model.load(str(directory))
    signature = loaded.signatures["serving_default"]
    specs = signature.structured_input_signature[1]
    names = signature_order(specs, runs["3"])
    distances = {}
    for batch, arrays in runs.items():
        fed = {name: tf.constant(each) for name, each in zip(names, arrays, strict=True)}
        mine = flat(model(*(tf.constant(each) for each in arrays)))
        theirs = flat(signature(**fed))
        distances[batch] = min(distance(theirs, order) for order in orders(mine))
    graph = signature.graph.as_graph_def()
    transposes = sum(node.op == "Transpose" for node in graph.node) + sum(
        node.op == "Transpose" for function in graph.library.function for node in function.node_def
    )
    variables = list(loaded.trainable_variables) if hasattr(loaded, "trainable_variables") else []
    variables = variables or [each for each in signature.variables if each.trainable]
    before = [np.array(each) for each in variables]
    with tf.GradientTape() as tape:
        fed = {name: tf.constant(each) for name, each in zip(names, runs["3"], strict=True)}
        loss = tf.add_n([tf.reduce_sum(each**2) for each in signature(**fed).values()])
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        if gradient is not None:
            variable.assign_sub(STEP * tf.convert_to_tensor(gradient))
    moved = sum(not np.array_equal(one, other) for one, other in zip(before, variables, strict=True))
    return {
        "distances": distances,
        "transposes": transposes,
        "trainable": {each.path: bool(each.trainable) for each in model.weights if not is_buffer(each.path)},
        "buffers": [each.path for each in model.weights if is_buffer(each.path)],
        "moved": moved,
        "output_ranks": [each.ndim for each in mine],
        "dynamic_batch": all(each.shape[0] is None for each in specs.values() if each.shape.rank),
        "inputs_named": not any(name.startswith(("args", "inputs_", "arg_")) for name in specs),
    }


def is_buffer(path: str) -> bool:
    return path.rpartition("/")[2] in ("moving_mean", "moving_variance")


def signature_order(specs: dict[str, Any], arrays: list[Array]) -> list[str]:
    """The names of the inputs in the order of the arrays, told by their shapes."""
    names = list(specs)
    order = []
    for array in arrays:
        fitting = [name for name in names if specs[name].shape.is_compatible_with(array.shape)]
        order.append(fitting[0])
        names.remove(fitting[0])
    return order


def orders(outputs: list[Array]) -> list[list[Array]]:
    return [outputs] if len(outputs) < 2 else [outputs, outputs[::-1]]


def names_of(file: Path) -> dict[str, Any]:
    """The trained tensors that the source's own framework lists: whether each is trainable, and buffers."""
    if file.suffix == ".pt2":
        import torch

        exported = torch.export.load(file)
        trainable = dict.fromkeys(exported.graph_signature.parameters, True)
        return {"trainable": trainable, "buffers": list(exported.graph_signature.buffers)}
    if file.suffix == ".keras":
        import keras

        model = keras.saving.load_model(file, compile=False)
        return {
            "trainable": {
                each.path: bool(each.trainable)
                for each in model.weights
                if not is_buffer(each.path) and "seed_generator" not in each.path
            },
            "buffers": [each.path for each in model.weights if is_buffer(each.path)],
        }
    import tensorflow as tf

    if file.name == "checkpoint":
        reader = tf.train.load_checkpoint(str(file / "model.ckpt"))
        return {"trainable": dict.fromkeys(reader.get_variable_to_shape_map(), True), "buffers": []}
    loaded = tf.saved_model.load(str(file))
    named = {
        name: each for name, each in vars(loaded).items() if isinstance(each, tf.Variable) and name[0] != "_"
    }
    return {"trainable": {name: bool(each.trainable) for name, each in named.items()}, "buffers": []}


X = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
Y = [[2.0], [4.0], [6.0]]
STEPS = 1000
LEARNING_RATE = 0.01


def train_torch(path: Path, dtype: str) -> list[float]:
    import torch

    if path.is_dir():
        model = load_source(path)
    else:
        model = torch.nn.Linear(2, 1)
        model.load_state_dict(torch.load(path, weights_only=True))
    kind = getattr(torch, dtype)
    model = model.to(kind).train()
    x, y = torch.tensor(X, dtype=kind), torch.tensor(Y, dtype=kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def train_tf(path: Path, dtype: str) -> list[float]:
    import keras
    import tensorflow as tf

    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    if (path / "model.py").exists():
        model = load_source(path, dtype)
        variables = model.trainable_variables
    else:
        saved = tf.train.load_checkpoint(str(path / "model.ckpt"))
        variables = [tf.Variable(saved.get_tensor(name).astype(dtype)) for name in ("weights", "bias")]

        def model(x: tf.Tensor) -> tf.Tensor:
            return tf.matmul(x, variables[0]) + variables[1]

    x, y = tf.constant(X, dtype), tf.constant(Y, dtype)

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x) - y))
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(tf.constant(LEARNING_RATE, dtype) * gradient)
        return loss

    return [float(step()) for _ in range(STEPS)]


def main() -> None:
    kind = sys.argv[1]
    if kind == "train":
        framework, path, dtype = sys.argv[2], Path(sys.argv[3]), sys.argv[4]
        print(json.dumps({"losses": (train_torch if framework == "torch" else train_tf)(path, dtype)}))
        return
    directory = Path(sys.argv[2])
    if kind == "names":
        print(json.dumps(names_of(directory)))
        return
    sys.meta_path[:] = [Hide(finder, HIDDEN[kind] | ALWAYS_HIDDEN) for finder in sys.meta_path]
    runs = batches(Path(sys.argv[3]))
    print(json.dumps((probe_torch if kind == "torch" else probe_tf)(directory, runs)))


if __name__ == "__main__":
    main()
