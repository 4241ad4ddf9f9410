"""All stages by one recipe, each resumable, each done again only when what it depends on changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from filecmp import cmp
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim.artifact import MANIFEST, tool_versions, verify
from slim.contents import MARKDOWN, PAGE, PREDICTIONS, REPORT
from slim.errors import ArtifactError, ConfigError, InputError
from slim.locking import held
from slim.pipeline import pruning, stages
from slim.pipeline.checking import check_artifact
from slim.pipeline.exporting import export_nb
from slim.pipeline.opening import open_model
from slim.progress import Reporter

if TYPE_CHECKING:
    from slim.config import Config

FLOAT = "float"
_KEPT = (
    "model.arm.nb",
    "model.x86.nb",
    "labels.txt",
    "preprocess.json",
    REPORT,
    MARKDOWN,
    PAGE,
    PREDICTIONS,
)


def run_recipe(
    config: Config,
    *,
    model: str | None,
    out: Path | None,
    targets: tuple[str, ...] | None,
    fresh: bool,
    seed: int,
    progress: Reporter,
    strict: bool = False,
) -> dict[str, Any]:
    """Prune, quantize, export and check; the float original is exported with the same options beside them.

    Folders below ``out``: ``prune``, ``quant``, ``export``, ``float``; the files an app and a CI need are
    copied to ``out`` itself. Returns the report of the check.

    Raises:
        ConfigError: a stage is asked for whose section is missing. InputError: ``out`` holds foreign files.
    """
    root = out or config.out_folder
    wanted = config.Run.stages if config.Run else ("prune", "quant", "export", "check")
    if "check" in wanted and "export" not in wanted:
        raise ConfigError("Run.stages has check without export", where=config.source, remedy="add export")
    _refuse_foreign(root)
    config = with_targets(config, targets)
    runner = _Runner(config, root, fresh, seed, strict, progress)
    original = model
    for name in ("prune", "quant"):
        if name in wanted:
            model = runner.stage(name, model)
    if "export" not in wanted:
        return {"model": config.name, "checks": [], "stages": [], "out": str(root), "notes": []}
    runner.export(FLOAT, original)
    folder = runner.export("export", model)
    if "check" not in wanted:
        return {"model": config.name, "checks": [], "stages": [], "out": str(folder), "notes": []}
    report = check_artifact(
        Path(folder), config, original=original, baseline=root / FLOAT, seed=seed, progress=progress
    )
    _publish(Path(folder), root)
    return report


def _refuse_foreign(root: Path) -> None:
    """Results are copied to ``root`` itself: somebody's own labels.txt must not be replaced by ours."""
    found = [name for name in _KEPT if (root / name).exists()]
    if found and not (root / "export" / MANIFEST).is_file():
        raise InputError(
            f"holds {found[0]}, which no run of slim wrote", where=root, remedy="choose another --out"
        )


def with_targets(config: Config, targets: tuple[str, ...] | None) -> Config:
    """The configuration with Export.targets replaced when the command line names some."""
    if targets is None:
        return config
    from slim.config import ExportSection

    section = (config.Export or ExportSection()).model_copy(update={"targets": targets})
    return config.model_copy(update={"Export": section})


class _Runner:
    """Does a stage, or finds it done: same recipe and needs, parent, seed, data sets and tool versions."""

    def __init__(
        self, config: Config, root: Path, fresh: bool, seed: int, strict: bool, progress: Reporter
    ) -> None:
        self.config, self.root, self.fresh, self.seed = config, root, fresh, seed
        self.strict, self.progress = strict, progress

    def stage(self, name: str, model: str | None) -> str:
        dest = self.root / name
        section = getattr(self.config, "Prune" if name == "prune" else "Quant")
        if section is None:
            title = name.capitalize()
            raise ConfigError(
                f"has no {title} section", where=self.config.source, remedy=f"add {title}, or Run.stages"
            )
        do: Callable[[], object]
        if name == "prune":
            do = lambda: pruning.prune(  # noqa: E731
                self.config, model=model, out=dest, seed=self.seed, progress=self.progress, strict=self.strict
            )
        else:
            do = lambda: stages.quant(  # noqa: E731
                self.config,
                model=model,
                out=dest,
                seed=self.seed,
                progress=self.progress,
                strict=self.strict,
            )
        needs = pruning.needs(self.config, section) if name == "prune" else {}
        self._once(name, dest, model, section.model_dump(mode="json"), do, data=True, needs=needs)
        return str(dest)

    def export(self, name: str, model: str | None) -> str:
        from slim.config import ExportSection

        dest = self.root / name
        section = self.config.Export or ExportSection()
        self._once(
            name,
            dest,
            model,
            section.model_dump(mode="json"),
            lambda: export_nb(
                model, self.config, out=dest, targets=None, seed=self.seed, progress=self.progress
            ).require(),
        )
        return str(dest)

    def _once(
        self,
        name: str,
        dest: Path,
        model: str | None,
        recipe: dict[str, Any],
        do: Callable[[], object],
        *,
        data: bool = False,
        needs: Mapping[str, Any] | None = None,
    ) -> None:
        if not self.fresh and self._done(dest, model, recipe, data, needs or {}):
            self.progress.info(f"{name}: already done in {dest}")
            return
        work = stages.work_folder(dest)
        if self.fresh and work.exists():
            with held(work, self.progress):  # not from under a run that goes on in it
                shutil.rmtree(work, ignore_errors=True)
        _withdraw(self.root)
        self.progress.info(f"{name}: {dest}")
        do()

    def _done(
        self, dest: Path, model: str | None, recipe: dict[str, Any], data: bool, needs: Mapping[str, Any]
    ) -> bool:
        if not (dest / MANIFEST).is_file():
            return False
        try:
            manifest = verify(dest)
        except ArtifactError as error:
            self.progress.warn(f"{error}: done again")
            return False
        parent = open_model(model, self.config, self.progress).sha256()
        found = manifest.parent, dict(manifest.recipe), manifest.seed, dict(manifest.tools)
        if found != (parent, recipe, self.seed, tool_versions()):
            return False
        if any(manifest.facts.get(name) != value for name, value in needs.items()):
            return False
        return not data or dict(manifest.data) == stages.described(self.config, self.config.kind, self.seed)


def _withdraw(root: Path) -> None:
    """Remove the copies at the top before a stage is done anew: if it fails, they are of no run that ended.

    Their originals stay in ``export`` until that is replaced.
    """
    for name in _KEPT:
        path, source = root / name, root / "export" / name
        # Labels that differ from the export's may be somebody's own.
        if name != "labels.txt" or (path.is_file() and source.is_file() and cmp(path, source, shallow=False)):
            path.unlink(missing_ok=True)


def _publish(folder: Path, root: Path, names: Sequence[str] = _KEPT) -> None:
    """Copy the results to the top of the run's folder, each aside first; what has none now goes."""
    for name in names:
        source = folder / name
        if source.is_file():
            aside = root / f".{name}.tmp-{os.getpid()}"
            shutil.copy2(source, aside)
            os.replace(aside, root / name)
        elif name != "labels.txt":  # a detector has none: one that lies here may be somebody's own
            (root / name).unlink(missing_ok=True)
