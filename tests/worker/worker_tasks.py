"""Tasks that behave in every way a worker can; run by test_tasks.py in fresh processes."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bridge.errors import InputError, TrustError, UnsupportedOp, UnsupportedOps
from bridge.worker import progress


def echo(request: dict[str, Any]) -> dict[str, Any]:
    return {"request": request, "seed": os.environ["PYTHONHASHSEED"], "cwd": os.getcwd()}


def noisy(request: dict[str, Any]) -> dict[str, Any]:
    print('{"result": {"forged": true}}')
    print("noise", file=sys.stderr, flush=True)
    subprocess.run(["sh", "-c", "echo child noise; echo child noise >&2"], check=True)
    progress.report("half way")
    return {"stdin": sys.stdin.read()}


class DeepTrustError(TrustError):
    pass


def refuse(request: dict[str, Any]) -> dict[str, Any]:
    match request["kind"]:
        case "input":
            raise InputError("it is empty", hint="fill it", where="model.pt")
        case "subclass":
            raise DeepTrustError("it has code", hint="--trust")
        case "ops":
            op = UnsupportedOp("Foo", "custom", "unknown", 3, ("layers.0",))
            raise UnsupportedOps([op], target="torch", hint="write a lowering")
        case "bug":
            raise ValueError("first line\nsecond line")
        case "missing":
            import torch.does_not_exist  # type: ignore[import-not-found]  # noqa: F401
        case "exit":
            sys.exit(0)
    return {}


def segfault(request: dict[str, Any]) -> dict[str, Any]:
    print("about to crash", file=sys.stderr, flush=True)
    ctypes.string_at(0)
    return {}


def vanish(request: dict[str, Any]) -> dict[str, Any]:
    os._exit(int(request["status"]))


def killed(request: dict[str, Any]) -> dict[str, Any]:
    os.kill(os.getpid(), 9)
    return {}


def hang(request: dict[str, Any]) -> dict[str, Any]:
    child = subprocess.Popen(["sleep", "600"])
    temporary = tempfile.mkdtemp()
    Path(request["pids"]).write_text(f"{os.getpid()} {child.pid} {temporary}")
    time.sleep(600)
    return {}


def garbage(request: dict[str, Any]) -> dict[str, Any]:
    os.write(int(sys.argv[1]), b"Warning: a library writes everywhere\n")
    return {}


def not_json(request: dict[str, Any]) -> dict[str, Any]:
    return {"array": object()}


def not_an_object(request: dict[str, Any]) -> Any:
    return [1, 2]


def allocate(request: dict[str, Any]) -> dict[str, Any]:
    block = b"x" * int(request["bytes"])
    return {"size": len(block)}
