"""`slim import`: an inference model and its configuration to a checkpoint that can be trained."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slim.errors import InputError, UnsupportedModel
from slim.importing.graph import Graph
from slim.importing.match import match
from slim.importing.proof import Source, prove
from slim.importing.weights import recover
from slim.progress import Reporter
from slim.spec import ModelSpec

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config import Config
    from slim.stage import Check

IMAGES = 8
"""Real images the recovered net is compared on."""


@dataclass(frozen=True)
class Imported:
    """A checkpoint, and what showed that it computes what the source does."""

    out: Path
    name: str
    kind: str
    tensors: int
    sha256: str
    checks: list[Check]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "out": str(self.out),
            "model": self.name,
            "kind": self.kind,
            "tensors": self.tensors,
            "sha256": self.sha256,
            "checks": [check.to_json() for check in self.checks],
            "notes": self.notes,
        }


def import_model(
    source: Path, config: Config, out: Path, *, data: Path | None, seed: int, progress: Reporter
) -> Imported:
    """Recover the weights of ``source`` for the net of ``config`` and write them to ``out``.

    Raises:
        InputError: ``out`` is there already; else as `recovered`.
    """
    from slim.checkpoint import write_pdparams

    target = out if out.suffix == ".pdparams" else out.with_name(f"{out.name}.pdparams")
    if target.exists():
        raise InputError("is there already", where=target, remedy="choose another --out, or delete it")
    bundle, checks, notes = recovered(source, config, data=data, seed=seed, progress=progress)
    state = bundle.state()
    write_pdparams(state, target)
    return Imported(target, bundle.spec.name, bundle.spec.kind, len(state), bundle.sha256(), checks, notes)


def recovered(
    source: Path, config: Config, *, data: Path | None = None, seed: int = 0, progress: Reporter
) -> tuple[Bundle, list[Check], list[str]]:
    """The net of ``config`` with the weights of a deployed model, the checks it passed, and notes.

    Args:
        source: folder, prefix or ``.pdmodel`` of an inference program, or an ``.onnx`` file.
        data: label file of images for the proof; None: rendered lines.
        seed: of the random inputs, and of weights that no inference model holds.
    Raises:
        InputError: a file is missing or damaged.
        UnsupportedModel: the source is another net; the first difference is named.
        StageFailed: the recovered net computes something else.
    """
    from slim.config.spec import model_spec

    graph, runner = _open(source)
    reference = reference_net(model_spec(config, progress.info), seed)
    with tempfile.TemporaryDirectory(prefix="slim-import-") as folder:
        pairs = match(reference_graph(reference, Path(folder)), graph)
        found = recover(pairs, graph.where)
        fresh = _fill(reference, found.state)
        bundle = replace(reference, source=str(source))
        inputs = _inputs(bundle.spec, graph, data, seed, Path(folder))
        checks = prove(bundle, runner, inputs, pairs)
    return bundle, checks, _notes(found.folded, fresh)


def _open(source: Path) -> tuple[Graph, Source]:
    from export import proto
    from slim.importing.paddle_graph import paddle_graph
    from slim.importing.proof import PaddleSource

    if source.suffix == ".onnx":
        from slim.importing.onnx_file import OnnxSource, read_onnx
        from slim.importing.onnx_graph import onnx_graph

        model = read_onnx(source)
        return onnx_graph(model, str(source)), OnnxSource(model, str(source))
    prefix = proto.inference_prefix(source)
    return paddle_graph(prefix), PaddleSource(prefix)


def reference_net(spec: ModelSpec, seed: int) -> Bundle:
    """A net with random weights: the graph to find, and the weights no inference model holds."""
    import paddle

    from slim.arch import build_net
    from slim.bundle import Bundle

    paddle.seed(seed)
    net = build_net(spec.arch, spec.classes)
    net.eval()
    return Bundle(spec, net, source="random weights")


def reference_graph(bundle: Bundle, folder: Path) -> Graph:
    """The graph of a net of ours, read off its inference program.

    Raises:
        UnsupportedModel: the net cannot be run on inputs of its configuration's shape.
    """
    from export.program import save_program
    from slim.importing.paddle_graph import paddle_graph

    try:
        save_program(bundle, folder / "reference")
    except ValueError as error:  # Paddle's word for shapes that do not fit, with a page of traced source
        reason = str(error).strip().splitlines()[-1].strip()
        raise UnsupportedModel(f"the configuration's net does not run ({reason})") from error
    return paddle_graph(folder / "reference")


def _fill(reference: Bundle, state: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Put recovered weights into the net; the names of those that stay random."""
    from slim.bundle import complete_lstm_names
    from slim.strict import load_strict

    found, random = complete_lstm_names(state), reference.state()
    load_strict(reference.net, {**random, **found}, where=reference.source)
    return sorted(set(random) - set(found))


def _notes(folded: int, fresh: list[str]) -> list[str]:
    notes = []
    if folded:
        notes.append(
            f"{folded} BatchNorms were folded: theirs now change nothing (mean 0, variance 1); finetune with "
            "freeze_bn: true, as the recipes do"
        )
    if fresh:
        parts = sorted({".".join(name.split(".")[:2]) for name in fresh})
        notes.append(
            f"{len(fresh)} tensors of {', '.join(parts)} serve training only, no inference model holds them: "
            "they are random"
        )
    return notes


def _inputs(
    spec: ModelSpec, graph: Graph, data: Path | None, seed: int, folder: Path
) -> dict[str, npt.NDArray[np.float32]]:
    """Noise of several shapes, and images; only shapes the source takes."""
    from export.program import probe_shapes, random_input

    inputs = {
        f"noise {'x'.join(map(str, shape))}": random_input(shape, seed)
        for shape in dict.fromkeys(graph.accepted(shape) for shape in probe_shapes(spec))
    }
    for number, image in enumerate(_images(spec, data, seed, folder), 1):
        tensor = image[None]
        if graph.accepted(tensor.shape) == tensor.shape:
            inputs[f"image {number}"] = tensor
    return inputs


def _images(spec: ModelSpec, data: Path | None, seed: int, folder: Path) -> list[npt.NDArray[np.float32]]:
    from slim.ocr.preprocess import to_tensor
    from slim.pipeline.datasets import open_labels
    from slim.progress import Silent
    from slim.synth import synthesize

    kind = spec.kind
    if data is None:
        kind = "cls" if spec.kind == "cls" else "rec"
        synthesize(kind, folder / "lines", {"train": 1, "eval": IMAGES, "calib": 1}, seed, None, Silent())
        data = folder / "lines" / "eval.txt"
    lines = open_labels(data, kind)
    return [to_tensor(lines[i].image, spec.input) for i in range(min(IMAGES, len(lines)))]
