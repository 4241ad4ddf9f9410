"""The quantization stage: plan (a scheme), apply (calibrate, train), checks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from quant import grid, lstm, ptq, qat, rules, wrap
from quant.qat import COLLAPSE
from quant.scheme import QuantScheme
from slim.distributed import on_first
from slim.errors import InputError, UsageError
from slim.stage import Check, StageContext, require_trained
from slim.strict import load_strict
from slim.training.sources import batches, tell_bad_lines

if TYPE_CHECKING:
    from slim.bundle import Bundle
    from slim.config.ours import QuantSection, TrainRecipe


def plan(bundle: Bundle, section: QuantSection, ctx: StageContext) -> QuantScheme:
    """Which layers are quantized and how; nothing is changed and nothing calibrated yet.

    Raises:
        InputError: the model is quantized already.
        ConfigError: Quant.exclude names a layer that is not in the net.
        UnsupportedModel: nothing would be quantized.
    """
    if bundle.scheme is not None:
        raise InputError(
            "is quantized already", where=bundle.source, remedy="quantize the float or pruned model"
        )
    scheme = rules.build_scheme(bundle.net, section, bundle.spec.input.shape)
    ctx.progress.info(
        f"{len(scheme.layers)} layers become int{section.weight_bits}, {len(scheme.kept_float)} stay float"
    )
    return scheme


def apply(bundle: Bundle, scheme: QuantScheme, section: QuantSection, ctx: StageContext) -> Bundle:
    """Calibrate, and for mode qat train; ``bundle`` itself stays as it is.

    Returns:
        A bundle whose net simulates int8 in eval mode, and whose scheme holds the activation clips and
        the metrics: "float", "calibrated" (right after the quantizers were put in) and "final".
    Raises:
        UsageError: no calibration or training data was given, or the model's metric is near zero.
        StageFailed: a layer was never fed, or its values are NaN. Diverged: training met NaN.
    """
    if ctx.calibration is None:
        raise UsageError("no calibration data", remedy="add a Calibration or Train section")
    calibration, spec = ctx.calibration, bundle.spec.input
    base, scheme = ptq.prepare(
        bundle,
        scheme,
        section,
        lambda: ptq.batches(calibration, spec, section.images, ctx.seed),
        progress=ctx.progress,
    )
    work = base.clone()
    wrap.prepare(work.net, scheme)
    wrap.install_clips(work.net, scheme)
    scheme = wrap.finalize(work.net, scheme)
    scheme = _measure_start(bundle, work, scheme, ctx)
    if scheme.mode == "qat" and section.Finetune is not None:
        scheme = _train(bundle, work, scheme, section.Finetune, ctx)
    elif "calibrated" in scheme.metrics:
        scheme = scheme.with_metrics(final=scheme.metrics["calibrated"])
    return replace(work, scheme=scheme.to_json())


def weighed(bundle: Bundle, section: QuantSection) -> Bundle:
    """A model whose file is as large as the one ``apply`` leads to, made without data.

    Bytes depend on which layers are quantized, not on their ranges. A net that is cut too far to be
    calibrated (a gate that has closed has no range) can be weighed all the same. Each layer gets a clip of
    its own, since a file holds equal scales once: with equal ones it was 2,456 bytes too small.

    Raises:
        As `plan`.
    """
    scheme = rules.build_scheme(bundle.net, section, bundle.spec.input.shape)
    scheme = scheme.with_clips({path: 1.0 + place / 1000 for place, path in enumerate(scheme.paths)})
    work = bundle.clone()
    wrap.prepare(work.net, scheme)
    wrap.install_clips(work.net, scheme)
    return replace(work, scheme=wrap.finalize(work.net, scheme).to_json())


def checks(before: Bundle, after: Bundle, section: QuantSection) -> list[Check]:
    """What must hold of a quantized bundle, measured on its net and not read from the scheme."""
    if after.scheme is None:
        raise InputError("is a float model", where=after.source, remedy="quantize it first")
    scheme = QuantScheme.from_json(after.scheme)
    found = wrap.wrappers(after.net)
    clips = wrap.read_clips(after.net)
    both = [(found[layer.path], layer) for layer in scheme.layers if layer.path in found]
    weights = max((grid.weight_error(*pair) for pair in both), default=float("nan"))
    inputs = max((grid.input_error(*pair, clips[pair[1].path]) for pair in both), default=float("nan"))
    differ = sum(clips.get(path) != clip for path, clip in scheme.clips.items())
    done = [
        Check("quantized layers", len(found), len(scheme.layers), "layers", "=="),
        Check("weights off their int grid", weights, grid.TOLERANCE, "steps"),
        Check("inputs off their int grid", inputs, grid.TOLERANCE, "steps"),
        Check("clips that differ from the scheme", differ, 0, "layers", "=="),
        Check(
            "LSTMs stored otherwise than planned", lstm.misplaced(after.net, scheme.lstms), 0, "layers", "=="
        ),
    ]
    if {"float", "final"} <= set(scheme.metrics):
        bound = COLLAPSE * scheme.metrics["float"]
        done.append(Check("metric after quantization", scheme.metrics["final"], bound, "points", ">="))
    return done


def _measure_start(before: Bundle, after: Bundle, scheme: QuantScheme, ctx: StageContext) -> QuantScheme:
    if ctx.score is None:
        return scheme
    score = ctx.score
    original = on_first(lambda: score(before))
    require_trained(original, before.source)
    calibrated = on_first(lambda: score(after))
    ctx.progress.info(f"float {original:.2f} points, calibrated {calibrated:.2f} points")
    if calibrated < COLLAPSE * original:
        ctx.progress.warn(
            f"calibration took the metric from {original:.2f} to {calibrated:.2f} points: "
            "are the calibration images those of this model?"
        )
    return scheme.with_metrics(float=original, calibrated=calibrated)


def _train(
    before: Bundle, work: Bundle, scheme: QuantScheme, recipe: TrainRecipe, ctx: StageContext
) -> QuantScheme:
    if ctx.train is None:
        raise UsageError(
            "no training data for mode qat", remedy="add a Train section or set Quant.mode to ptq"
        )
    source = batches(work.spec, ctx.train, recipe, ctx.seed, strict=ctx.strict)
    start = work.state()
    trained, _ = qat.train(
        work,
        scheme,
        recipe,
        source,
        teacher=ctx.teacher or before,
        score=ctx.score,
        work=ctx.work / "qat",
        progress=ctx.progress,
        seed=ctx.seed,
    )
    tell_bad_lines(source, ctx.progress)
    if ctx.score is None:
        return trained
    score = ctx.score
    final, calibrated = on_first(lambda: score(work)), scheme.metrics["calibrated"]
    ctx.progress.info(f"after training {final:.2f} points")
    if final >= calibrated:
        return trained.with_metrics(final=final)
    ctx.progress.warn(
        f"training took the metric from {calibrated:.2f} to {final:.2f} points: "
        "the calibrated weights are kept; lower lr or train longer"
    )
    load_strict(work.net, start, where="the calibrated weights")
    return wrap.finalize(work.net, scheme).with_metrics(trained=final, final=calibrated)
