"""Files whose weights alone are integers (opt's ``set_quant_model``): the runtime makes floats of them.

Source: ``LightPredictor::DequantizeWeight`` in ``lite/api/light_api.cc``. An op with ``quantize_weight_bits``
names the inputs it stores as int8 or int16 by attributes ``<variable>_quant_scale``: one scale per output
channel, axis 0 for convs, the last axis for fc. Kernels are float: such a file is smaller, not faster.
"""

from __future__ import annotations

import numpy as np

from export.nb.model import NbModel, Op
from slim.errors import UnsupportedModel

BITS = "quantize_weight_bits"
_SCALE = "_quant_scale"
_CONVS = ("conv2d", "depthwise_conv2d")
_PRODUCTS = ("fc", "mul")


def is_weight_only(model: NbModel) -> bool:
    """Whether some op reads integer weights that are made float at load."""
    return any(op.attr(BITS) is not None for op in model.ops)


def dequantized(model: NbModel) -> NbModel:
    """A copy with float32 parameters, as they stand in memory once the runtime has loaded the file.

    >>> from export.nb.model import Attr, AttrType, Block, Program
    >>> marks = {BITS: Attr(AttrType.INT, 8), "w_quant_scale": Attr(AttrType.FLOATS, (0.5, 2.0))}
    >>> op = Op("fc", {"W": ("w",)}, {"Out": ("y",)}, marks)
    >>> found = dequantized(NbModel("", Program([Block(ops=[op])]), {"w": np.array([[2, 3]], np.int8)}))
    >>> found.params["w"].tolist()
    [[1.0, 6.0]]

    Raises:
        UnsupportedModel: scales do not fit a weight, or the op is none the runtime knows.
    """
    params = dict(model.params)
    for op in model.ops:
        if op.attr(BITS) is None:
            continue
        for name in {name for names in op.inputs.values() for name in names}:
            scales = op.attr(name + _SCALE)
            if scales is not None and params[name].dtype in (np.int8, np.int16):
                params[name] = _floats(op, name, params[name], np.asarray(scales, np.float32))
    return NbModel(model.opt_version, model.program, params, model.meta_version)


def _floats(op: Op, name: str, integers: np.ndarray, scales: np.ndarray) -> np.ndarray:
    if op.type not in (*_CONVS, *_PRODUCTS):
        raise UnsupportedModel(f"{name!r} is stored as {integers.dtype}, which nothing reads", where=op.type)
    axis = 0 if op.type in _CONVS else integers.ndim - 1
    if scales.ndim != 1 or scales.size != integers.shape[axis]:
        raise UnsupportedModel(
            f"{name!r} of shape {list(integers.shape)} has {scales.size} scales", where=op.type
        )
    shape = [1] * integers.ndim
    shape[axis] = -1
    return integers.astype(np.float32) * scales.reshape(shape)
