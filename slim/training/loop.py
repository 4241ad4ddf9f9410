"""The steps themselves: forward, loss, backward, update, evaluation, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import paddle
from paddle import nn

from slim import distributed
from slim.bundle import Bundle
from slim.errors import CheckpointError, Diverged, UsageError
from slim.interrupts import interrupts_wait
from slim.progress import Reporter, Silent, Task
from slim.strict import load_strict
from slim.training.checkpoints import BEST, LATEST, Arrays, Checkpoints, Progress
from slim.training.depthwise import quick_depthwise
from slim.training.hooks import BatchSource, FitResult, Hook, TrainingBatch
from slim.training.identity import identity_of
from slim.training.losses import TrainingLoss
from slim.training.norm import quiet_norms, to_training
from slim.training.optim import Optimizer, rate_at
from slim.training.parallel import Averager, require_same_weights, shared

if TYPE_CHECKING:
    from slim.config import TrainRecipe

Evaluate = Callable[[], Mapping[str, float]]


def fit(
    model: Bundle | nn.Layer,
    recipe: TrainRecipe,
    batches: BatchSource,
    *,
    kind: str,
    evaluate: Evaluate | None = None,
    main_indicator: str = "acc",
    out: Path | None = None,
    teacher: nn.Layer | None = None,
    hooks: Sequence[Hook] = (),
    progress: Reporter | None = None,
    seed: int,
) -> FitResult:
    """Train ``model`` in place and leave its best weights in it (the last ones without ``evaluate``).

    The same model, recipe, data and seed give the same bytes; so does a run that was killed and called
    again with the same arguments: it goes on from the last checkpoint in ``out``.

    In several processes (`slim.distributed`) each trains on its rows of every batch and all make the same
    steps; rank 0 alone evaluates and writes, and a run may go on with another number of processes.

    Args:
        model: a bundle or its net: float32 N x 3 x H x W -> logits in training mode. Quantization-aware
            training passes a wrapped net.
        recipe: lengths in steps or epochs.
        batches: what is trained on; batch k depends on nothing but k.
        kind: "rec" (CTC), "cls" (cross entropy) or "det" (DB).
        evaluate: scores the net as it is; called with the net in eval mode, every ``eval_every`` steps
            and at the end.
        main_indicator: the key of ``evaluate()``'s result that names the best checkpoint; larger is better.
        out: folder of best_accuracy.* and latest.* (.pdparams, .pdopt, .states); None writes nothing.
        teacher: net that outputs are distilled from, with weight ``recipe.distill``.
    Raises:
        Diverged: a loss, gradient, weight or metric is NaN or infinite; nothing of that step is saved.
        CheckpointError: ``out`` holds checkpoints of another run, or damaged ones.
        UnsupportedModel: no loss for the kind.
        KeyboardInterrupt: passed on after ``latest.*`` was written; the step in work is finished first.
    """
    net = model.net if isinstance(model, Bundle) else model
    recipe = recipe.in_steps(batches.steps_per_epoch)
    run = _Run(
        net, recipe, batches, kind, evaluate, main_indicator, out, teacher, hooks, progress or Silent(), seed
    )
    return run.to_end()


class _Run:
    """One call of ``fit``: what it was given, and how far it is."""

    def __init__(
        self,
        net: nn.Layer,
        recipe: TrainRecipe,
        batches: BatchSource,
        kind: str,
        evaluate: Evaluate | None,
        main_indicator: str,
        out: Path | None,
        teacher: nn.Layer | None,
        hooks: Sequence[Hook],
        reporter: Reporter,
        seed: int,
    ) -> None:
        self.net, self.recipe, self.batches, self.seed = net, recipe, shared(batches), seed
        self.evaluate, self.main_indicator = evaluate, main_indicator
        self.teacher, self.hooks, self.reporter = teacher, hooks, reporter
        self.loss = TrainingLoss(kind, teacher, recipe.distill, recipe.temperature, recipe.shrink_loss)
        self.optimizer = Optimizer(net, recipe)
        self.progress = Progress()
        self.best: Arrays | None = None
        self.whole = True  # False while a step is half made, when nothing may be saved
        self.saved_step: int | None = None
        self.resumed_from: int | None = None
        self.store: Checkpoints | None = None
        self.world = distributed.world()
        self.averager = Averager(net) if self.world.size > 1 else None
        if out is not None:
            identity = identity_of(net, recipe, batches, kind, main_indicator, teacher, seed)
            self.store = Checkpoints(out, identity)
            for part, value in identity.items():
                distributed.require_equal(str(value), part)

    @property
    def steps(self) -> int:
        assert self.recipe.steps is not None
        return self.recipe.steps

    def to_end(self) -> FitResult:
        self._resume()
        for hook in self.hooks:
            hook.on_start(self.net)
        with quiet_norms(), self.reporter.task("train", self.steps) as task:
            task.advance(self.progress.step)
            try:
                self._all_steps(task)
            except KeyboardInterrupt:
                if self.whole:
                    with interrupts_wait():
                        self._save(LATEST)
                raise
            finally:
                self.net.eval()
        return self._finish()

    def _resume(self) -> None:
        if self.store is None:
            return
        if self.world.rank == 0:
            self.store.prepare()
            saved = self.store.read(LATEST)
        distributed.barrier()  # reading also finishes a renaming that was cut off: one process first
        if self.world.rank > 0:
            saved = self.store.read(LATEST)
        if saved is None:
            return
        load_strict(self.net, saved.weights, where=self.store.path(LATEST))
        self.optimizer.load(saved.optimizer)
        self.progress = saved.progress
        self.saved_step = self.resumed_from = saved.progress.step
        self.reporter.info(
            f"goes on from step {self.resumed_from} of {self.steps} ({self.store.path(LATEST)})"
        )

    def _all_steps(self, task: Any) -> None:
        done = self.progress.step
        if done and self._is_scored(done) and self.progress.scored_step != done:
            self._score(done)  # stopped between the step and its evaluation
        source = self.batches.iterate(done, self.steps)
        with closing(cast("Generator[TrainingBatch, None, None]", source)):
            for step, batch in enumerate(source, start=done + 1):
                with interrupts_wait():
                    self._one_step(step, batch, task)
                self._evaluate_and_save(step)

    def _one_step(self, step: int, batch: TrainingBatch, task: Task) -> None:
        started = time.perf_counter()
        self.whole = False
        rate = rate_at(self.recipe, step)
        rows = self._update(step, batch, rate)
        speed = rows / max(1e-9, time.perf_counter() - started)
        self._log(step, rate, speed)
        self.whole = True
        loss = self.progress.last_loss
        task.advance(1, loss=loss, lr=rate, images_per_s=speed, **self._best_field())

    def _update(self, step: int, batch: TrainingBatch, rate: float) -> int:
        """One step of the optimizer; gives the rows it was made of, in all processes."""
        paddle.seed(_step_seed(self.seed, step, self.world.rank))
        for hook in self.hooks:
            hook.before_step(step)
        to_training(self.net, freeze_bn=self.recipe.freeze_bn)
        image = paddle.to_tensor(batch.image)
        if self.averager is not None:
            self.averager.start()
        with quick_depthwise(self.net, self.teacher):
            loss = self.loss(self.net(image), image, batch)
        value, rows = self._backward(loss, len(batch.refs), step)
        for hook in self.hooks:
            hook.after_backward(self.net, step)
        self._finite(self.optimizer.gradient_norm(), "gradient norm", step)
        self.optimizer.step(rate)
        self.progress.step, self.progress.last_loss = step, value
        for hook in self.hooks:
            hook.after_step(self.net, step, value)
        return rows

    def _backward(self, loss: paddle.Tensor, rows: int, step: int) -> tuple[float, int]:
        """Gradients, and the loss and the rows they are of."""
        value = float(loss)
        if self.averager is None:
            self._finite(value, "loss", step)
            loss.backward()
            return value, rows
        loss.backward()
        value, rows = self.averager.average(value, rows)
        self._finite(value, "loss", step)  # NaN in one process is NaN in all: they stop alike
        return value, rows

    def _finite(self, value: float, what: str, step: int) -> None:
        if math.isfinite(value):
            return
        kept = "no checkpoint was written before"
        if self.store is not None and self.saved_step is not None:
            kept = f"the last good checkpoint is {self.store.path(LATEST)} of step {self.saved_step}"
        raise Diverged(
            f"{what} is {value} at step {step} of {self.steps}; {kept}",
            remedy="lower lr, add warmup_steps or clip_norm",
        )

    def _log(self, step: int, rate: float, speed: float) -> None:
        if step % self.recipe.log_every and step != self.steps:
            return
        loss = self.progress.last_loss
        self.progress.history.append({"step": step, "loss": loss, "lr": rate})
        self.reporter.info(f"step {step}/{self.steps}  loss {loss:.4f}  lr {rate:.3g}  {speed:.1f} images/s")

    def _best_field(self) -> dict[str, object]:
        best = self.progress.best_metric
        return {} if best is None else {f"best_{self.main_indicator}": best}

    def _is_scored(self, step: int) -> bool:
        every, start = self.recipe.eval_every, self.recipe.eval_start
        regular = every is not None and step % every == 0 and step >= start
        return self.evaluate is not None and (regular or step == self.steps)

    def _evaluate_and_save(self, step: int) -> None:
        if self._is_scored(step):
            self._score(step)
        every = self.recipe.save_every
        if self._is_scored(step) or step == self.steps or (every is not None and step % every == 0):
            self._save(LATEST)

    def _score(self, step: int) -> None:
        assert self.evaluate is not None
        self.net.eval()
        evaluate = self.evaluate
        metrics = distributed.on_first(lambda: {name: float(value) for name, value in evaluate().items()})
        if self.main_indicator not in metrics:
            raise UsageError(
                f"the evaluation gives {', '.join(metrics) or 'nothing'}, not {self.main_indicator!r}",
                where="Metric.main_indicator",
                remedy="name one of them",
            )
        self._finite(metrics[self.main_indicator], self.main_indicator, step)
        with interrupts_wait():
            self._keep_score(step, metrics)
        for hook in self.hooks:
            hook.on_eval(step, metrics)

    def _keep_score(self, step: int, metrics: dict[str, float]) -> None:
        done, value = self.progress, metrics[self.main_indicator]
        better = done.best_metric is None or value > done.best_metric
        done.history.append({"step": step, **metrics})
        done.scored_step = step
        if better:
            done.best_metric, done.best_step = value, step
            self._save(BEST)
        shown = "  ".join(f"{name} {found:.4f}" for name, found in metrics.items())
        self.reporter.info(f"step {step}/{self.steps}  {shown}{'  (best)' if better else ''}")

    def _save(self, name: str) -> None:
        """Write set ``name`` (and keep the best weights in memory when there is no folder)."""
        weights = {key: tensor.numpy() for key, tensor in self.net.state_dict().items()}
        for key, value in weights.items():
            if not np.isfinite(value).all():
                self._finite(float("nan"), f"weight {key}", self.progress.step)
        if self.store is not None:
            if self.world.rank == 0:
                self.store.write(name, weights, self.optimizer.state(), self.progress)
            self.saved_step = self.progress.step if name == LATEST else self.saved_step
        elif name == BEST:
            self.best = {key: value.copy() for key, value in weights.items()}

    def _finish(self) -> FitResult:
        done = self.progress
        name = LATEST if done.best_step is None else BEST
        holds = None if self.store is None else self.store.path(name)
        if done.best_step is not None and done.best_step != done.step:
            distributed.barrier()  # rank 0 may still be writing them
            load_strict(self.net, self._best_weights(), where=BEST)
        require_same_weights(self.net)
        return FitResult(
            done.step,
            done.best_metric,
            done.best_step,
            done.last_loss,
            tuple(done.history),
            self.resumed_from,
            holds,
        )

    def _best_weights(self) -> Arrays:
        if self.store is not None:
            saved = self.store.read(BEST)
            if saved is None:
                raise CheckpointError(
                    "the best checkpoint of this run is gone",
                    where=self.store.path(BEST),
                    remedy="remove the folder and train again",
                )
            return saved.weights
        assert self.best is not None
        return self.best


def _step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Random layers of a step depend on (seed, step, rank) alone: no generator state has to be saved."""
    parts = [seed, step] if rank == 0 else [seed, step, rank]
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
