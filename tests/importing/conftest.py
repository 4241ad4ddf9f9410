"""Deployed models to import: as this project exports them, and as another exporter would write them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import proto
from export.params import read_params, write_params
from export.program import save_program
from slim.bundle import Bundle
from slim.config import Config, find_config, load_config
from slim.config.spec import model_spec
from slim.importing.graph import Graph
from slim.importing.run import reference_graph, reference_net
from slim.pipeline.opening import open_model
from slim.progress import Silent

RECIPES = {"cls": "cls/ch_ppocr_mobile_v2.0_cls", "rec": "rec/en_number_mobile_v2.0_rec"}


@pytest.fixture(scope="session")
def recipe() -> Callable[..., Config]:
    """The recipe of a bundled model, with overrides."""
    return lambda kind, *changes: load_config(find_config(RECIPES.get(kind, kind)), changes)


@pytest.fixture(scope="session")
def bundled(recipe: Callable[..., Config]) -> dict[str, Bundle]:
    """The two bundled models."""
    return {kind: open_model(None, recipe(kind), Silent()) for kind in RECIPES}


@pytest.fixture(scope="session")
def deployed(bundled: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Their inference programs, as slim export writes them."""
    folders = {kind: tmp_path_factory.mktemp("my models") / kind for kind in bundled}
    for kind, bundle in bundled.items():
        save_program(bundle, folders[kind] / "inference")
    return folders


@pytest.fixture(scope="session")
def net_graph(
    recipe: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Graph]:
    """The graph of a recipe's net; tracing costs seconds, so each is traced once."""

    @lru_cache
    def traced(kind: str, *changes: str) -> Graph:
        net = reference_net(model_spec(recipe(kind, *changes)), 0)
        return reference_graph(net, tmp_path_factory.mktemp("reference"))

    return traced


class Rewriter:
    """An inference program that is changed and written again."""

    def __init__(self, folder: Path) -> None:
        self.program = proto.read_program(folder / "inference.pdmodel")
        names = [variable.name for variable in proto.parameters(self.program)]
        self.params = {k: v.copy() for k, v in read_params(folder / "inference.pdiparams", names).items()}

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        proto.write_program(self.program, folder / "inference.pdmodel")
        write_params(self.params, folder / "inference.pdiparams")
        return folder

    def fold_norms(self) -> int:
        """Each BatchNorm into the convolution before it: weight * s, an add of shift - mean * s behind it."""
        count = 0
        for op in proto.ops(self.program):
            if op.type != "batch_norm":
                continue
            scale, shift, mean, variance = (
                self.params.pop(proto.inputs(op, slot)[0]).astype(np.float64)
                for slot in ("Scale", "Bias", "Mean", "Variance")
            )
            source, target = proto.inputs(op, "X")[0], proto.outputs(op, "Y")[0]
            conv = next(o for o in proto.ops(self.program) if source in proto.outputs(o, "Output"))
            (weight,) = proto.inputs(conv, "Filter")
            by = scale / np.sqrt(variance + proto.attr(op, "epsilon").f)
            self.params[weight] = (self.params[weight] * by[:, None, None, None]).astype(np.float32)
            bias = proto.inputs(op, "Bias")[0]
            self.params[bias] = (shift - mean * by).astype(np.float32)
            self._become_add(op, source, bias, target)
            count += 1
        gone = [v for v in proto.parameters(self.program) if v.name not in self.params]
        for variable in gone:
            self.program.blocks[0].vars.remove(variable)
        return count

    @staticmethod
    def _become_add(op: Any, source: str, bias: str, target: str) -> None:
        for field in (op.inputs, op.outputs, op.attrs):
            del field[:]
        op.type = "elementwise_add"
        for slot, name, field in (
            ("X", source, op.inputs),
            ("Y", bias, op.inputs),
            ("Out", target, op.outputs),
        ):
            added = field.add()
            added.parameter = slot
            added.arguments.append(name)
        axis = op.attrs.add()
        axis.name, axis.type, axis.i = "axis", proto.INT, 1

    def rename(self) -> None:
        """Parameters named by op and number in an order of their own: conv2d_7.w_0, as other exporters do."""
        names = sorted(self.params, key=lambda name: name[::-1])
        new = {name: f"param_{number:03d}.w_0" for number, name in enumerate(names)}
        for variable in self.program.blocks[0].vars:
            variable.name = new.get(variable.name, variable.name)
        for op in proto.ops(self.program):
            for slot in [*op.inputs, *op.outputs]:
                slot.arguments[:] = [new.get(name, name) for name in slot.arguments]
        self.params = {new[name]: array for name, array in self.params.items()}

    def op_of(self, weight: str) -> Any:
        """The op that reads a weight."""
        return proto.readers(self.program, weight)[0][0]


@pytest.fixture
def rewriter() -> type[Rewriter]:
    """The class above, for tests that change a program."""
    return Rewriter


@pytest.fixture(scope="session")
def layer_of() -> Callable[[str], str]:
    """The layer's path that a message names."""

    def read(message: str) -> str:
        found = re.search(r"(?:first at|differs is \w+ of) '?([\w.]+?)(?:\.weight)?'?[:,]", message)
        assert found, message
        return found[1]

    return read
