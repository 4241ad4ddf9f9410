"""slim export and slim export-nb: a model, or an inference folder, to sealed files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim import artifact
from slim.errors import InputError
from slim.numerics import file_sha256
from slim.pipeline import lineage
from slim.pipeline.opening import open_model, require_apart
from slim.pipeline.stages import StageResult
from slim.progress import Reporter

if TYPE_CHECKING:
    from export.stage import NbFacts
    from slim.bundle import Bundle
    from slim.config import Config, ExportSection


def export_inference(
    model: str | None, config: Config | None, *, out: Path, seed: int, progress: Reporter
) -> StageResult:
    """Write the inference program of a model into ``out`` and compare it with the net."""
    from export.stage import export_inference as write
    from quant.freeze import save_inference

    section, widths = _section(config, None), config.Check.widths if config and config.Check else ()
    bundle = open_model(model, config, progress)
    past = lineage.of(bundle)
    require_apart(out, bundle.source, lineage.origin(past))
    with artifact.writing(out) as tmp:
        result = write(
            bundle,
            tmp,
            dynamic_batch=section.dynamic_batch,
            widths=widths if bundle.spec.input.dynamic_width else (),
            save_quantized=save_inference,
        )
        done = lineage.entry("inference", bundle, inference_bytes=result.bytes)
        artifact.seal(
            tmp,
            "inference",
            recipe=section.model_dump(mode="json"),
            parent=bundle.sha256(),
            seed=seed,
            facts={lineage.LINEAGE: past, "result": result.to_json()},
        )
    return StageResult("export", out, result.checks, done | {"bytes": {"inference": result.bytes}})


def export_nb(
    model: str | None,
    config: Config | None,
    *,
    out: Path,
    targets: tuple[str, ...] | None,
    seed: int,
    progress: Reporter,
) -> StageResult:
    """Write the .nb files of a model or an inference folder into ``out``, each run again and compared."""
    from export.stage import export_nb as write
    from quant.freeze import save_inference

    section = _section(config, targets)
    folder = inference_folder(model)
    source: Bundle | Path = folder if folder is not None else open_model(model, config, progress)
    past: list[dict[str, Any]] = []
    if isinstance(source, Path):
        require_apart(out, source)
    else:
        past = lineage.of(source)
        require_apart(out, source.source, lineage.origin(past))
    with artifact.writing(out) as tmp:
        chosen = stored_as_planned(section, source)
        result = write(source, chosen, tmp, save_quantized=save_inference, progress=progress)
        facts: dict[str, Any] = {"result": result.to_json()}
        if isinstance(source, Path):
            parent = file_sha256(next(source.glob("*.pdiparams"))) if source.is_dir() else ""
        else:
            parent = source.sha256()
            facts[lineage.LINEAGE] = past
            facts["scheme"] = source.scheme is not None
        artifact.seal(
            tmp, "export", recipe=section.model_dump(mode="json"), parent=parent, seed=seed, facts=facts
        )
    sizes = {"inference": result.inference_bytes}
    sizes |= {f"model.{target}.nb": file.bytes for target, file in result.files.items()}
    return StageResult("export-nb", out, result.checks, {"bytes": sizes, "notes": result.notes})


def stored_as_planned(section: ExportSection, source: Bundle | Path) -> ExportSection:
    """Lets "auto" mean int8 LSTM matrices for int8 models, unless their scheme keeps them float.

    Whoever makes a file to score asks this too, so that what is scored is what ships.
    """
    from quant.scheme import QuantScheme

    if section.lstm_weights != "auto" or isinstance(source, Path) or source.scheme is None:
        return section
    lstms = QuantScheme.from_json(source.scheme).lstms
    if lstms and all(one.weight_bits is None for one in lstms):
        return section.model_copy(update={"lstm_weights": "float"})
    return section


def one_nb(bundle: Bundle, section: ExportSection, dest: Path, target: str = "arm") -> NbFacts:
    """Write the file of a model that would ship for one target, without the rest of an export.

    Raises:
        As `export.stage.one_file`.
    """
    from export.program import save_program
    from export.stage import one_file
    from quant.freeze import save_inference

    with tempfile.TemporaryDirectory(prefix="one-file-") as folder:
        prefix = Path(folder) / "model"
        save_program(bundle, prefix, save_quantized=save_inference)
        return one_file(prefix, stored_as_planned(section, bundle), dest, target)


def inference_folder(model: str | None) -> Path | None:
    """The path when it is a folder (or prefix) with an inference program and no weights of ours to train."""
    if model is None:
        return None
    path = Path(model)
    if path.suffix == ".pdmodel":
        if not path.is_file():
            raise InputError("no such file", where=path)
        return path
    if path.is_dir() and not (path / "model.pdparams").is_file() and any(path.glob("*.pdmodel")):
        return path
    return None


def _section(config: Config | None, targets: tuple[str, ...] | None) -> ExportSection:
    from slim.config import ExportSection

    section = (config.Export if config is not None else None) or ExportSection()
    return section if targets is None else section.model_copy(update={"targets": targets})
