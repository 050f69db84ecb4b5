"""TorchScript archives as ordinary modules that torch.export can trace.

torch.export does not take a ScriptModule, and PyTorch's own converter loses the module tree, the line
of the source and which tensors are parameters. Here every ScriptModule becomes an `nn.Module` with the
same children and tensors whose forward interprets the TorchScript graph, so that nothing is lost.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.fx import traceback as fx_traceback

from bridge.errors import BridgeError, InputError
from bridge_converters.torch_to_onnx.torchscript_ops import evaluate
from bridge_converters.torch_to_onnx.user_code import SOURCE_ANNOTATION, first_line, location_in_trace

_METHOD = "_bridge_method"


class Interpreted(nn.Module):
    """A ScriptModule as an `nn.Module`: the same parameters, buffers and children, interpreted graphs.

    Every ScriptModule gets a subclass of its own, called like the class it was made from.
    """

    def __init__(self, script: torch.jit.ScriptModule, functions: Mapping[str, Any]) -> None:
        super().__init__()
        self._script = [script]  # in a list, so that it is not registered as a child
        self._functions = functions
        self.training = False
        for name, parameter in script.named_parameters(recurse=False, remove_duplicate=False):
            self.register_parameter(name, nn.Parameter(parameter.detach(), parameter.requires_grad))
        for name, buffer in script.named_buffers(recurse=False, remove_duplicate=False):
            self.register_buffer(name, buffer.detach())
        for name, child in script.named_children():
            self.add_module(name, interpreted(cast(torch.jit.ScriptModule, child), functions))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run a method of the ScriptModule (forward if none is named) on the arguments of its schema."""
        method = self._script[0]._c._get_method(kwargs.pop(_METHOD, "forward"))
        return self.run_graph(method.graph, _bind(method.schema, args, kwargs, self))

    def run_graph(self, graph: Any, values: Sequence[Any]) -> Any:
        """Interpret a graph on the values of its inputs (the module itself first, for a method)."""
        environment = dict(zip((each.unique() for each in graph.inputs()), values, strict=True))
        results = self._run_block(graph, environment)
        return results[0] if len(results) == 1 else tuple(results)

    def _run_block(self, block: Any, environment: dict[int, Any]) -> list[Any]:
        for node in block.nodes():
            location = location_in_trace(_written_at(node))
            try:
                if location is None:
                    results = self._run_node(node, environment)
                else:
                    with fx_traceback.annotate({SOURCE_ANNOTATION: location}):
                        results = self._run_node(node, environment)
            except Exception as error:  # operators raise anything; every failure needs its line
                if not getattr(error, "__notes__", None):
                    error.add_note(_written_at(node))
                raise
            for output, result in zip(node.outputs(), results, strict=True):
                environment[output.unique()] = result
        return [environment[each.unique()] for each in block.outputs()]

    def _run_node(self, node: Any, environment: dict[int, Any]) -> Sequence[Any]:
        inputs = [environment[each.unique()] for each in node.inputs()]
        match node.kind():
            case "prim::GetAttr":
                return [self._attribute(inputs[0], node.s("name"))]
            case "prim::CallMethod":
                return [self._call_method(node.s("name"), inputs)]
            case "prim::CallFunction":
                return [self.run_graph(inputs[0].graph, inputs[1:])]
            case "prim::Constant":
                return [self._constant(node)]
            case "prim::If":
                blocks = list(node.blocks())
                return self._run_block(blocks[0] if inputs[0] else blocks[1], environment)
            case "prim::Loop":
                return self._loop(node, inputs, environment)
        return evaluate(node, inputs)

    def _loop(self, node: Any, inputs: list[Any], environment: dict[int, Any]) -> list[Any]:
        (body,) = node.blocks()
        names = [each.unique() for each in body.inputs()]
        count, condition, *carried = inputs
        iteration = 0
        while condition and iteration < count:
            environment.update(zip(names, [iteration, *carried], strict=True))
            condition, *carried = self._run_block(body, environment)
            iteration += 1
        return carried

    def _constant(self, node: Any) -> Any:
        kind = node.output().type()
        if kind.kind() == "FunctionType":
            return self._functions[str(kind)]
        return node.output().toIValue()

    def _attribute(self, owner: Any, name: str) -> Any:
        if not isinstance(owner, Interpreted):
            return getattr(owner, name)
        own = {**owner._parameters, **owner._buffers, **owner._modules}
        if name in own:
            return own[name]
        return False if name == "training" else owner._script[0]._c.getattr(name)

    def _call_method(self, name: str, inputs: list[Any]) -> Any:
        owner = inputs[0]
        if not isinstance(owner, Interpreted):
            raise NotImplementedError(f"a method of the TorchScript class {type(owner).__name__}")
        if owner is self:
            return self.run_graph(self._script[0]._c._get_method(name).graph, inputs)
        # A call of the module, so that torch.export records the scope; tracing writes a second call's body
        # as a method forward1.
        return owner(*inputs[1:], **({} if name == "forward" else {_METHOD: name}))


def load_torchscript(path: Path) -> tuple[torch.jit.ScriptModule, nn.Module]:
    """The ScriptModule of an archive written by `torch.jit.save`, and the same as an interpreted module.

    Both are in evaluation mode, on the CPU. Raises InputError if the archive is damaged or needs an
    operator that this PyTorch does not have.
    """
    unit = torch._C.CompilationUnit()
    read_archive: Any = torch._C.import_ir_module
    try:
        loaded = read_archive(unit, str(path), torch.device("cpu"), {}, False)
    except (RuntimeError, ValueError) as error:
        unknown = "Unknown builtin op" in str(error)
        raise InputError(
            f"{path} cannot be loaded as TorchScript: {first_line(error)}",
            hint="name the module that registers the operator: --custom-objects my_package.ops"
            if unknown
            else "it is damaged or was written by a newer PyTorch; write it again with torch.jit.save",
        ) from error
    script = cast(torch.jit.ScriptModule, torch.jit._recursive.wrap_cpp_module(loaded))  # type: ignore[no-untyped-call]
    script.eval()
    declared = cast(list[Any], unit.get_functions())
    functions = {each.qualified_name: each for each in declared}
    return script, interpreted(script, functions)


def interpreted(script: torch.jit.ScriptModule, functions: Mapping[str, Any]) -> Interpreted:
    """A ScriptModule as an interpreted module; `functions` are the archive's by qualified name.

    Raises BridgeError if the module has hooks, which would not run.
    """
    name = script.original_name
    if script._c._get_forward_hooks() or script._c._get_forward_pre_hooks():
        raise BridgeError(
            f"the TorchScript module {name} has forward hooks, which bridge does not convert",
            hint="remove the hooks before scripting",
        )
    namespace: dict[str, Any] = {"__module__": "torchscript"}
    if script._c._has_method("forward"):
        namespace["forward"] = _forward_with_signature(script._c._get_method("forward").schema)
    kind = type(name, (Interpreted,), namespace)
    return cast(Interpreted, kind(script, functions))


def _forward_with_signature(schema: Any) -> Any:
    """A forward method whose signature has the names of a TorchScript schema, for inputs by name."""

    def forward(self: Interpreted, *args: Any, **kwargs: Any) -> Any:
        return Interpreted.forward(self, *args, **kwargs)

    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for argument in schema.arguments[1:]:
        default = argument.default_value if argument.has_default_value() else inspect.Parameter.empty
        parameters.append(
            inspect.Parameter(argument.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
        )
    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return forward


def _bind(schema: Any, args: Sequence[Any], kwargs: Mapping[str, Any], module: Interpreted) -> list[Any]:
    """The values of all arguments of a schema, defaults included."""
    values = [module, *args]
    for argument in schema.arguments[len(values) :]:
        if argument.name in kwargs:
            values.append(kwargs[argument.name])
        elif argument.has_default_value():
            values.append(argument.default_value)
        else:
            raise TypeError(f"missing 1 required positional argument: {argument.name!r}")
    return values


def _written_at(node: Any) -> str:
    """The stack of source lines TorchScript kept for a node, without those of the serialised code."""
    text: str = node.sourceRange()
    return "\n".join(line for line in text.split("Serialized")[0].splitlines() if "File " in line)
