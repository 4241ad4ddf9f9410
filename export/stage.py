"""The export stages: a bundle to an inference folder, a bundle or inference folder to checked nb files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from export import app_files, fixes, opt, proto, selftest
from export.facts import NbFacts, nb_facts
from export.nb.compact import compact
from export.nb.format import read_nb, write_nb
from export.preflight import Preflight, preflight
from export.program import random_input, save_program, verify_program
from export.runtimes import lite_x86, nb
from export.runtimes import paddle as predictor
from slim import artifact, bundle
from slim.errors import StageFailed
from slim.numerics import max_abs
from slim.progress import Reporter, Silent
from slim.spec import ModelSpec
from slim.stage import Check

if TYPE_CHECKING:
    from export.program import SaveQuantized

INFERENCE = "inference"
NB_FILES = {"arm": "model.arm.nb", "x86": "model.x86.nb"}
FLOAT_VIEW = "model.x86.nb is the float view of this int8 model: x86 has no usable int8 kernels"
# Against Paddle's Predictor on the same program: Lite sums in another order, the ARM kernels approximate exp.
FLOAT_BOUND = {"arm": 1e-4, "x86": 5e-5}
# Probability, on noise: 6.8e-3 on text lines and 2.5e-2 on noise were measured with the trained CRNN. A wrong
# scale or a swapped matrix moves it by 0.3 and more.
LSTM_INT8_BOUND = 0.1


class ExportOptions(Protocol):
    """What an export reads of the recipe (``slim.config.ours.ExportSection`` has it)."""

    @property
    def targets(self) -> Sequence[str]:
        """ "arm" and / or "x86"."""

    @property
    def timeout(self) -> float:
        """Seconds for one run of opt."""

    @property
    def dynamic_batch(self) -> bool:
        """Any number of images at once, or one."""

    @property
    def compact(self) -> bool:
        """Make the nb smaller."""

    @property
    def lstm_weights(self) -> str:
        """ "int8", "float", or "auto": int8 for int8 models."""


@dataclass(frozen=True)
class InferenceResult:
    """An inference folder: its bytes and what running it again said."""

    bytes: int
    checks: list[Check]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"bytes": self.bytes, "checks": [c.to_json() for c in self.checks]}


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        files: target -> facts of its nb.
        inference_bytes: of the program and its parameters.
        quantized_layers: layers the program quantizes; 0 for a float model.
        tool: version of the paddlelite wheel.
        checks: every file run again and compared.
        notes: what a user should know, in words.
    """

    files: dict[str, NbFacts]
    inference_bytes: int
    quantized_layers: int
    tool: str
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "files": {target: facts.to_json() for target, facts in self.files.items()},
            "inference_bytes": self.inference_bytes,
            "quantized_layers": self.quantized_layers,
            "paddlelite": self.tool,
            "checks": [c.to_json() for c in self.checks],
            "notes": self.notes,
        }


def export_inference(
    source: bundle.Bundle,
    out: Path,
    *,
    dynamic_batch: bool = True,
    widths: Sequence[int] = (),
    save_quantized: SaveQuantized | None = None,
) -> InferenceResult:
    """Write the inference program, the spec and the app's files into ``out``, and run the program again.

    ``out`` is a folder of ``slim.artifact.writing``; the caller seals it.

    Raises:
        StageFailed: the program differs from the net.
    """
    out.mkdir(parents=True, exist_ok=True)
    prefix = out / INFERENCE
    save_program(source, prefix, dynamic_batch=dynamic_batch, save_quantized=save_quantized)
    prefix.with_name(prefix.name + ".pdiparams.info").unlink(missing_ok=True)  # only for dygraph reloading
    checks = verify_program(source, prefix, widths=widths, dynamic_batch=dynamic_batch)
    _require(checks, "the inference program", out)
    artifact.write_json(out / bundle.SPEC, source.spec.to_json())
    app_files.write_app_files(source.spec, out)
    return InferenceResult(program_bytes(prefix), checks)


def program_bytes(prefix: Path) -> int:
    """Bytes of program and parameters."""
    return sum(path.stat().st_size for path in (proto.model_path(prefix), proto.params_path(prefix)))


def export_nb(
    source: bundle.Bundle | Path,
    options: ExportOptions,
    out: Path,
    *,
    save_quantized: SaveQuantized | None = None,
    progress: Reporter | None = None,
) -> ExportResult:
    """Write ``model.<target>.nb``, labels and pre-processing facts, and the inference program, into ``out``.

    Beside the ARM file lies ``selftest/``: inputs and expected outputs, see `export.selftest`.

    A quantized model becomes int8 only for arm. Paddle-Lite's int8 kernels are wrong on x86: model.x86.nb is
    the float view: the same weights before rounding, without quantizers.

    Args:
        source: a bundle, or a folder with an inference program (also one that PaddleOCR exported).
        out: a temporary folder of ``slim.artifact.writing``; the caller seals it.
        save_quantized: needed for a quantized bundle, see `export.program.save_program`.
    Raises:
        UnsupportedModel, InputError: pre-flight says no.
        ToolMissing, OptFailed: see `export.opt.run_opt`.
        StageFailed: a written file computes something else, or a quantized layer became float.
    """
    report = progress or Silent()
    prefix = _program(source, options, out, save_quantized)
    tool = opt.opt_version()
    quantized = 0
    files, checks, notes = {}, [], []
    task = report.task("export", len(options.targets))
    with tempfile.TemporaryDirectory(prefix="export-") as folder, task:
        for target in options.targets:
            work = Path(folder) / target
            work.mkdir()
            seen = preflight(prefix, target)
            quantized = seen.quantized_layers
            notes += [note for note in seen.notes if note not in notes]
            facts, more = _one_target(prefix, seen, options, work, out / NB_FILES[target])
            files[target] = facts
            checks += more
            if target == "arm":
                selftest.write_selftest(out / NB_FILES[target], seen.input)
            if quantized and target == "x86":
                notes.append(FLOAT_VIEW)
            task.advance(target=target, bytes=facts.bytes)
    for note in notes:
        report.info(note)
    return ExportResult(files, program_bytes(prefix), quantized, tool, checks, notes)


def variant_file(prefix: Path, options: ExportOptions, dest: Path, mode: str) -> NbFacts:
    """The ARM file of a float program in one of opt's own modes (`export.opt.MODES`), compacted.

    For comparison only: not run again against the program, which it does not compute.
    """
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        work = Path(folder)
        fixes.fix_program(prefix, work / "fixed")
        raw = opt.run_opt(work / "fixed", "arm", work / "raw.nb", timeout=options.timeout, mode=mode)
        model, _ = compact(read_nb(raw))
        write_nb(model, dest)
        return nb_facts(read_nb(dest), "arm", raw.stat().st_size)


def one_file(prefix: Path, options: ExportOptions, dest: Path, target: str = "arm") -> NbFacts:
    """Only one file of an inference program: fixed, converted, compacted, run again.

    For searches that try many programs; what ships goes through `export_nb`.

    Args:
        prefix: of the program, without extension.
        dest: the nb to write.
    Raises:
        As `export_nb`.
    """
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        facts, _ = _one_target(prefix, preflight(prefix, target), options, Path(folder), dest)
    return facts


def read_spec(folder: Path) -> ModelSpec | None:
    """The spec beside a model; None where the folder has none."""
    path = folder / bundle.SPEC
    return ModelSpec.from_json(artifact.read_json(path), where=str(path)) if path.is_file() else None


def _program(
    source: bundle.Bundle | Path, options: ExportOptions, out: Path, save_quantized: SaveQuantized | None
) -> Path:
    """Put the inference program into ``out/inference`` and the app's files into ``out``."""
    folder = out / INFERENCE
    if not isinstance(source, Path):
        export_inference(source, folder, dynamic_batch=options.dynamic_batch, save_quantized=save_quantized)
        for name in (bundle.SPEC, app_files.LABELS, app_files.PREPROCESS):
            (folder / name).replace(out / name)
        return folder / INFERENCE
    given = proto.inference_prefix(source)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(proto.model_path(given), proto.model_path(folder / INFERENCE))
    shutil.copyfile(proto.params_path(given), proto.params_path(folder / INFERENCE))
    spec = read_spec(given.parent)
    if spec is not None:
        artifact.write_json(out / bundle.SPEC, spec.to_json())
        app_files.write_app_files(spec, out)
    return folder / INFERENCE


def _one_target(
    prefix: Path, seen: Preflight, options: ExportOptions, work: Path, dest: Path
) -> tuple[NbFacts, list[Check]]:
    """Fix, convert, compact and run again for one target."""
    if seen.quantized_layers and seen.target == "x86":
        fixes.float_program(prefix, work / "float")
        prefix = work / "float"
    changed = fixes.fix_program(prefix, work / "fixed")
    raw = opt.run_opt(work / "fixed", seen.target, work / "raw.nb", timeout=options.timeout)
    passes = _finish(raw, dest, seen, options)
    facts = nb_facts(read_nb(dest), seen.target, raw.stat().st_size, fixes=changed, passes=passes)
    if seen.target == "arm":
        _require_int8(facts, seen, dest)
    checks = _run_again(prefix, seen, raw, dest)
    _require(checks, dest.name, dest)
    return facts, checks


def _finish(raw: Path, dest: Path, seen: Preflight, options: ExportOptions) -> dict[str, int]:
    if not options.compact:
        shutil.copyfile(raw, dest)
        return {}
    # calib_once has no x86 kernel, so the LSTM stays float there.
    chosen = options.lstm_weights
    if chosen == "auto":
        chosen = "int8" if seen.quantized_layers else "float"
    model, report = compact(read_nb(raw), lstm_weights=chosen if seen.target == "arm" else "float")
    write_nb(model, dest)
    return {step.name: step.changes for step in report.passes}


def _require_int8(facts: NbFacts, seen: Preflight, dest: Path) -> None:
    """No silent float: every layer the program quantizes has an int8 kernel, by the name of its weights."""
    left = sorted(set(seen.quantized) - set(facts.int8_weights))
    if left or facts.int8_layers != seen.quantized_layers:
        raise StageFailed(
            f"{dest.name} computes {facts.int8_layers} layers in int8, the program quantizes "
            f"{seen.quantized_layers}: opt left {len(left)} in float ({', '.join(left[:3])})",
            where=dest.parent,
            remedy="exclude the layers opt cannot convert from quantization",
        )


def _run_again(prefix: Path, seen: Preflight, raw: Path, dest: Path) -> list[Check]:
    """The written file against the program (float) and against what opt wrote (compaction)."""
    x = random_input(_concrete(seen.input))
    if seen.target == "x86":
        runtime = lite_x86.load(dest)
        try:
            found = runtime.run(x)
        finally:
            runtime.close()
    else:
        found = nb.load(dest).run(x)
    checks = []
    lstm_int8 = any(op.type == "calib_once" for op in read_nb(dest).ops)
    if not seen.quantized_layers or seen.target == "x86":
        value = max_abs(predictor.load(prefix).run(x), found)
        bound = LSTM_INT8_BOUND if lstm_int8 else FLOAT_BOUND[seen.target]
        checks.append(Check(f"{dest.name} against the inference program", value, bound, "abs"))
    if seen.target == "arm":
        value = max_abs(nb.load(raw).run(x), found)
        bound = LSTM_INT8_BOUND if lstm_int8 else 0.0
        checks.append(Check(f"{dest.name} against opt's file", value, bound, "abs"))
    return checks


def _concrete(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A small input of that shape: dynamic batch 1, dynamic sides 64 x 160 (det: multiples of 32)."""
    batch, channels, height, width = shape
    return max(batch, 1), channels, height if height > 0 else 64, width if width > 0 else 160


def _require(checks: Sequence[Check], what: str, where: Path) -> None:
    failed = [check for check in checks if not check.passed]
    if failed:
        raise StageFailed(f"{what} computes something else: {failed[0].line()}", where=where)
