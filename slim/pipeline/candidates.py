"""slim quant --compare: every way to a smaller file in one table, each file made, executed and scored."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim import artifact
from slim.distributed import require_one
from slim.errors import ArtifactError, SlimError
from slim.pipeline.datasets import dataset, require_lines
from slim.pipeline.exporting import one_nb
from slim.pipeline.opening import open_model
from slim.pipeline.shipping import executed
from slim.progress import Reporter

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config import Config, ExportSection, QuantSection
    from slim.stage import StageContext

VERSION = 1
COMPARE, TABLE, PLOT = "compare.json", "compare.md", "compare.png"
HEADERS = ("candidate", "nb bytes", "of float", "accuracy", "drop", "note")
FLOAT = "float"
_WEIGHT_ONLY = "integers in the file only: opt makes floats of them at load, so it is smaller and not faster"
_FP16 = (
    "kernels in half precision, weights in the file stay float32; runs on armv8.2 phones only and cannot be "
    "executed here"
)


@dataclass(frozen=True)
class Candidate:
    """One way: ``make`` writes the ARM file at a path and gives its bytes; ``runs``: it is scored here."""

    name: str
    make: Callable[[Path], int]
    note: str = ""
    runs: bool = True


def compare_candidates(
    config: Config, *, model: str | None, out: Path, seed: int, progress: Reporter, strict: bool = False
) -> dict[str, Any]:
    """Make, run and score every candidate on ``Check.images`` evaluation lines; write JSON, Markdown, PNG.

    A candidate that cannot be made is a row that says why. A second run goes on where the first stopped.

    Args:
        out: folder of the results.
    Raises:
        InputError, ConfigError: the model or a data set cannot be opened.
    """
    from slim.config import CheckSection, ExportSection, QuantSection

    require_one("slim quant --compare")
    bundle = open_model(model, config, progress)
    require_lines(bundle.spec.kind, "the table of candidates (--compare)")
    section = config.Quant or QuantSection()
    export = (config.Export or ExportSection()).model_copy(update={"targets": ("arm",)})
    lines = dataset(config, "eval", bundle.spec.kind)
    images = min((config.Check or CheckSection()).images, len(lines))
    context = _context(config, bundle, section, out, seed, strict, progress)
    key = {
        "weights": bundle.sha256(),
        "quant": section.model_dump(mode="json"),
        "export": export.model_dump(mode="json"),
        "data": dict(lines.describe()),
        "images": images,
        "seed": seed,
    }
    rows = _known(out / COMPARE, key, progress)
    with tempfile.TemporaryDirectory(prefix="candidates-") as folder:
        path = Path(folder) / "model.arm.nb"
        for candidate in _candidates(bundle, section, export, context, Path(folder)):
            if candidate.name in rows:
                continue
            progress.info(f"candidate: {candidate.name}")
            rows[candidate.name] = _row(
                candidate, path, lambda: executed(path, bundle.spec, lines, images, progress)[0].correct
            )
            artifact.write_json(out / COMPARE, _report(config.name, key, rows))
    report = _report(config.name, key, rows)
    artifact.write_text(out / TABLE, markdown(report))
    _draw(report, out / PLOT)
    return report


def _row(candidate: Candidate, path: Path, correct: Callable[[], Iterable[bool]]) -> dict[str, Any]:
    """Make and score one candidate; one that fails says why, but for the float file: all are held to it."""
    row: dict[str, Any] = {"candidate": candidate.name, "bytes": None, "note": candidate.note}
    try:
        row["bytes"] = candidate.make(path)
        if candidate.runs:
            row["correct"] = "".join("1" if ok else "0" for ok in correct())
    except SlimError as error:
        if candidate.name == FLOAT:
            raise
        row["note"] = f"failed: {error}"
    return row


def _candidates(
    bundle: Bundle, section: QuantSection, export: ExportSection, context: StageContext, work: Path
) -> Iterator[Candidate]:
    from export.program import save_program
    from export.stage import one_file
    from quant.calibrators import CALIBRATORS

    plain = work / "float"
    save_program(bundle, plain)
    unrounded = export.model_copy(update={"lstm_weights": "float"})
    yield Candidate(FLOAT, lambda path: one_file(plain, unrounded, path).bytes)
    for algo in CALIBRATORS:
        chosen = section.model_copy(update={"mode": "ptq", "algo": algo, "max_drop": None})
        yield Candidate(f"int8 ptq {algo}", _quantized(bundle, chosen, export, context))
    if section.mode == "qat" and section.Finetune is not None:
        yield Candidate("int8 qat", _quantized(bundle, section, export, context))
    for bits in (8, 16):
        mode = f"weights-int{bits}"
        yield Candidate(f"weights int{bits}", partial(_variant, plain, export, mode), _WEIGHT_ONLY)
    yield Candidate("fp16", partial(_variant, plain, export, "fp16"), _FP16, runs=False)


def _variant(prefix: Path, export: ExportSection, mode: str, path: Path) -> int:
    from export.stage import variant_file

    return variant_file(prefix, export, path, mode).bytes


def _quantized(
    bundle: Bundle, section: QuantSection, export: ExportSection, context: StageContext
) -> Callable[[Path], int]:
    def make(path: Path) -> int:
        from quant import stage

        scheme = stage.plan(bundle, section, context)
        quantized = stage.apply(bundle, scheme, section, context)
        return one_nb(quantized, export, path).bytes

    return make


def _context(
    config: Config,
    bundle: Bundle,
    section: QuantSection,
    out: Path,
    seed: int,
    strict: bool,
    progress: Reporter,
) -> StageContext:
    """No score: the table's numbers are those of the files."""
    from slim.pipeline.stages import work_folder
    from slim.stage import StageContext

    train = None
    if section.mode == "qat" and section.Finetune is not None:
        train = dataset(config, "train", bundle.spec.kind, seed)
    return StageContext(
        work_folder(out),
        seed,
        train=train,
        teacher=bundle,
        calibration=dataset(config, "calibration", bundle.spec.kind, seed),
        strict=strict,
        progress=progress,
    )


def _known(path: Path, key: dict[str, Any], progress: Reporter) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        data = artifact.read_json(path)
        if data.get("version") == VERSION and data.get("key") == key:
            progress.info(f"{path} holds {len(data['candidates'])} candidates already measured")
            return {row["candidate"]: row for row in data["candidates"]}
    except (ArtifactError, KeyError, TypeError) as error:
        progress.warn(f"{path} cannot be used ({error}); measuring again")
    return {}


def _report(model: str, key: dict[str, Any], rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Rows with accuracy and the drop against the float file on the same lines."""
    from slim.statistics import paired_drop

    plain = rows[FLOAT]
    right = [mark == "1" for mark in plain["correct"]]
    done = []
    for row in rows.values():
        row = dict(row)
        if row["bytes"] is not None:
            row["ratio"] = row["bytes"] / plain["bytes"]
        if "correct" in row:
            marks = [mark == "1" for mark in row["correct"]]
            row["accuracy"] = 100.0 * sum(marks) / len(marks)
            row["drop"] = dict(paired_drop(right, marks).__dict__)
        done.append(row)
    return {"version": VERSION, "model": model, "key": key, "images": len(right), "candidates": done}


def text(report: dict[str, Any]) -> str:
    """The table for a terminal; notes below it."""
    from slim.report import text_table

    rows = _cells(report)
    notes = [f"{row[0]}: {row[-1]}" for row in rows if row[-1]]
    return "\n".join([text_table(HEADERS[:-1], [row[:-1] for row in rows]), "", *notes]).rstrip()


def _cells(report: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for row in report["candidates"]:
        size = "-" if row["bytes"] is None else f"{row['bytes']:,}"
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else "-"
        accuracy, lost = "-", "-"
        if "accuracy" in row:
            accuracy = f"{row['accuracy']:.2f}% of {report['images']:,}"
            lost = "{points:+.2f} [{low:+.2f}, {high:+.2f}]".format(**row["drop"])
        rows.append((row["candidate"], size, ratio, accuracy, lost, row["note"]))
    return rows


def markdown(report: dict[str, Any]) -> str:
    """The table for a document."""
    from slim.report import markdown_table

    rows = [tuple(cell.replace("|", "\\|") for cell in row) for row in _cells(report)]
    return f"# {report['model']}: candidates\n\n{markdown_table(HEADERS, rows)}\n"


def _draw(report: dict[str, Any], path: Path) -> None:
    """Size against accuracy, with the interval of the drop."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 5.0), dpi=110)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    scored = [row for row in report["candidates"] if "accuracy" in row]
    base = scored[0]["accuracy"]
    for row in scored:
        low, high = base - row["drop"]["high"], base - row["drop"]["low"]
        x, y = row["bytes"] / 1000, row["accuracy"]
        bars = axes.errorbar([x], [y], yerr=[[max(y - low, 0)], [max(high - y, 0)]], fmt="o", capsize=3)
        bars.set_label(f"{row['candidate']}: {row['bytes'] / 1000:,.0f} kB, {y:.2f}%")
    axes.axhline(base, linewidth=0.8, linestyle="--", color="#444444")
    axes.set_xlabel("ARM file, 1000 bytes")
    axes.set_ylabel(f"accuracy of {report['images']:,} lines, %")
    title = f"{report['model']}: candidates, with the 95% interval of the drop"
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(linewidth=0.4)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    data = io.BytesIO()
    canvas.print_png(data)
    artifact.write_bytes(path, data.getvalue())
