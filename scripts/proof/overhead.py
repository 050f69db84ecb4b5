"""What `bridge verify` costs over loading both frameworks and running both models, for ResNet50.

The baseline is what anybody would write: for each version a process that imports its framework, loads the
model and runs it on the very inputs that bridge draws. Both are measured interleaved, each in fresh
processes; medians of the ratios count. The two processes of the baseline run one after the other, and, as
bridge's workers do, at the same time; the ratio to both is printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

BAR = 1.3

_BUILD = """
import keras, sys
keras.utils.set_random_seed(0)
keras.applications.ResNet50(weights=None).save(sys.argv[1])
"""
_RUN_KERAS = """
import keras, sys
import numpy as np, tensorflow as tf
model = keras.saving.load_model(sys.argv[1], compile=False)
spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
run = tf.function(lambda images: model(images, training=False), input_signature=[spec])
for path in sys.argv[2:]:
    np.asarray(run(np.load(path)))
"""
_RUN_TORCH = """
import sys
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
from model import load
model = load().eval()
with torch.inference_mode():
    for path in sys.argv[2:]:
        model(torch.from_numpy(np.load(path))).numpy()
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch, "resnet50.keras"), Path(scratch, "resnet50_torch")
        _done(_python(_BUILD, str(source)))
        _bridge("convert", str(source), "--to", "torch", "-o", str(target), "--no-verify")
        files = _inputs(Path(scratch))
        rows = []
        for _ in range(repeat):
            one = _timed(lambda: _baseline(source, target, files, together=False))
            both = _timed(lambda: _baseline(source, target, files, together=True))
            ours = _timed(lambda: _bridge("verify", str(source), str(target)))
            rows.append((ours, one, both))
            print(
                f"bridge verify {ours:.1f} s; loading and running both {one:.1f} s one after the other, "
                f"{both:.1f} s at the same time"
            )
    ratio = statistics.median(ours / one for ours, one, _ in rows)
    together = statistics.median(ours / both for ours, _, both in rows)
    print(f"median ratio {ratio:.2f} to one after the other (bar {BAR}), {together:.2f} to the same time")
    return 0 if ratio < BAR else 1


def _inputs(directory: Path) -> list[str]:
    """The inputs that bridge draws for an image model of this size, as files."""
    import numpy as np

    from bridge.verification.inputs import draws, plan
    from bridge.worker.side import TensorSpec

    files = []
    plans = plan([TensorSpec("images", "float32", (None, 224, 224, 3))])
    for each in draws(plans, seed=0, boundaries=True):
        path = directory / f"{each.name}.npy"
        np.save(path, each.arrays["images"])
        files.append(str(path))
    return files


def _baseline(source: Path, target: Path, files: list[str], *, together: bool) -> None:
    first = _python(_RUN_KERAS, str(source), *files)
    if not together:
        _done(first)
    _done(_python(_RUN_TORCH, str(target), *files))
    _done(first)


def _done(process: subprocess.Popen[bytes]) -> None:
    if process.wait() != 0:
        raise RuntimeError(f"a process of the benchmark ended with {process.returncode}")


def _python(text: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", text, *arguments], stderr=subprocess.DEVNULL)


def _bridge(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "bridge", *arguments, "--quiet"], check=True)


def _timed(function: Callable[[], None]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
