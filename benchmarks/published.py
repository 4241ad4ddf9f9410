"""Every published row pruned, quantized, exported and checked, and what each file weighs.

    python -m benchmarks.published [--json] [--only NAME ...]

The classifier and the English recognizer have their bundled weights, the others random ones with measured
BatchNorm statistics: bytes depend on the net, not on what it knows, and no accuracy is claimed. Training and
calibration data are noise, a few steps long. Each int8 ARM file is executed, the x86 file run in Paddle-Lite.
Exit code 1 when a check fails, or a slim row's folder or file is above the published size.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim.pipeline.published import MIB
from slim.progress import Reporter, Silent
from slim.zoo.table import PUBLISHED, Published

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.spec import ModelSpec
    from slim.stage import Check

RATIO = 0.1  # of the channels of each group
STEPS, BATCH, IMAGES = 2, 2, 4
PAGE = 64  # side of a noise page and of what a detector is trained on
WEIGHTS = {
    "ch_ppocr_mobile_v2.0_cls": "ch_ppocr_mobile_v2.0_cls",
    "en_number_mobile_v2.0_rec": "en_number_synthetic_crnn",
}
HEADERS = (
    "model", "published, M", "float inference folder", "slim inference folder", "float ARM nb", "int8 ARM nb",
    "int8 / float",
)  # fmt: skip


@dataclass
class Walked:
    """One float row: bytes by name, and every check that was made on the way."""

    name: str
    bytes: dict[str, int] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """Lines of the checks that fail."""
        return [check.line() for check in self.checks if not check.passed]


def walk(row: Published, folder: Path, progress: Reporter, seed: int = 0) -> Walked:
    """Prune by ``RATIO``, quantize by a few steps of QAT, export both, check the shipped files.

    Args:
        folder: an empty one, for data and results.
    """
    from export import check as harness
    from export.stage import export_nb
    from quant.freeze import save_inference
    from slim.config import CheckSection, ExportSection
    from slim.pipeline.exporting import stored_as_planned

    model = bundle_of(row, seed)
    found = Walked(row.name)
    shipped = _compressed(model, folder, found, progress, seed)
    export = ExportSection()
    folders = {}
    for name, one in (("float", model), ("int8", shipped)):
        folders[name] = folder / name
        folders[name].mkdir(parents=True)
        chosen = stored_as_planned(export, one)
        done = export_nb(one, chosen, folders[name], save_quantized=save_inference, progress=progress)
        found.bytes |= {f"{name} folder": done.inference_bytes, f"{name} arm": done.files["arm"].bytes}
        found.checks += done.checks
    report = harness.check(
        folders["int8"], None, CheckSection(max_nb_ratio=1.0), original=model, shipped=shipped,
        baseline=folders["float"], seed=seed, latency_runs=1, progress=progress,
    )  # fmt: skip
    found.checks += report.checks
    return found


def bundle_of(row: Published, seed: int) -> Bundle:
    """The row's net with its bundled weights, or with random ones."""
    import paddle

    from slim.arch import build_net
    from slim.bundle import Bundle, from_checkpoint
    from slim.config import find_config, load_config
    from slim.config.spec import model_spec
    from slim.zoo import find

    spec = model_spec(load_config(find_config(row.config), notices=lambda line: None))
    if row.name in WEIGHTS:
        return from_checkpoint(spec, find(WEIGHTS[row.name]).path)
    paddle.seed(seed)
    net = build_net(spec.arch, spec.classes)
    settle(net, spec.input.shape, seed)
    return Bundle(spec, net, source="random weights")


def settle(net: Any, shape: Sequence[int], seed: int) -> None:
    """BatchNorm statistics of noise, so that the values of a random net neither vanish nor explode."""
    import numpy as np
    import paddle
    from paddle import nn

    norms = [layer for layer in net.sublayers() if isinstance(layer, nn.BatchNorm2D)]
    rates = [layer._momentum for layer in norms]
    for layer in norms:
        layer._momentum = 0.0
    noise = np.random.default_rng(seed).uniform(-1, 1, (2, *shape)).astype("float32")
    net.train()
    with paddle.no_grad():
        net(paddle.to_tensor(noise))
    for layer, rate in zip(norms, rates, strict=True):
        layer._momentum = rate
    net.eval()


def _compressed(model: Bundle, folder: Path, found: Walked, progress: Reporter, seed: int) -> Bundle:
    from prune import stage as pruning
    from quant import stage as quantization
    from slim.config import PruneSection, QuantSection
    from slim.config.ours import QuantRecipe
    from slim.data.dataset import open_dataset
    from slim.stage import StageContext

    data = open_dataset([noise(model.spec, folder / "data", seed)], folder / "data", model.spec.kind)
    width = PAGE if model.spec.kind == "det" else None
    recipe = QuantRecipe(steps=STEPS, batch_size=BATCH, lr=1e-5, distill=1.0, width=width, augment=False)
    context = StageContext(folder / "work", seed, train=data, calibration=data, progress=progress)
    cut = PruneSection(method="ratio", ratio=RATIO)
    pruned = pruning.apply(model, pruning.plan(model, cut, context))
    found.checks += pruning.checks(model, pruned, cut, context)
    section = QuantSection(mode="qat", images=IMAGES, Finetune=recipe)
    scheme = quantization.plan(pruned, section, context)
    quantized = quantization.apply(pruned, scheme, section, context)
    found.checks += quantization.checks(pruned, quantized, section)
    return quantized


def noise(spec: ModelSpec, folder: Path, seed: int) -> Path:
    """A label file with images of noise and labels the model could give; every character of it is known."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    box = [{"transcription": "A", "points": [[4, 4], [PAGE - 4, 4], [PAGE - 4, 20], [4, 20]]}]
    characters = [label for label in spec.labels if label.strip()]
    lines = []
    for number in range(IMAGES):
        size = (PAGE, PAGE) if spec.kind == "det" else (spec.input.height, 4 * spec.input.height)
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        text = json.dumps(box) if spec.kind == "det" else str(rng.choice(characters))
        lines.append(f"{number}.png\t{text}\n")
    (folder / "labels.txt").write_text("".join(lines), encoding="utf-8")
    return folder / "labels.txt"


def measure(names: Sequence[str], progress: Reporter) -> list[Walked]:
    """Every float row of that name, in the table's order; each in a folder that is gone afterwards."""
    found = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="published-") as folder:
            found.append(walk(PUBLISHED[name], Path(folder), progress))
    return found


def too_large(rows: Mapping[str, Walked]) -> list[str]:
    """Slim rows whose folder or file is above the published size."""
    found = []
    for row in PUBLISHED.values():
        walked = rows.get(row.original or "")
        if walked is None:
            continue
        found += [
            f"{row.name}: {what} has {walked.bytes[what]:,} bytes, published are {row.size}"
            for what in ("int8 folder", "int8 arm")
            if walked.bytes[what] > row.megabytes * MIB
        ]
    return found


def markdown(rows: Sequence[Walked]) -> str:
    """The table of docs/MODELS.md; a slim row stands below the float row it was made from."""
    cells = []
    for walked in rows:
        size = walked.bytes
        share = f"{size['int8 arm'] / size['float arm']:.2f}"
        whole = [f"{size[what]:,}" for what in ("float folder", "int8 folder", "float arm", "int8 arm")]
        cells.append((f"`{walked.name}`", PUBLISHED[walked.name].size.removesuffix("M"), *whole, share))
        cells += [
            (f"`{row.name}`", row.size.removesuffix("M"), "-", whole[1], "-", whole[3], "-")
            for row in PUBLISHED.values()
            if row.original == walked.name
        ]
    head = [HEADERS, ("---",) + ("---:",) * 6]
    return "\n".join("| " + " | ".join(row) + " |" for row in [*head, *cells])


def main() -> int:
    """Walk, print; the exit code."""
    floats = [name for name, row in PUBLISHED.items() if row.original is None]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--only", nargs="+", choices=floats, default=floats, metavar="NAME")
    args = parser.parse_args()
    rows = measure(args.only, Silent())
    wrong = [f"{w.name}: {line}" for w in rows for line in w.failed]
    wrong += too_large({w.name: w for w in rows})
    if args.json:
        print(json.dumps({"rows": [asdict(w) for w in rows], "failed": wrong}))
    else:
        print("\n".join([markdown(rows), *wrong]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
