"""Read TensorFlow and Keras models of every format into the hub."""

from __future__ import annotations

import time
from dataclasses import replace

import onnx_ir as ir

from bridge.errors import InputError
from bridge.formats.request import ReadRequest
from bridge.hub.check import check_model
from bridge_converters.tf_to_onnx.bundle import Bundle
from bridge_converters.tf_to_onnx.exporter import export
from bridge_converters.tf_to_onnx.functions import lift_bundle
from bridge_converters.tf_to_onnx.hub import build


def read(request: ReadRequest) -> ir.Model:
    """Read the model that a request names, whatever TensorFlow format it is in, as an ONNX model of opset 18.

    The format `tf_bundle` is a directory written by `Bundle.save`: a live object that was traced in the
    caller's process.

    Raises InputError for a file that cannot be read as what it should be, TrustError for stored code,
    UnsupportedOps and BridgeError for computations that ONNX cannot express.
    """
    return convert(trace(request))


def trace(request: ReadRequest) -> Bundle:
    """Phase A: the self-contained computation and weights of the model that a request names."""
    if request.format == "tf_bundle":
        bundle = Bundle.load(request.path)
        return bundle if bundle.lifted else lift_bundle(bundle)
    if request.format in ("keras", "h5", "h5_weights"):
        from bridge_converters.tf_to_onnx.keras_source import load_keras, trace_keras

        model = load_keras(request)
        return trace_keras(
            model, format=request.format, inputs=request.inputs, static_batch=request.static_batch
        )
    if request.format == "saved_model":
        from bridge_converters.tf_to_onnx.saved_model import trace_saved_model

        return trace_saved_model(request)
    if request.format in ("saved_model_v1", "tf1_checkpoint", "frozen_graph"):
        from bridge_converters.tf_to_onnx.tf1 import trace_graph

        return trace_graph(request)
    raise InputError(f"{request.format!r} is not a TensorFlow format", where=request.path)


def _fixed_batches(bundle: Bundle) -> list[str]:
    return [
        f"axis 0 of the input {port.name!r} is fixed to {port.shape[0]} in the source"
        for port in bundle.inputs
        if port.shape and port.shape[0] is not None
    ]


def convert(bundle: Bundle) -> ir.Model:
    """Phase B: the hub model of a traced computation."""
    started = time.perf_counter()
    exported = export(bundle)
    seconds = bundle.seconds + time.perf_counter() - started
    model = build(exported, replace(bundle, notes=(*bundle.notes, *_fixed_batches(bundle))), seconds=seconds)
    check_model(model, stage="after reading")
    return model
