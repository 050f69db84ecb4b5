"""Reading PyTorch files into the hub."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir
from torch import fx
from torch.export import ExportedProgram

from bridge.formats.request import ReadRequest
from bridge.hub import metadata
from bridge.hub.check import check_model
from bridge.hub.metadata import SourceInfo
from bridge_converters.torch_to_onnx import names, recurrent
from bridge_converters.torch_to_onnx import program as program_rewrites
from bridge_converters.torch_to_onnx.annotate import Interface, annotate
from bridge_converters.torch_to_onnx.attention_dropout import annotate_ratios
from bridge_converters.torch_to_onnx.detached import mark_detached
from bridge_converters.torch_to_onnx.source import Loaded, load
from bridge_converters.torch_to_onnx.translate import translate
from bridge_converters.torch_to_onnx.weights import is_batch_counter, weight_records


def read(request: ReadRequest) -> ir.Model:
    """Read a `.pt2`, TorchScript archive, pickled module, state_dict or safetensors file.

    The result is a hub model at opset 23 whose initializers are the source's own tensors under their
    paths, with axis 0 of the inputs dynamic where the source allows it. Batch normalization's count of
    batches is left out, other tensors that no output depends on are listed in the source's record.

    Raises InputError if the request lacks something (input shapes, a factory) or the file does not fit,
    TrustError if loading would run code and the request does not allow it, UnsupportedOps and
    BridgeError where PyTorch cannot export the model.
    """
    return to_hub(load(request), request.format)


def to_hub(loaded: Loaded, format: str) -> ir.Model:
    """Turn a loaded program into a checked hub model."""
    program = loaded.program
    outputs, structure = names.output_names(program), names.structure(program)
    inputs = names.input_names(program)
    records = weight_records(program, loaded.weights)
    remarks = _remarks(program)
    program = program_rewrites.copy_graph(program)
    program_rewrites.inline_gradient_switches(program)
    mark_detached(program)
    dropped = annotate_ratios(program, loaded.attention_dropouts)
    program_rewrites.spell_global_pooling(program)
    program_rewrites.copy_before_views(program)
    notes = [*loaded.notes, *remarks, *dropped, *program_rewrites.mark_dropouts(program)]
    program_rewrites.drop_constant_outputs(program)
    translation = translate(program)
    model = translation.model
    annotate(
        model,
        list(_all_nodes(translation.program)),
        interface=Interface(inputs, outputs, loaded.axes),
        weights=records,
        module_types=loaded.module_types,
    )
    used = {
        info.path
        for value in model.graph.initializers.values()
        if (info := metadata.weight_info(value)) is not None
    }
    unused = [path for path, info in records.items() if info.path == path and path not in used]
    metadata.set_source_info(
        model,
        SourceInfo(
            framework="torch",
            format=format,
            root_type=loaded.root_type,
            inputs=inputs,
            outputs=outputs,
            notes=tuple(notes),
            exporter_seconds=loaded.seconds + translation.seconds,
            unused_weights=tuple(path for path in unused if not is_batch_counter(path)),
        ),
    )
    metadata.set_structure(model, structure)
    check_model(model, stage="after reading")
    return model


def _remarks(program: ExportedProgram) -> list[str]:
    remarks = []
    left_out = names.left_out_outputs(program)
    if left_out:
        remarks.append(f"outputs that are no tensors are left out: {', '.join(left_out)}")
    remarks += recurrent.remarks(program)
    changed = program_rewrites.mutated_buffers(program)
    if changed:
        remarks.append(
            f"the model changes {', '.join(changed)} whenever it is called; "
            "the converted model keeps the saved value"
        )
    return remarks


def _all_nodes(program: ExportedProgram) -> Iterator[fx.Node]:
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            yield from module.graph.nodes
