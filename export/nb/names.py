"""Names within a model: which tensors its ops name, where else a name may stand, and how they are changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count, product

from export.nb.model import AttrType, NbModel, Op, Var, VarKind


def all_ops(model: NbModel) -> Iterator[Op]:
    """The ops of all blocks, in order."""
    for block in model.program.blocks:
        yield from block.ops


def names_of(op: Op) -> list[str]:
    """Every tensor an op reads or writes, once for each time it does."""
    return [name for names in [*op.inputs.values(), *op.outputs.values()] for name in names]


def reads(model: NbModel, name: str) -> int:
    """How often ops name a tensor."""
    return sum(names_of(op).count(name) for op in all_ops(model))


def is_tensor(var: Var) -> bool:
    """Whether it is one, and not the list that feed or fetch works on."""
    return var.kind is VarKind.LOD_TENSOR


def texts(model: NbModel) -> set[str]:
    """All texts in attributes: subgraph and control flow ops name variables there."""
    found: set[str] = set()
    for op in all_ops(model):
        for attr in op.attrs.values():
            if attr.type is AttrType.STRING:
                found.add(str(attr.value))
            elif attr.type is AttrType.STRINGS and isinstance(attr.value, tuple):
                found.update(str(text) for text in attr.value)
    return found


def fixed_names(model: NbModel) -> set[str]:
    """Names that belong to the outside: what feed writes and fetch reads, and their own lists."""
    found: set[str] = set()
    for op in all_ops(model):
        if op.type in ("feed", "fetch"):
            found.update(names_of(op))
    found.update(var.name for block in model.program.blocks for var in block.vars if not is_tensor(var))
    return found


def short_names(taken: set[str]) -> Iterator[str]:
    """Names that are not taken, the shortest first, without end.

    >>> names = short_names({"a"})
    >>> next(names), next(names)
    ('b', 'c')
    """
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for length in count(1):
        for combination in product(letters, repeat=length):
            name = "".join(combination)
            if name not in taken:
                yield name


def rename(model: NbModel, renamed: Mapping[str, str]) -> None:
    """Old name -> new one, in what the ops read and write."""
    if not renamed:
        return
    for op in all_ops(model):
        op.inputs = {k: tuple(renamed.get(n, n) for n in names) for k, names in op.inputs.items()}
        op.outputs = {k: tuple(renamed.get(n, n) for n in names) for k, names in op.outputs.items()}
