"""What a Paddle-Lite ``.nb`` file holds, as plain dataclasses.

The names follow ``lite/model_parser/flatbuffers/framework.fbs`` and ``param.fbs`` of Paddle-Lite v2.13-rc;
the numbers of the kernel places follow ``lite/api/paddle_place.h``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

KERNEL_ATTR = "__@kernel_type_attr@__"


class AttrType(IntEnum):
    """Kind of an attribute's value (``AttrType`` in framework.fbs)."""

    INT = 0
    FLOAT = 1
    STRING = 2
    INTS = 3
    FLOATS = 4
    STRINGS = 5
    BOOLEAN = 6
    BOOLEANS = 7
    BLOCK = 8
    LONG = 9
    BLOCKS = 10
    LONGS = 11
    FLOAT64S = 12
    VAR = 13
    VARS = 14
    FLOAT64 = 15


class VarKind(IntEnum):
    """Kind of a variable, and data type of a tensor (``VarType_.Type`` in framework.fbs)."""

    BOOL = 0
    INT16 = 1
    INT32 = 2
    INT64 = 3
    FP16 = 4
    FP32 = 5
    FP64 = 6
    LOD_TENSOR = 7
    SELECTED_ROWS = 8
    FEED_MINIBATCH = 9
    FETCH_LIST = 10
    STEP_SCOPES = 11
    LOD_RANK_TABLE = 12
    LOD_TENSOR_ARRAY = 13
    PLACE_LIST = 14
    READER = 15
    RAW = 17
    TUPLE = 18
    SIZE_T = 19
    UINT8 = 20
    INT8 = 21


DTYPES: dict[VarKind, np.dtype] = {
    VarKind.BOOL: np.dtype("?"),
    VarKind.INT16: np.dtype("<i2"),
    VarKind.INT32: np.dtype("<i4"),
    VarKind.INT64: np.dtype("<i8"),
    VarKind.FP16: np.dtype("<f2"),
    VarKind.FP32: np.dtype("<f4"),
    VarKind.FP64: np.dtype("<f8"),
    VarKind.UINT8: np.dtype("u1"),
    VarKind.INT8: np.dtype("i1"),
}
KINDS: dict[np.dtype, VarKind] = {dtype: kind for kind, dtype in DTYPES.items()}

TARGETS = {
    1: "host", 2: "x86", 3: "cuda", 4: "arm", 5: "opencl", 6: "any", 7: "fpga", 8: "npu", 9: "xpu", 10: "bm",
    11: "mlu", 12: "rknpu", 13: "apu", 14: "huawei_ascend_npu", 15: "imagination_nna", 16: "intel_fpga",
    17: "metal", 18: "nnadapter",
}  # fmt: skip
PRECISIONS = {
    1: "float", 2: "int8", 3: "int32", 4: "any", 5: "fp16", 6: "bool", 7: "int64", 8: "int16", 9: "uint8",
    10: "fp64",
}  # fmt: skip
LAYOUTS = {1: "nchw", 2: "any", 3: "nhwc"}

AttrValue = (
    int | float | bool | str | tuple[int, ...] | tuple[float, ...] | tuple[bool, ...] | tuple[str, ...]
)


@dataclass(frozen=True)
class Attr:
    """One attribute: its kind and its value (lists are tuples, BLOCK values are block indices).

    >>> Attr(AttrType.INTS, (1, 1)).value
    (1, 1)
    """

    type: AttrType
    value: AttrValue


@dataclass(frozen=True)
class Kernel:
    """The kernel that ``opt`` chose for an op: ``op/alias/target/precision/layout``.

    >>> Kernel.parse("conv2d/int8_out/4/2/1").precision
    'int8'
    """

    op: str
    alias: str
    target: str
    precision: str
    layout: str

    @classmethod
    def parse(cls, text: str) -> Kernel:
        """Read the attribute's text; numbers nobody knows stay as text.

        Raises:
            ValueError: the text has not five parts separated by ``/``.
        """
        parts = text.split("/")
        if len(parts) != 5:
            raise ValueError(f"kernel {text!r} has {len(parts)} parts, not 5")
        op, alias, target, precision, layout = parts
        return cls(op, alias, _named(TARGETS, target), _named(PRECISIONS, precision), _named(LAYOUTS, layout))

    @property
    def text(self) -> str:
        """The attribute's text again."""
        numbers = [_number(TARGETS, self.target), _number(PRECISIONS, self.precision)]
        return "/".join([self.op, self.alias, *numbers, _number(LAYOUTS, self.layout)])


def _named(table: dict[int, str], number: str) -> str:
    return table.get(int(number), number) if number.isdecimal() and len(number) < 4 else number


def _number(table: dict[int, str], name: str) -> str:
    return next((str(number) for number, known in table.items() if known == name), name)


@dataclass
class Op:
    """One operator: arguments by parameter name, attributes by name."""

    type: str
    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    outputs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    attrs: dict[str, Attr] = field(default_factory=dict)
    is_target: bool = False

    @property
    def kernel(self) -> Kernel | None:
        """The kernel chosen by ``opt``; None where the op carries none."""
        attr = self.attrs.get(KERNEL_ATTR)
        if attr is None or not isinstance(attr.value, str):
            return None
        try:
            return Kernel.parse(attr.value)
        except ValueError:
            return None

    def attr(self, name: str, default: AttrValue | None = None) -> AttrValue | None:
        """The value of an attribute, or ``default`` where the op has none of that name."""
        found = self.attrs.get(name)
        return default if found is None else found.value

    def copy(self) -> Op:
        """A copy whose dictionaries can be changed alone."""
        return Op(self.type, dict(self.inputs), dict(self.outputs), dict(self.attrs), self.is_target)


@dataclass(frozen=True)
class Var:
    """One variable of a block; ``dims`` and ``data_type`` are None where the file gives no tensor."""

    name: str
    kind: VarKind = VarKind.LOD_TENSOR
    data_type: VarKind | None = None
    dims: tuple[int, ...] | None = None
    lod_level: int = 0
    persistable: bool = False
    need_check_feed: bool = False


@dataclass
class Block:
    """Variables and operators in the order they run."""

    vars: list[Var] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    idx: int = 0
    parent_idx: int = 0
    forward_block_idx: int = -1


@dataclass
class Program:
    """The topology: blocks (the first is run), and the versions written beside it."""

    blocks: list[Block] = field(default_factory=list)
    version: int | None = None
    op_versions: dict[str, int] | None = None

    def copy(self) -> Program:
        """A copy whose lists and ops can be changed alone."""
        blocks = [
            Block(list(b.vars), [op.copy() for op in b.ops], b.idx, b.parent_idx, b.forward_block_idx)
            for b in self.blocks
        ]
        versions = None if self.op_versions is None else dict(self.op_versions)
        return Program(blocks, self.version, versions)


@dataclass
class NbModel:
    """A whole file: ``params`` maps a name to its array, whose dtype is the stored data type."""

    opt_version: str
    program: Program
    params: dict[str, np.ndarray] = field(default_factory=dict)
    meta_version: int = 2
    topology_bytes: int = 0
    file_bytes: int = 0

    def copy(self) -> NbModel:
        """A copy whose program and parameter table can be changed alone (arrays are shared)."""
        return NbModel(
            self.opt_version, self.program.copy(), dict(self.params), self.meta_version,
            self.topology_bytes, self.file_bytes,
        )  # fmt: skip

    @property
    def ops(self) -> list[Op]:
        """The operators of the block that is run."""
        return self.program.blocks[0].ops if self.program.blocks else []
