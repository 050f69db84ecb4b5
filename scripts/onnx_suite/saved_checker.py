"""Runs SavedModels in a process that imports TensorFlow and nothing of bridge.

`python saved_checker.py REPLY_FD`: JSON lines on stdin, each with the `path` of a SavedModel, its inputs as
files of serialised tensors with their dtypes (`runs`, a list of lists of pairs), and `out`, a directory. The
reply lists, for each run, the outputs' files and dtypes by name, or has an `error`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf


def check(request: dict[str, Any]) -> dict[str, Any]:
    loaded = tf.saved_model.load(request["path"])
    assert "serving_default" in loaded.signatures, "there is no signature serving_default"
    results = []
    for number, run in enumerate(request["runs"]):
        inputs = [tf.io.parse_tensor(Path(file).read_bytes(), tf.as_dtype(dtype)) for file, dtype in run]
        outputs = {}
        for index, (name, value) in enumerate(loaded.serve(*inputs).items()):
            file = Path(request["out"]) / f"output-{number}-{index}"
            file.write_bytes(tf.io.serialize_tensor(value).numpy())
            outputs[name] = (str(file), value.dtype.name)
        results.append(outputs)
    foreign = sorted({"bridge", "bridge_converters", "torch", "onnx"} & set(sys.modules))
    assert not foreign, f"loading imported {foreign}"
    return {"results": results}


def main(reply_fd: int) -> None:
    with os.fdopen(reply_fd, "w", encoding="utf-8") as replies:
        for line in sys.stdin:
            try:
                reply = check(json.loads(line))
            except Exception as error:  # whatever TensorFlow raises is the answer
                reply = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
            replies.write(json.dumps(reply) + "\n")
            replies.flush()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
