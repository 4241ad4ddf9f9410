"""slim quant --max-drop and --analyze: the per-layer analysis and the search, scored on shipped files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim import artifact
from slim.pipeline.shipping import Shipper
from slim.progress import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quant.analysis import LayerEffect
    from quant.scheme import LayerScheme
    from quant.search import Found
    from slim.bundle import Bundle
    from slim.config import Config, QuantSection
    from slim.data.dataset import TrainingData

ANALYSIS, TABLE, PLOT = "quant_analysis.json", "quant_analysis.md", "quant_analysis.png"


@dataclass(frozen=True)
class Searched:
    """The bundle that ships, what was found, and the files that say why."""

    bundle: Bundle
    facts: dict[str, Any]
    files: list[Path]


def search(
    original: Bundle,
    quantized: Bundle,
    config: Config,
    section: QuantSection,
    data: TrainingData,
    score: Callable[[Bundle], float],
    work: Path,
    progress: Reporter,
) -> Searched:
    """Analyze the layers where asked for or needed, and let them fall back until the bound holds.

    Args:
        original: the float original, which the drop is measured against.
        quantized: calibrated or trained; it is not changed.
        data: calibration lines, the first ``section.images`` of which are scored: the evaluation set chooses
            nothing.
        score: percent of a net's simulation.
        work: keeps quant_analysis.json, from which a stopped run goes on.
    Raises:
        GateFailed: the bound does not hold before every layer is float.
    """
    from quant.analysis import Bench, measure
    from quant.fallback import HALVES, only
    from quant.search import Bound, Search
    from slim.config import ExportSection

    options = (config.Export or ExportSection()).model_copy(update={"targets": ("arm",)})
    images = min(section.images, len(data))
    key = {
        "original": original.sha256(),
        "quantized": quantized.sha256(),
        "images": images,
        "data": dict(data.describe()),
        "export": options.model_dump(mode="json"),
    }
    limit = section.max_drop if section.max_drop is not None else float("inf")

    def half(name: str) -> float:
        with only(quantized, name) as partial:
            return score(partial)

    with Shipper(original, quantized, data, images, options) as ship:
        bench = Bench(ship, key, work / ANALYSIS, progress)
        looking = Search(bench, ship.original, Bound(limit, section.relative_drop))
        enough = looking.holds(frozenset(), "all layers int8")
        effects = []
        if section.analyze or not enough:
            halves = bench.halves(half)
            progress.info(", ".join(f"only {h} int8: {halves[h]:.2f} points" for h in HALVES))
            effects = measure(bench, {layer.path: layer.type for layer in _layers(quantized)}, ship.original)
        found = looking.found(frozenset()) if enough else looking.run(effects)
    chosen = _fallen_back(quantized, found, effects, score) if found.choice else quantized
    title = f"{original.spec.name}: what each layer costs in int8 ({images} lines, points regained beside it)"
    shown = _shown(effects, found, title, work, progress) if effects else []
    facts = {"original": ship.original.accuracy, **found.to_json(), "layers": len(_layers(chosen))}
    return Searched(chosen, facts, [work / ANALYSIS, *shown])


def _layers(bundle: Bundle) -> tuple[LayerScheme, ...]:
    from quant.scheme import QuantScheme

    return QuantScheme.from_json(bundle.scheme or {}).layers


def _fallen_back(
    quantized: Bundle, found: Found, effects: Sequence[LayerEffect], score: Callable[[Bundle], float]
) -> Bundle:
    """The chosen layers float, each with its reason, and the score of what is left."""
    from quant.fallback import with_float_layers
    from quant.scheme import QuantScheme

    chosen = with_float_layers(quantized, _reasons(found, effects))
    scheme = QuantScheme.from_json(chosen.scheme or {}).with_metrics(final=score(chosen))
    return replace(chosen, scheme=scheme.to_json())


def _shown(
    effects: Sequence[LayerEffect], found: Found, title: str, work: Path, progress: Reporter
) -> list[Path]:
    """The layers' effects as a table on stderr, and as files."""
    from quant.analysis import table
    from quant.analysis_plot import draw_analysis
    from slim.report import markdown_table, text_table

    head, *rows = table(effects)
    progress.info("\n" + text_table(head, rows))
    artifact.write_text(work / TABLE, markdown_table(head, rows) + "\n")
    draw_analysis(effects, found.choice, work / PLOT, title=title)
    return [work / TABLE, work / PLOT]


def _reasons(found: Found, effects: Sequence[LayerEffect]) -> dict[str, str]:
    return {
        effect.path: f"accuracy search: int8 moves the outputs by {effect.off_moved:.1e} "
        f"(mean square) and saves {effect.bytes:,} bytes"
        for effect in effects
        if effect.path in found.choice
    }
