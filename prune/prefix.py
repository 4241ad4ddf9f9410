"""Running a net from the middle: what lies before a masked layer is computed once.

A net that is a chain of units (conv1, blocks, conv2, pool, neck, head) is run unit by unit; the input
of each unit is kept for every batch. Masking a layer then costs only the units from that layer on.
Any other net is one unit: right, only slower.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import paddle
from paddle import nn

from slim.arch.build import Net
from slim.arch.mobilenet_v3 import MobileNetV3Line

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
    if type(net) is nn.Sequential:
        return list(net.named_children())
    return [("", net)]


class PrefixRunner:
    """Outputs of a net on fixed batches, recomputed only from the first changed unit on."""

    def __init__(self, net: nn.Layer, batches: Sequence[np.ndarray]) -> None:
        """Run every batch once.

        Args:
            batches: float32 N x C x H x W each.
        """
        net.eval()
        self._units = units(net)
        self._stored: list[list[paddle.Tensor]] = [[paddle.to_tensor(b) for b in batches]]
        self.outputs = [out.numpy() for out in self._fill()]
        with paddle.no_grad():
            whole = net(self._stored[0][0]).numpy()
        if not np.array_equal(whole, self.outputs[0]):  # a forward that is more than its children
            self._units = [("", net)]
            self._stored = self._stored[:1]
            self.outputs = [out.numpy() for out in self.run([])]

    def _fill(self) -> list[paddle.Tensor]:
        used = sum(t.numel().item() * 4 for t in self._stored[0])
        current, keep = self._stored[0], True
        with paddle.no_grad():
            for _, layer in self._units:
                current = [layer(x) for x in current]
                used += sum(x.numel().item() * 4 for x in current)
                keep = keep and used < _MEMORY
                if keep and layer is not self._units[-1][1]:
                    self._stored.append(current)
        return current

    def first(self, paths: Iterable[str]) -> int:
        """Number of the first unit that holds one of the layers; 0 when any is in no unit."""
        found = []
        for path in paths:
            holders = [i for i, (unit, _) in enumerate(self._units) if f"{path}.".startswith(f"{unit}.")]
            found.append(holders[0] if holders else 0)
        return min(found, default=0)

    def run(self, changed: Iterable[str]) -> list[paddle.Tensor]:
        """The net's outputs, batch by batch, after weights of the ``changed`` layers moved."""
        start = min(self.first(changed), len(self._stored) - 1)
        results = []
        with paddle.no_grad():
            for x in self._stored[start]:
                for _, layer in self._units[start:]:
                    x = layer(x)
                results.append(x)
        return results
