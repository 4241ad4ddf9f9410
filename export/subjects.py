"""What `slim check` finds in a folder, each file opened with the runtime that can truly execute it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from export import fixes, proto
from export.facts import NbFacts, nb_facts
from export.nb.format import read_nb
from export.nb.targets import target_of
from export.preflight import quantized_weights
from export.program import save_program
from export.runtimes import lite_x86, nb
from export.runtimes import paddle as predictor
from export.runtimes.base import Runtime
from export.stage import INFERENCE, NB_FILES, program_bytes, read_spec
from slim import artifact
from slim.bundle import Bundle
from slim.errors import ArtifactError
from slim.spec import ModelSpec

_VERSION = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True)
class Exported:
    """An artifact folder, read but not yet run.

    Attributes:
        prefix: of its inference program.
        files: target -> nb path; ``facts`` of each.
        quantized_weights: of the layers the program quantizes; none for a float model.
        batch: images a runtime may be given at once.
        warnings: what a reader must know of the folder itself.
    """

    folder: Path
    spec: ModelSpec
    prefix: Path
    files: dict[str, Path]
    facts: dict[str, NbFacts]
    quantized_weights: tuple[str, ...]
    batch: int
    warnings: tuple[str, ...]

    @property
    def quantized(self) -> int:
        """How many layers the program quantizes."""
        return len(self.quantized_weights)

    @property
    def inference_bytes(self) -> int:
        """Bytes of program and parameters."""
        return program_bytes(self.prefix)


def open_exported(folder: Path, spec: ModelSpec | None = None, *, batch: int = 8) -> Exported:
    """Read an artifact folder: hashes first, then each nb's own word on its target.

    Args:
        spec: used where the folder has none.
    Raises:
        ArtifactError: changed files, no spec, or a file whose kernels are for another target than its name.
        NbFormatError: an nb is damaged.
    """
    warnings = []
    if (folder / artifact.MANIFEST).is_file():
        artifact.verify(folder)
    else:
        warnings.append("no manifest: changed weight bytes cannot be seen in the files themselves")
    found = read_spec(folder) or spec
    if found is None:
        raise ArtifactError("holds no spec.json", where=folder, remedy="give --config or a folder slim wrote")
    prefix = proto.inference_prefix(folder / INFERENCE if (folder / INFERENCE).is_dir() else folder)
    program = proto.read_program(proto.model_path(prefix))
    fixed = proto.dims(proto.var(program, proto.feed_name(program)))[0] > 0
    files = {t: folder / name for t, name in NB_FILES.items() if (folder / name).is_file()}
    facts = {target: _facts(path, target) for target, path in files.items()}
    return Exported(
        folder,
        found,
        prefix,
        files,
        facts,
        quantized_weights(program),
        1 if fixed else batch,
        tuple(warnings),
    )


def _facts(path: Path, target: str) -> NbFacts:
    model = read_nb(path)
    real = target_of(model)
    if real not in (target, "host"):
        raise ArtifactError(
            f"its kernels are for {real}, not {target}",
            where=path,
            remedy="was the file renamed? export again",
        )
    return nb_facts(model, target, path.stat().st_size)


def version_warnings(exported: Exported, runtime_version: str | None) -> list[str]:
    """One line per nb written by another Paddle-Lite than the app's runtime ("2.12", "v2.13-rc", ...)."""
    if runtime_version is None:
        return []
    wanted = release(runtime_version)
    return [
        f"{exported.files[target].name} was written by opt {facts.opt_version}, the app's runtime is "
        f"{runtime_version}: use the same release of both"
        for target, facts in exported.facts.items()
        if release(facts.opt_version) != wanted
    ]


def release(version: str) -> tuple[int, int]:
    """Major and minor number of a Paddle-Lite version.

    >>> release("v2.13-rc") == release("2.13rc0")
    True

    Raises:
        ArtifactError: there is no number in it.
    """
    match = _VERSION.search(version)
    if match is None:
        raise ArtifactError(f"version {version!r} is not like 2.13", remedy="give --runtime-version 2.13")
    return int(match[1]), int(match[2])


@contextmanager
def opened(
    exported: Exported, original: Bundle | None, baseline: Path | None
) -> Iterator[dict[str, Runtime]]:
    """Runtimes by name: "original", "program", "arm", "x86", and "x86 reference" (see below).

    "x86 reference" is what model.x86.nb must equal: the program itself, or its float view for an int8 model.
    """
    with tempfile.TemporaryDirectory(prefix="check-") as name:
        work, found = Path(name), dict[str, Runtime]()
        try:
            if baseline is not None:
                folder = baseline / INFERENCE
                found["original"] = predictor.load(folder if folder.is_dir() else baseline)
            elif original is not None:
                save_program(original, work / "original")
                found["original"] = predictor.load(work / "original")
            found["program"] = predictor.load(exported.prefix)
            if "arm" in exported.files:
                found["arm"] = nb.load(exported.files["arm"])
            if "x86" in exported.files:
                found["x86"] = lite_x86.load(exported.files["x86"])
                found["x86 reference"] = found["program"]
                if exported.quantized:
                    fixes.float_program(exported.prefix, work / "view")
                    found["x86 reference"] = predictor.load(work / "view")
            yield found
        finally:
            for runtime in found.values():
                runtime.close()
