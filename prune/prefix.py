"""Running a net from the middle: what lies before a masked layer is computed once.

A net that is a chain of units (conv1, blocks, conv2, pool, neck, head) is run unit by unit; the input
of each unit is kept for every batch. Masking a layer then costs only the units from that layer on.
Any other net is one unit: right, only slower. Units are compiled (`prune.compiled`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

from prune.compiled import Call, CompiledUnit
from slim.arch.build import Net
from slim.arch.mobilenet_v3 import MobileNetV3Line
from slim.arch.sequential import Layers
from slim.errors import StageFailed
from slim.numerics import max_abs

Array = npt.NDArray[np.float32]

_AGREEMENT = 1e-3
"""Largest absolute difference of a probability between the compiled net and the net: oneDNN adds up in
another order, 1e-5 on the bundled models."""
_MEMORY = 1 << 30
"""Bytes of stored activations; beyond it only the images themselves are kept."""


def units(net: nn.Layer) -> list[tuple[str, nn.Layer]]:
    """Path and layer of the links of a chain that equals the net; one link for a net of another form.

    >>> [path for path, _ in units(nn.Sequential(nn.ReLU(), nn.Sigmoid()))]
    ['0', '1']
    """
    if isinstance(net, Net) and isinstance(net.backbone, MobileNetV3Line):
        back = net.backbone
        chain = [("backbone.conv1", back.conv1)]
        chain += [(f"backbone.blocks.{i}", block) for i, block in enumerate(back.blocks)]
        chain += [("backbone.conv2", back.conv2), ("backbone.pool", back.pool)]
        return chain + ([("neck", net.neck)] if net.has_neck else []) + [("head", net.head)]
    if isinstance(net, Net) and isinstance(net.backbone, Layers) and not net.backbone.marks:
        chain = [(f"backbone.layers.{name}", layer) for name, layer in net.backbone.layers.named_children()]
        return chain + ([("neck", net.neck)] if net.has_neck else []) + [("head", net.head)]
    if type(net) is nn.Sequential:
        return list(net.named_children())
    return [("", net)]


class PrefixRunner:
    """Outputs of a net on fixed batches, recomputed only from the first changed unit on."""

    def __init__(self, net: nn.Layer, batches: Sequence[Array]) -> None:
        """Compile the units and run every batch once.

        Args:
            batches: float32 N x C x H x W each; the last may be shorter.
        Raises:
            StageFailed: the compiled net and the net disagree.
        """
        net.eval()
        self._names = [path for path, _ in units(net)]
        self._calls: list[CompiledUnit] = []
        self._stored: list[list[Array]] = [list(batches)]
        self.outputs = self._fill([layer for _, layer in units(net)])
        with paddle.no_grad():
            whole = net(paddle.to_tensor(batches[0])).numpy()
        apart = max_abs(whole, self.outputs[0]) if whole.shape == self.outputs[0].shape else float("inf")
        if not apart <= _AGREEMENT:
            raise StageFailed(
                f"{type(net).__name__} run unit by unit is {apart:g} off the net, at most {_AGREEMENT:g}",
                remedy="report the net's configuration",
            )

    def _fill(self, layers: Sequence[nn.Layer]) -> list[Array]:
        current, used, keep = self._stored[0], 0, True
        for layer in layers:
            unit = CompiledUnit(layer, current[0])
            self._calls.append(unit)
            current = [unit(x) for x in current]
            used += sum(x.nbytes for x in current)
            keep = keep and used < _MEMORY
            if keep and layer is not layers[-1]:
                self._stored.append(current)
        return current

    def holders(self, paths: Iterable[str]) -> set[int]:
        """Numbers of the units that hold the layers."""
        found = set()
        for path in paths:
            inside = [
                i for i, name in enumerate(self._names) if not name or f"{path}.".startswith(f"{name}.")
            ]
            if not inside:
                raise StageFailed(f"layer {path} is in no unit of the chain")
            found.add(inside[0])
        return found

    def run(self, changed: Iterable[str]) -> list[Array]:
        """The net's outputs, batch by batch, with the weights the ``changed`` layers have now."""
        moved = self.holders(changed)
        start = min(min(moved, default=len(self._calls)), len(self._stored) - 1)
        calls: list[Call] = [
            unit.with_current_weights() if i in moved else unit for i, unit in enumerate(self._calls)
        ]
        results = []
        for x in self._stored[start]:
            for call in calls[start:]:
                x = call(x)
            results.append(x)
        return results
