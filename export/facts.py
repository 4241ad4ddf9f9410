"""What an nb file says of itself, as plain data for results and reports."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from export.nb.format import NbModel

_NO_WORK = ("feed", "fetch")
# Ops that have int8 kernels and weights; calib converts between int8 and float and has none.
_WEIGHTED = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "fc", "mul", "matmul", "matmul_v2")


@dataclass(frozen=True)
class NbFacts:
    """One nb file.

    Attributes:
        bytes: of the file; ``bytes_from_opt`` as opt wrote it; ``topology_bytes`` of the graph alone.
        bytes_by_dtype: numpy dtype name -> bytes of parameters.
        kernels: op type -> {"int8": count, "float": count, ...} by the kernel's precision.
        int8_layers, float_layers: convs and linear layers by the precision they are computed in.
        int8_weights: parameters of the layers computed in int8.
        opt_version: as written in the file.
        fixes: program fix -> places changed; ``passes``: compaction pass -> changes.
    """

    target: str
    bytes: int
    bytes_from_opt: int
    topology_bytes: int
    bytes_by_dtype: dict[str, int]
    kernels: dict[str, dict[str, int]]
    int8_layers: int
    float_layers: int
    int8_weights: tuple[str, ...]
    opt_version: str
    fixes: dict[str, int] = field(default_factory=dict)
    passes: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def nb_facts(
    model: NbModel,
    target: str,
    bytes_from_opt: int,
    *,
    fixes: dict[str, int] | None = None,
    passes: dict[str, int] | None = None,
) -> NbFacts:
    """Count a file as read by `export.nb.format.read_nb`."""
    kernels: dict[str, Counter[str]] = {}
    layers: Counter[str] = Counter()
    weights: list[str] = []
    for op in model.ops:
        if op.type in _NO_WORK:
            continue
        precision = op.kernel.precision if op.kernel is not None else "none"
        kernels.setdefault(op.type, Counter())[precision] += 1
        if op.type in _WEIGHTED:
            layers["int8" if precision == "int8" else "float"] += 1
            if precision == "int8":
                read = (name for slot in ("Filter", "W", "Y") for name in op.inputs.get(slot, ()))
                weights += [name for name in read if name in model.params]
    dtypes: Counter[str] = Counter()
    for array in model.params.values():
        dtypes[array.dtype.name] += int(array.nbytes)
    return NbFacts(
        target=target,
        bytes=model.file_bytes,
        bytes_from_opt=bytes_from_opt,
        topology_bytes=model.topology_bytes,
        bytes_by_dtype=dict(sorted(dtypes.items())),
        kernels={kind: dict(sorted(count.items())) for kind, count in sorted(kernels.items())},
        int8_layers=layers["int8"],
        float_layers=layers["float"],
        int8_weights=tuple(weights),
        opt_version=model.opt_version,
        fixes=fixes or {},
        passes=passes or {},
    )
