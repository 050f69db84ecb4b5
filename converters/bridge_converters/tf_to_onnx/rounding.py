"""Rounding as noise: which operators round, and what their results look like if they round otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from bridge.worker.rounding import units_of_sum

_NAMES = """
    Abs ArgMax ArgMin BatchToSpace BatchToSpaceND Bitcast BroadcastTo Case Cast Ceil ClipByValue Concat
    ConcatV2 Const DeepCopy DepthToSpace Diag DiagPart DynamicPartition DynamicStitch EnsureShape Enter
    Exit ExpandDims ExtractImagePatches Fill Floor Gather GatherNd GatherV2 Identity IdentityN If
    InvertPermutation LoopCond MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV2
    MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 Max MaxPool
    MaxPool3D MaxPoolV2 MaxPoolWithArgmax Maximum Merge Min Minimum MirrorPad Neg NextIteration OneHot
    OnesLike Pack Pad PadV2 ParallelDynamicStitch PartitionedCall Placeholder PlaceholderV2
    PlaceholderWithDefault PreventGradient Range ReadVariableOp Real Relu Relu6 Reshape
    ResizeNearestNeighbor ResourceGather ResourceGatherNd Reverse ReverseSequence ReverseV2 Rint Roll
    Round ScatterNd SegmentMax SegmentMin Select SelectV2 Shape Sign Slice Snapshot Sort SpaceToBatch
    SpaceToBatchND SpaceToDepth Split SplitV Squeeze StatefulPartitionedCall StatelessCase StatelessIf
    StatelessWhile StopGradient StridedSlice Switch TensorArrayGatherV3 TensorArrayReadV3
    TensorArrayScatterV3 TensorArrayV3 TensorArrayWriteV3 TensorListConcatV2 TensorListElementShape
    TensorListFromTensor TensorListGather TensorListGetItem TensorListLength TensorListPopBack
    TensorListPushBack TensorListReserve TensorListResize TensorListScatterV2 TensorListSetItem
    TensorListSplit TensorListStack TensorScatterUpdate TensorStridedSliceUpdate Tile TopK TopKV2
    Transpose Trunc Unique UniqueV2 Unpack UnsortedSegmentMax UnsortedSegmentMin VarHandleOp Variable
    VariableV2 Where While ZerosLike
"""
MOVES = frozenset(_NAMES.split())
"""Operators whose results need no rounding: they move numbers, choose among them, or change signs."""


class Noise:
    """Multiplies results by 1 + unit * r, r uniform in [-1, 1) and new for every element.

    A sum over axes is off by as many units as `units_of_sum` says.
    """

    def __init__(self, unit: float, seed: int) -> None:
        self._unit = unit
        self._seed = seed
        self._drawn = 0

    def disturb(self, op: str, inputs: Sequence[Any], value: tf.Tensor) -> tf.Tensor:
        """An operator's result as another rounding might have left it; what is not floating is left alone."""
        if not value.dtype.is_floating:
            return value
        self._drawn += 1
        unit = self._unit * units_of_sum(_summed_terms(op, inputs, value))
        noise = tf.random.stateless_uniform(
            tf.shape(value), [self._seed, self._drawn], -1.0, 1.0, dtype=value.dtype
        )
        return value * (1 + unit * noise)


_SUMS = frozenset({"Mean", "Sum", "EuclideanNorm", "SegmentSum", "UnsortedSegmentSum"})


def _summed_terms(op: str, inputs: Sequence[Any], result: tf.Tensor) -> float:
    """How many terms of the first input an element of the result sums up; 1 where it is no sum over axes."""
    if op == "Cumsum":
        return float(max(inputs[0].shape.as_list(), default=1))
    if op not in _SUMS:
        return 1.0
    return float(tf.size(inputs[0])) / max(float(tf.size(result)), 1.0)
