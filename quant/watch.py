"""One pass over images in which what enters chosen layers is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

Look = Callable[[nn.Layer, paddle.Tensor], None]


def watch(
    net: nn.Layer,
    looks: Mapping[str, Look],
    batches: Iterable[npt.NDArray[np.float32]],
    advance: Callable[[int], object] | None = None,
) -> int:
    """Run a net over batches without gradients, and show each layer's input to its look.

    Args:
        net: in eval mode; it stays as it is.
        looks: layer path -> called with the layer and its first input, once for each batch.
        batches: float32 N x C x H x W, read once.
        advance: told the number of images after each batch.
    Returns:
        Images that were seen.

    >>> watch(net, {"head.fc": lambda layer, x: shapes.append(x.shape)}, [images])
    8
    """
    layers = dict(net.named_sublayers())
    hooks = [layers[path].register_forward_pre_hook(partial(_show, look)) for path, look in looks.items()]
    count = 0
    try:
        with paddle.no_grad():
            for batch in batches:
                net(paddle.to_tensor(batch))
                count += len(batch)
                if advance is not None:
                    advance(len(batch))
    finally:
        for hook in hooks:
            hook.remove()
    return count


def _show(look: Look, layer: nn.Layer, inputs: tuple[paddle.Tensor, ...]) -> None:
    look(layer, inputs[0])
