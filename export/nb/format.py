"""The ``.nb`` file format of Paddle-Lite: its data model, reader and writer.

This module gathers the names that other parts use; docs/NB_FORMAT.md describes the bytes.

Example::

    model = read_nb("model.nb")
    print(model.opt_version, len(model.ops), sum(a.nbytes for a in model.params.values()))
    write_nb(model, "smaller.nb")
"""

from __future__ import annotations

from export.nb.model import (
    DTYPES,
    KERNEL_ATTR,
    Attr,
    AttrType,
    Block,
    Kernel,
    NbModel,
    Op,
    Program,
    Var,
    VarKind,
)
from export.nb.reader import parse_nb, read_nb
from export.nb.writer import encode_nb, write_nb

__all__ = [
    "DTYPES", "KERNEL_ATTR", "Attr", "AttrType", "Block", "Kernel", "NbModel", "Op", "Program", "Var",
    "VarKind", "encode_nb", "parse_nb", "read_nb", "write_nb",
]  # fmt: skip
