"""Bias correction and learned rounding, layer by layer in the order the net runs, in one pass.

The float net runs on a batch of 2N images: rows 0..N are the float path, rows N..2N the quantized path,
both fed with the same N images. Behind each quantized layer a hook replaces the second half by what the
quantized layer gives there, corrected; so every layer sees the inputs that the corrected layers before it
leave, as Nagel et al. ask for (2019, arXiv 1906.04721, appendix D; 2020, arXiv 2004.10568, equation 25).
In eval mode nothing mixes the rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

from quant import rounding
from quant.layers import (
    Rows,
    by_channel,
    channel_mean,
    from_rows,
    nearest,
    product,
    rounded_input,
    rows,
)
from quant.scheme import LayerScheme, QuantScheme
from slim.errors import UnsupportedModel
from slim.progress import Reporter, Silent

if TYPE_CHECKING:
    from quant.follow import Behind

IMAGES = 256
"""Most lines that are reconstructed on: they are in memory at once, at every layer."""
POSITIONS = 32
"""Most output positions of an image whose inputs are collected for learned rounding."""


@dataclass
class Correction:
    """What the pass found out for each layer.

    Attributes:
        shift: path -> mean of (quantized - float output) of each output channel, before correction.
        weights: path -> out x K on the grid, where rounding was learned.
    """

    shift: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    weights: dict[str, Rows] = field(default_factory=dict)


def where_bias_goes(net: nn.Layer, scheme: QuantScheme, following: Mapping[str, Behind]) -> dict[str, str]:
    """Path of each layer that can be corrected -> the tensor that takes the correction.

    A layer's own bias if it has one; else the running mean of the BatchNorm behind it: that subtracts its
    mean from the layer's output, so mean + shift takes the shift off, and ``opt`` folds it into the bias
    of the deployed convolution. A layer with neither has no bias on the device either and stays as it is.
    """
    layers = dict(net.named_sublayers())
    found = {}
    for path in scheme.paths:
        after = following.get(path)
        if layers[path].bias is not None:
            found[path] = f"{path}.bias"
        elif after is not None and after.batch_norm is not None:
            found[path] = f"{after.batch_norm}._mean"
    return found


def reconstruct(
    net: nn.Layer,
    scheme: QuantScheme,
    batches: Iterable[npt.NDArray[np.float32]],
    *,
    correct: Mapping[str, str],
    adaround: bool,
    progress: Reporter | None = None,
) -> None:
    """Change a float net's weights and biases in place, so that quantizing it by ``scheme`` costs less.

    Args:
        net: the float net, in eval mode.
        scheme: with clips.
        batches: float32 N x C x H x W; the first IMAGES lines are used, all of one size.
        correct: path -> tensor that takes its bias correction (`where_bias_goes`); {}: no correction.
        adaround: learn the rounding of every layer's weights, and write weights that lie on their grid.
    Raises:
        UnsupportedModel: images of different sizes.
    """
    images = _gathered(batches)
    layers = dict(net.named_sublayers())
    done = Correction()
    task = (progress or Silent()).task("reconstruct", len(scheme.layers))
    with task, paddle.no_grad():
        hooks = []
        for one in scheme.layers:
            step = _Step(one, scheme.clips[one.path], one.path in correct, adaround, done, task.advance)
            hooks.append(layers[one.path].register_forward_post_hook(step))
        try:
            net(paddle.to_tensor(np.concatenate([images, images])))
        finally:
            for hook in hooks:
                hook.remove()
    _write(net, correct, done)


def _gathered(batches: Iterable[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    kept: list[npt.NDArray[np.float32]] = []
    for batch in batches:
        if kept and batch.shape[1:] != kept[0].shape[1:]:
            raise UnsupportedModel(
                "bias correction and adaround need images of one size",
                remedy="set Quant.bias_correction to false and Quant.rounding to nearest",
            )
        kept.append(batch)
        if sum(map(len, kept)) >= IMAGES:
            break
    return np.concatenate(kept)[:IMAGES]


@dataclass
class _Step:
    """The hook behind one layer."""

    scheme: LayerScheme
    clip: float
    correct: bool
    adaround: bool
    done: Correction
    tell: Callable[[], object]

    def __call__(
        self, layer: nn.Layer, inputs: tuple[paddle.Tensor, ...], output: paddle.Tensor
    ) -> paddle.Tensor:
        exact, second = paddle.split(inputs[0], 2)
        given = rounded_input(second, self.clip, self.scheme.activation_bits)
        target = paddle.split(output, 2)[0]
        weights = self._weights(layer, exact, given)
        result = product(layer, given, from_rows(layer, weights))
        if layer.bias is not None:
            result = result + by_channel(layer, layer.bias.numpy())
        if self.correct:
            shift = channel_mean(layer, result) - channel_mean(layer, target)
            self.done.shift[self.scheme.path] = shift
            result = result - by_channel(layer, shift)
        self.tell()
        return paddle.concat([target, result])

    def _weights(self, layer: nn.Layer, exact: paddle.Tensor, given: paddle.Tensor) -> Rows:
        if not self.adaround:
            return nearest(rows(layer), self.scheme.weight_bits)
        moments = collect(layer, exact, given, centred=self.correct)
        learned = rounding.learn(rows(layer), moments, self.scheme.weight_bits)
        self.done.weights[self.scheme.path] = learned
        return learned


def collect(
    layer: nn.Layer, exact: paddle.Tensor, given: paddle.Tensor, *, centred: bool
) -> rounding.Moments:
    """Second moments of what a layer's weights are multiplied with, at POSITIONS places of each image.

    Args:
        exact, given: inputs of the float and of the quantized layer, the same images.
        centred: without the means: bias correction takes care of those.
    """
    x, g = patches(layer, exact.numpy()), patches(layer, given.numpy())
    if centred:
        x, g = x - x.mean(axis=2, keepdims=True), g - g.mean(axis=2, keepdims=True)
    turned = np.ascontiguousarray(g.transpose(0, 2, 1))
    count = x.shape[2]
    return rounding.Moments((g @ turned / count).astype(np.float64), (x @ turned / count).astype(np.float64))


def patches(layer: nn.Layer, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What output positions are computed from: groups x K x (images * positions), float32.

    At most POSITIONS places of an image, the same ones in each: neighbours say much the same.
    """
    if isinstance(layer, nn.Linear):
        flat = x.reshape(len(x), -1, x.shape[-1])
        return flat[:, _places(flat.shape[1])].reshape(-1, x.shape[-1]).T[None]
    kernel, dilation = list(layer.weight.shape[2:]), _pair(layer._dilation)
    stride, pad = _pair(layer._stride), _pair(layer._updated_padding)
    padded = np.pad(x, ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])))
    reach = [dilation[k] * (kernel[k] - 1) + 1 for k in (0, 1)]
    high, wide = ((padded.shape[2 + k] - reach[k]) // stride[k] + 1 for k in (0, 1))
    places = _places(high * wide)
    down = (places // wide * stride[0])[:, None] + dilation[0] * np.arange(kernel[0])
    right = (places % wide * stride[1])[:, None] + dilation[1] * np.arange(kernel[1])
    # images x channels x places x kh x kw
    taken = padded[:, :, down[:, :, None], right[:, None, :]]
    groups, images = layer._groups, len(x)
    taken = taken.reshape(images, groups, -1, len(places), kernel[0] * kernel[1])
    rows_first = taken.transpose(1, 2, 4, 0, 3)
    return np.ascontiguousarray(rows_first).reshape(groups, -1, images * len(places))


def _places(total: int) -> npt.NDArray[np.int64]:
    if total <= POSITIONS:
        return np.arange(total)
    return np.sort(np.random.default_rng(total).choice(total, POSITIONS, replace=False))


def _pair(value: int | list[int] | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _write(net: nn.Layer, correct: Mapping[str, str], done: Correction) -> None:
    layers = dict(net.named_sublayers())
    tensors = dict([*net.named_parameters(), *net.named_buffers()])
    for path, weights in done.weights.items():
        layers[path].weight.set_value(from_rows(layers[path], weights))
    for path, shift in done.shift.items():
        tensor = tensors[correct[path]]
        sign = -1.0 if correct[path].endswith(".bias") else 1.0
        tensor.set_value((tensor.numpy() + sign * shift).astype(np.float32))
