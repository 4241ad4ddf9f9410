"""Which processor a file was made for."""

from __future__ import annotations

from export.nb.model import NbModel
from export.nb.names import all_ops

_NEUTRAL = frozenset(["host", "any"])


def target_of(model: NbModel) -> str:
    """The target of a file's kernels (``lite/api/paddle_place.h``).

    Returns:
        "arm", "x86", "opencl", ...; "host" where all kernels run anywhere; "mixed" for several processors;
        "none" where no op carries a kernel (not written by opt).
    """
    kernels = [op.kernel for op in all_ops(model)]
    known = [kernel.target for kernel in kernels if kernel is not None]
    if not known:
        return "none"
    special = set(known) - _NEUTRAL
    if not special:
        return "host"
    return special.pop() if len(special) == 1 else "mixed"
