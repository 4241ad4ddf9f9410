"""A recipe from nothing but weights and a label file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim.artifact import write_bytes
from slim.errors import InputError
from slim.pipeline.opening import open_model
from slim.progress import Reporter

if TYPE_CHECKING:
    from slim.config import Config

_EVAL_SHARE = 0.2
_MIN_LINES = 20
_STEPS = 200
_BATCH = 32


def recipe_for(
    model: str, data: Path, overrides: Sequence[str], progress: Reporter, out: Path | None = None
) -> Config:
    """The default recipe for a model: light pruning, QAT, ARM file, check on lines training never saw.

    The label file is split once by the hash of each line (one in five is kept for evaluation), so that
    the same file always splits the same way; the halves are written to ``data`` in ``out``, by default
    ``output/<model>``.

    Raises:
        InputError: the label file has fewer than 20 lines.
    """
    from slim.config import config_from

    bundle = open_model(model, None, progress)
    spec = bundle.spec
    folder = out or Path("output") / spec.name
    train, held = _split(data)
    files = {name: folder / "data" / name for name in ("train.txt", "eval.txt", "dictionary.txt")}
    finetune = {"steps": _STEPS, "batch_size": _BATCH, "lr": 5e-4, "warmup_steps": 20, "distill": 0.5}
    settings: dict[str, Any] = {
        "Global": {
            "model_name": spec.name,
            "pretrained_model": model,
            **_dictionary(spec.kind, spec.labels, files["dictionary.txt"]),
        },
        "Architecture": dict(spec.arch),
        "Train": _section(files["train.txt"], data.parent),
        "Eval": _section(files["eval.txt"], data.parent),
        "Prune": {"flops": 0.1, "images": min(256, len(train)), "Finetune": finetune},
        "Quant": {"images": min(256, len(train)), "Finetune": finetune},
        "Export": {"targets": ["arm"]},
        "Check": {"images": len(held), "simulation_images": min(500, len(held))},
        "Run": {"out": str(folder)},
    }
    config = config_from(settings, overrides, notices=progress.info)
    _write(files["train.txt"], train)
    _write(files["eval.txt"], held)
    if spec.kind == "rec":
        _write(files["dictionary.txt"], [character.encode() for character in _characters(spec.labels)])
    progress.info(
        f"{data}: {len(train)} lines for training, {len(held)} for evaluation, in {folder / 'data'}"
    )
    return config


def _section(label_file: Path, folder: Path) -> dict[str, Any]:
    return {
        "dataset": {
            "name": "SimpleDataSet",
            "data_dir": str(folder),
            "label_file_list": [str(label_file)],
        }
    }


def _dictionary(kind: str, labels: Sequence[str], path: Path) -> dict[str, Any]:
    if kind != "rec":
        return {}
    return {"character_dict_path": str(path), "use_space_char": labels[-1] == " "}


def _characters(labels: Sequence[str]) -> Sequence[str]:
    """A dictionary's lines: without the blank, and without the space that use_space_char adds."""
    return labels[1:-1] if labels[-1] == " " else labels[1:]


def _split(data: Path) -> tuple[list[bytes], list[bytes]]:
    """Lines for training, and lines held back for evaluation."""
    try:
        lines = [line for line in data.read_bytes().splitlines(keepends=True) if line.strip()]
    except OSError as error:
        raise InputError(f"cannot read ({error.strerror})", where=data) from error
    if len(lines) < _MIN_LINES:
        raise InputError(
            f"has {len(lines)} lines, the least is {_MIN_LINES}", where=data, remedy="add more lines"
        )
    held = [line for line in lines if hashlib.sha256(line).digest()[0] < 256 * _EVAL_SHARE]
    train = [line for line in lines if hashlib.sha256(line).digest()[0] >= 256 * _EVAL_SHARE]
    if not held or not train:
        held, train = lines[::5], [line for i, line in enumerate(lines) if i % 5]
    return train, held


def _write(path: Path, lines: Sequence[bytes]) -> None:
    write_bytes(path, b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines))
