"""Real networks: every weight under its path, the right numbers at several batch sizes, a sound reference."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from bridge_converters.torch_to_onnx.load import load_runnable
from bridge_converters.torch_to_onnx.reader import to_hub
from bridge_converters.torch_to_onnx.source import load

from bridge.formats.request import InputSpec, ReadRequest
from bridge.hub import metadata

FACTORY = '''
import torch


def build():
    """A network with random weights whose normalisation statistics come from data."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model("{name}", pretrained=False)
    norms = [each for each in model.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for each in norms:
            each.momentum = None
        for _ in range(2):
            model(torch.randn(8, 3, {size}, {size}))
        for each in norms:
            each.momentum = 0.1
    return model
'''


@pytest.mark.parametrize(("name", "size"), [("resnet18", 64), ("mobilenetv3_small_050", 64)])
def test_a_network_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int) -> None:
    (tmp_path / f"factory_{name}.py").write_text(FACTORY.format(name=name, size=size))
    monkeypatch.chdir(tmp_path)
    request = ReadRequest("", "pickle_module", inputs=(InputSpec.parse(f"1x3x{size}x{size}"),), trust=True)
    from bridge_converters.torch_to_onnx.checkpoint import build

    module = build(f"factory_{name}:build")
    torch.save(module, "model.pt")
    request = ReadRequest("model.pt", "pickle_module", inputs=request.inputs, trust=True)
    model = to_hub(load(request), request.format)

    state = module.state_dict()
    expected = {key for key in state if not key.endswith("num_batches_tracked")}
    assert set(model.graph.initializers) == expected
    infos = {key: metadata.weight_info(value) for key, value in model.graph.initializers.items()}
    parameters = dict(module.named_parameters())
    assert {key for key, info in infos.items() if info and info.kind == "parameter"} == set(parameters)
    assert all(metadata.scope_of(node) is not None for node in model.graph if node.op_type == "Conv")
    assert metadata.source_info(model).unused_weights == ()
    assert metadata.source_info(model).notes == ()

    runnable = load_runnable(request)
    double = runnable.double()
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    for batch in (1, 3, 17):
        image = torch.randn(batch, 3, size, size)
        (own,), (reference,) = runnable(image), double(image)
        (hub,) = session.run(None, {"x": image.numpy()})
        scale = float(reference.norm())
        assert 1e-8 < float((own.double() - reference).norm()) / scale < 3e-6
        assert np.linalg.norm(hub - reference.numpy()) / scale < 5e-6
    assert float(reference.std(0).mean() / reference.std()) > 0.1, "the outputs must vary with the inputs"
    sys.modules.pop(f"factory_{name}", None)
