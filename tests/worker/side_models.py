"""Loaders of models that behave in every way a side of a verification can."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any

import numpy as np

from bridge.errors import InputError


class Affine:
    """`y = x * scale + offset` and the argmax of y, with the faults that the request asks for."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self.inputs = [
            {"name": "x", "dtype": "float32", "shape": [None, 4]},
            {"name": "scale", "dtype": "float32", "shape": []},
        ]
        self.outputs = ["y", "best"]
        self.what = "a model of the tests"
        self.notes = ["made by hand"]

    def weights(self) -> Any:
        if self._request.get("weights") == "fail":
            raise OSError("unreadable")
        return {"offset": np.float32(0.5)} if self._request.get("weights", True) else None

    def run(self, feeds: Any) -> Any:
        fault = self._request.get("fault")
        if fault == "crash":
            print("last words", flush=True)
            ctypes.string_at(0)
        elif fault == "hang":
            time.sleep(600)
        elif fault == "killed":
            os.kill(os.getpid(), 9)
        elif fault == "garbage":
            os.write(int(sys.argv[1]), b"garbage\n")
        elif fault == "random":
            return [feeds["x"] * np.random.default_rng().random(), np.zeros(len(feeds["x"]), np.int64)]
        elif fault == "raise":
            raise ValueError("no such shape\nmore")
        elif fault == "memory":
            raise MemoryError
        elif fault == "exit":
            sys.exit(0)
        elif fault == "batch" and len(feeds["x"]) > 1:
            raise ValueError("one at a time")
        elif fault == "noise":
            print('{"id": 2, "ok": {}}', flush=True)
        y = feeds["x"] * feeds["scale"] + np.float32(0.5) + np.float32(self._request.get("error", 0))
        results = [y, y.argmax(-1)]
        return results[:1] if fault == "fewer" else results

    def run_fp64(self, feeds: Any) -> Any:
        if self._request.get("fp64") == "no":
            raise NotImplementedError("no float64 here")
        if self._request.get("fp64") == "crash":
            os.abort()
        if self._request.get("fp64") == "narrow":
            return self.run(feeds)
        y = feeds["x"].astype(float) * feeds["scale"] + 0.5
        return [y, y.argmax(-1)]


def load(request: Any) -> Affine:
    if request.get("refuse"):
        raise InputError("it is not a model", hint="give one", where="model.x")
    return Affine(request)
