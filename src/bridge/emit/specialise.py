"""Partial evaluation of a lowering's body for one node.

Constant attributes and inputs are substituted, tests on them decided, and what remains is either one
expression, which is printed in place, or a function, which is copied into the output as a helper.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from bridge.emit.literals import literal
from bridge.emit.syntax import clone, names, walk

_SAFE = {
    each.__name__: each
    for each in (
        *(abs, all, any, bool, dict, divmod, enumerate, float, int, isinstance, len, list, max, min),
        *(range, reversed, round, set, sorted, str, sum, tuple, zip),
    )
} | {"math": math}
"""What a constant expression in a lowering may call, besides helper functions of its own package."""

_MAX_INLINE = 100
_SOMETHING = ast.Constant(None)
_PACKAGE = "bridge_converters."


@dataclass(frozen=True)
class Known:
    """A parameter whose value is known at conversion: an attribute, a shape, None."""

    value: Any


@dataclass(frozen=True)
class Facts:
    """What is known of a tensor parameter: its rank, its dtype, and how it is written in the emitted code."""

    expression: ast.expr
    rank: int | None = None
    dtype: str | None = None
    """The numpy name of the dtype (`float32`, `bfloat16`, `bool`)."""
    scalar: Any = None
    """The value of a 0-d constant, which may be written as a plain number beside a tensor."""
    typed_scalar: ast.expr | None = field(default=None)
    """The same constant as a tensor of its dtype, for places where a plain number will not do."""
    maybe_none: bool = False
    """Whether it is an optional, so that only running the model tells whether it is None."""
    elements: tuple[ast.expr, ...] | None = None
    """The tensors of a variadic parameter, which `expression` writes as a tuple."""

    def anywhere(self) -> Facts:
        """What decides how a body is folded: all but how the tensor is written in one place."""
        elements = None if self.elements is None else (_SOMETHING,) * len(self.elements)
        return Facts(_SOMETHING, self.rank, self.dtype, maybe_none=self.maybe_none, elements=elements)


Binding = Known | Facts


@cache
def function_tree(function: Callable[..., Any]) -> ast.FunctionDef:
    """The syntax tree of a function's definition, without decorators. The tree is shared: copy it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef):
        raise TypeError(f"{function.__qualname__} is not a plain function")
    definition.decorator_list = []
    return definition


@cache
def helper_functions(function: Callable[..., Any]) -> Mapping[str, Callable[..., Any]]:
    """The functions of the converter packages that a function calls by name, in the order of their names.

    The mapping is shared: copy it.
    """
    tree = function_tree(function)
    arguments = tree.args
    bound = {each.arg for each in (*arguments.args, *arguments.kwonlyargs, *arguments.posonlyargs)}
    bound |= {each.arg for each in (arguments.vararg, arguments.kwarg) if each is not None}
    mentioned = [each for each in walk(tree) if isinstance(each, ast.Name)]
    bound |= {each.id for each in mentioned if isinstance(each.ctx, ast.Store)}
    return {
        name: value
        for name in sorted({each.id for each in mentioned} - bound)
        if isinstance(value := function.__globals__.get(name), types.FunctionType)
        and value.__module__.startswith(_PACKAGE)
        and value is not function
    }


def inline(function: Callable[..., Any], bindings: Mapping[str, Binding]) -> ast.expr | None:
    """The body of a lowering as one short expression over its bound arguments; None if it is more.

    An expression that still iterates is not one that a reader wants in the middle of a forward method.
    """
    facts = {name: each for name, each in bindings.items() if isinstance(each, Facts)}
    reduced = _reduced(
        function,
        tuple(
            (name, _Exactly(repr(each.value), each.value))
            for name, each in bindings.items()
            if isinstance(each, Known)
        ),
        tuple((name, each.anywhere()) for name, each in facts.items()),
    )
    if reduced is None:
        return None
    result = _substitute(reduced, facts)
    return result if _calls_helper(result, function) or len(ast.unparse(result)) <= _MAX_INLINE else None


@dataclass(frozen=True)
class _Exactly:
    """A known value that equals another only if it is written alike: 1, 1.0 and True are three values."""

    text: str
    value: Any = field(compare=False)


@lru_cache(maxsize=4096)
def _reduced(
    function: Callable[..., Any],
    known: tuple[tuple[str, _Exactly], ...],
    tensors: tuple[tuple[str, Facts], ...],
) -> ast.expr | None:
    """The body as one expression over the parameters that are tensors. The tree is shared: copy it."""
    definition = function_tree(function)
    body = definition.body[1:] if ast.get_docstring(definition) is not None else definition.body
    environment = {name: each.value for name, each in known}
    folded = _Folder(environment, dict(tensors), helper_functions(function)).block(body)
    expression = None if folded is None else _single_expression(folded)
    if expression is None:
        return None
    computes = any(isinstance(each, ast.comprehension) for each in walk(expression))
    return None if computes or names(expression) & environment.keys() else expression


def _calls_helper(expression: ast.expr, function: Callable[..., Any]) -> bool:
    """Whether an expression is just a call of a helper; a call of the lowering would be no shorter."""
    match expression:
        case ast.Call(func=ast.Name(id=name)):
            return name in helper_functions(function)
        case _:
            return False


class _Folder:
    """Folds what is known and straightens the control flow; gives up (None) on loops over tensors."""

    def __init__(
        self,
        environment: Mapping[str, Any],
        tensors: Mapping[str, Facts],
        helpers: Mapping[str, Callable[..., Any]],
    ) -> None:
        self._callable = {**_SAFE, **helpers}
        self._known = dict(environment)
        self._tensors = dict(tensors)

    def block(self, statements: list[ast.stmt]) -> list[ast.stmt] | None:
        result: list[ast.stmt] = []
        for index, statement in enumerate(statements):
            match statement:
                case ast.Return(value=ast.expr() as value):
                    result.append(ast.Return(self.fold(value)))
                    return result
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=value)
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                ):
                    folded = self.fold(value)
                    known, constant = _constant(folded)
                    self._tensors.pop(name, None)
                    if known:
                        self._known[name] = constant
                    else:
                        self._known.pop(name, None)
                        result.append(ast.Assign([ast.Name(name, ast.Store())], folded, lineno=0))
                case ast.If(test=test, body=body, orelse=orelse):
                    known, constant = _constant(self.fold(test))
                    if not known:
                        return None
                    rest = self.block([*(body if constant else orelse), *statements[index + 1 :]])
                    return None if rest is None else result + rest
                case ast.Expr(value=ast.Constant(value=str())):
                    continue
                case _:
                    return None
        return None

    def fold(self, expression: ast.expr) -> ast.expr:
        read: ast.expr = _FactReader(self._tensors).visit(clone(expression))
        folded: ast.expr = _FoldExpressions(self._known, self._tensors, self._callable).visit(read)
        return folded


class _FoldExpressions(ast.NodeTransformer):
    """Replaces every maximal sub-expression over known names by its value."""

    def __init__(
        self, known: Mapping[str, Any], tensors: Mapping[str, Facts], callables: Mapping[str, Any]
    ) -> None:
        self._callable = callables
        self._known = known
        self._tensors = tensors
        self._hidden: list[set[str]] = []

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Constant):
            return node
        if not isinstance(node, ast.expr) or isinstance(node, ast.Starred):
            return self.generic_visit(node)
        if isinstance(node, ast.IfExp):
            return self._choose(node)
        if isinstance(node, ast.BoolOp):
            return self._chain(node)
        known, value = self._evaluate(node)
        if known:
            return literal(value)
        if isinstance(node, ast.ListComp):
            unrolled = self._unroll(node)
            if unrolled is not None:
                return unrolled
        if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp):
            self._hidden.append(names(*(each.target for each in node.generators)))
            result = self.generic_visit(node)
            self._hidden.pop()
            return result
        node = self.generic_visit(node)
        match node:
            case ast.Compare(left=ast.Name(id=name), ops=[ast.Is() | ast.IsNot()], comparators=[other]):
                facts = self._tensors.get(name)
                if facts is not None and not facts.maybe_none and _is_none(other):
                    return ast.Constant(isinstance(node.ops[0], ast.IsNot))
            case ast.Call(func=ast.Name(id="isinstance"), args=[ast.Name(id=name), kinds]):
                if name in self._tensors and names(kinds) <= _SAFE.keys():
                    return ast.Constant(False)
            case ast.Slice(lower=lower, upper=upper, step=step):
                return ast.Slice(*(None if _is_none(bound) else bound for bound in (lower, upper, step)))
            case ast.Subscript(slice=ast.Tuple(elts=elements)):
                node.slice = ast.Tuple([_whole_axis(each) for each in elements], ast.Load())
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                node.elts = [inner for each in elements for inner in _unpacked(each)]
            case ast.Call(keywords=keywords):
                node.keywords = [inner for each in keywords for inner in _keywords(each)]
        return node

    def _unroll(self, node: ast.ListComp) -> ast.List | None:
        """The elements of a list over known values, one by one; None where what it iterates is not known."""
        match node.generators:
            case [ast.comprehension(target=target, iter=iterated, ifs=[])] if not self._hidden:
                known, values = self._evaluate(ast.Call(ast.Name("list", ast.Load()), [iterated], []))
            case _:
                return None
        if not known:
            return None
        elements: list[ast.expr] = []
        for value in values:
            match target:
                case ast.Name(id=name):
                    bound = {name: value}
                case ast.Tuple(elts=parts) if all(isinstance(each, ast.Name) for each in parts):
                    bound = dict(
                        zip([each.id for each in parts if isinstance(each, ast.Name)], value, strict=True)
                    )
                case _:
                    return None
            folder = _FoldExpressions({**self._known, **bound}, self._tensors, self._callable)
            elements.append(folder.visit(clone(node.elt)))
        return ast.List(elements, ast.Load())

    def _choose(self, node: ast.IfExp) -> ast.expr:
        """The branch that is taken, where the test is decided; the other may not even be valid then."""
        test = self.visit(node.test)
        known, value = _constant(test)
        if known:
            chosen: ast.expr = self.visit(node.body if value else node.orelse)
            return chosen
        return ast.IfExp(test, self.visit(node.body), self.visit(node.orelse))

    def _chain(self, node: ast.BoolOp) -> ast.expr:
        """`True and x` is `x`; a decided operand may end the chain, and what follows is not looked at."""
        kept: list[ast.expr] = []
        last: ast.expr = node.values[-1]
        for each in node.values:
            last = self.visit(each)
            known, value = _constant(last)
            if known and bool(value) == isinstance(node.op, ast.And):
                continue
            kept.append(last)
            if known:
                break
        if not kept:
            return last
        return kept[0] if len(kept) == 1 else ast.BoolOp(node.op, kept)

    def _evaluate(self, node: ast.expr) -> tuple[bool, Any]:
        inside = list(walk(node))
        bound = names(*(each.target for each in inside if isinstance(each, ast.comprehension)))
        read = {each.id for each in inside if isinstance(each, ast.Name)} - bound
        if not read <= self._known.keys() | self._callable.keys() or any(
            read & each for each in self._hidden
        ):
            return False, None
        if isinstance(node, ast.Name) and node.id not in self._known:
            return False, None
        code = compile(ast.fix_missing_locations(ast.Expression(node)), "<lowering>", "eval")
        namespace = {**self._callable, **self._known, "__builtins__": {}}
        value = eval(code, namespace)  # the code is a lowering's own, over the values of its attributes
        try:
            literal(value)
        except TypeError:
            return False, None
        return True, value


_TF_KINDS = {"is_floating": "f", "is_integer": "iu", "is_unsigned": "u", "is_bool": "b", "is_complex": "c"}


class _FactReader(ast.NodeTransformer):
    """What a body asks about a tensor parameter, as constants where the answer is known.

    `x.ndim`, `x.dim()`, `x.shape.rank`; `x.is_floating_point()`, `x.dtype == torch.bool`,
    `x.dtype in (torch.int8, torch.uint8)`; `tf.as_dtype(x.dtype).is_floating` and its like (the dtype of
    a constant of a module is numpy's, and that of a variable a name).
    """

    def __init__(self, tensors: Mapping[str, Facts]) -> None:
        self._tensors = tensors

    def _facts(self, node: ast.expr) -> Facts | None:
        return self._tensors.get(node.id) if isinstance(node, ast.Name) else None

    def _dtype(self, node: ast.expr) -> str | None:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="tf"), attr="as_dtype"), args=[inner]):
                node = inner
        if isinstance(node, ast.Attribute) and node.attr == "dtype":
            facts = self._facts(node.value)
            return None if facts is None else facts.dtype
        return None

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        answer: int | bool | None = None
        if node.attr == "ndim":
            facts = self._facts(node.value)
            answer = None if facts is None else facts.rank
        elif node.attr == "rank" and isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
            facts = self._facts(node.value.value)
            answer = None if facts is None else facts.rank
        elif node.attr in _TF_KINDS:
            dtype = self._dtype(node.value)
            answer = None if dtype is None else _kind(dtype) in _TF_KINDS[node.attr]
        return ast.Constant(answer) if answer is not None else self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        match node:
            case ast.Compare(
                left=left,
                ops=[ast.Eq() | ast.NotEq() as op],
                comparators=[ast.Attribute(value=ast.Name(id="torch" | "tf"), attr=other)],
            ):
                dtype = self._dtype(left)
                if dtype is not None:
                    return ast.Constant((dtype == other) == isinstance(op, ast.Eq))
            case ast.Compare(left=left, ops=[ast.In()], comparators=[ast.Tuple(elts=elements)]):
                dtype = self._dtype(left)
                names = [each.attr for each in elements if isinstance(each, ast.Attribute)]
                if dtype is not None and len(names) == len(elements):
                    return ast.Constant(dtype in names)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(func=ast.Name(id="len"), args=[ast.Name() as name]):
                facts = self._facts(name)
                if facts is not None and facts.elements is not None:
                    return ast.Constant(len(facts.elements))
            case ast.Call(func=ast.Attribute(value=ast.Name() as name, attr=attr), args=[], keywords=[]):
                facts = self._facts(name)
                if facts is not None and attr == "dim" and facts.rank is not None:
                    return ast.Constant(facts.rank)
                if facts is not None and facts.dtype is not None:
                    if attr == "is_floating_point":
                        return ast.Constant(_kind(facts.dtype) == "f")
                    if attr == "is_complex":
                        return ast.Constant(_kind(facts.dtype) == "c")
        return self.generic_visit(node)


def _kind(dtype: str) -> str:
    """The kind of a dtype as numpy letters it; the extension types (`bfloat16`) count as floats."""
    if dtype.startswith(("bfloat", "float")):
        return "f"
    return {"int": "i", "uint": "u", "bool": "b", "complex": "c"}.get(dtype.rstrip("0123456789"), "O")


def _is_none(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _whole_axis(node: ast.expr) -> ast.expr:
    """`slice(None)` among indices as the colon that it stands for; any other index itself."""
    match node:
        case ast.Call(func=ast.Name(id="slice"), args=[ast.Constant(value=None)], keywords=[]):
            return ast.Slice()
        case _:
            return node


def _unpacked(node: ast.expr) -> list[ast.expr]:
    """The elements that a starred tuple or list display stands for; any other expression itself."""
    match node:
        case ast.Starred(value=ast.Tuple(elts=elements) | ast.List(elts=elements)):
            return elements
        case _:
            return [node]


def _keywords(keyword: ast.keyword) -> list[ast.keyword]:
    """The keyword arguments that an unpacked dict display stands for; any other one itself."""
    match keyword:
        case ast.keyword(arg=None, value=ast.Dict(keys=keys, values=values)):
            names = [str(each.value) for each in keys if isinstance(each, ast.Constant)]
            if len(names) < len(keys):
                return [keyword]
            return [ast.keyword(name, value) for name, value in zip(names, values, strict=True)]
        case _:
            return [keyword]


def _constant(node: ast.expr) -> tuple[bool, Any]:
    try:
        return True, ast.literal_eval(node)
    except (ValueError, TypeError):
        pass
    text = ast.unparse(node)
    special = {"math.inf": math.inf, "-math.inf": -math.inf, "math.nan": math.nan}
    return (True, special[text]) if text in special else (False, None)


def _single_expression(statements: list[ast.stmt]) -> ast.expr | None:
    """The returned expression, with each local variable that is read once put in its place."""
    *assignments, last = statements
    if not isinstance(last, ast.Return) or last.value is None:
        return None
    values: dict[str, ast.expr] = {}
    for statement in assignments:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            return None
        replaced = _replace_once(statement.value, values)
        if replaced is None:
            return None
        values[statement.targets[0].id] = replaced
    return _replace_once(last.value, values)


def _replace_once(expression: ast.expr, values: dict[str, ast.expr]) -> ast.expr | None:
    """Put local values in place; None if one would be written twice (it would be computed twice)."""
    reads = [each.id for each in walk(expression) if isinstance(each, ast.Name)]
    if any(reads.count(name) > 1 and not isinstance(value, ast.Name) for name, value in values.items()):
        return None
    result: ast.expr = _ReplaceNames({k: v for k, v in values.items() if k in reads}).visit(expression)
    return result


class _ReplaceNames(ast.NodeTransformer):
    def __init__(self, values: Mapping[str, ast.expr]) -> None:
        self._values = values

    def visit_Name(self, node: ast.Name) -> ast.AST:
        value = self._values.get(node.id)
        return node if value is None else clone(value)


class _Substitution(ast.NodeTransformer):
    """Writes the bound tensors; a 0-d constant is a plain number beside another tensor, typed elsewhere."""

    def __init__(self, tensors: Mapping[str, Facts]) -> None:
        self._tensors = tensors

    def _plain(self, node: ast.expr) -> ast.expr | None:
        if isinstance(node, ast.Name) and node.id in self._tensors:
            scalar = self._tensors[node.id].scalar
            return None if scalar is None else literal(scalar)
        return None

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        left, right = self._plain(node.left), self._plain(node.right)
        if left is not None and right is not None:
            right = None
        new_left = left if left is not None else self.visit(node.left)
        new_right = right if right is not None else self.visit(node.right)
        return ast.BinOp(new_left, node.op, new_right)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        plain = self._plain(node.comparators[0]) if len(node.comparators) == 1 else None
        if plain is None:
            return self.generic_visit(node)
        return ast.Compare(self.visit(node.left), node.ops, [plain])

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        node.args = [inner for each in node.args for inner in _unpacked(each)]
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=int() as index)):
                elements = self._tensors[name].elements if name in self._tensors else None
                if elements is not None:
                    return clone(elements[index])
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        facts = self._tensors.get(node.id)
        if facts is None:
            return node
        return clone(facts.typed_scalar if facts.typed_scalar is not None else facts.expression)


def _substitute(expression: ast.expr, tensors: Mapping[str, Facts]) -> ast.expr:
    result: ast.expr = _Substitution(tensors).visit(clone(expression))
    return result
