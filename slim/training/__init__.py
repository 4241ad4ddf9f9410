"""The only training loop: training, finetuning, quantization-aware training and distillation."""

from slim.training.hooks import BatchSource, FitResult, Hook
from slim.training.loop import fit
from slim.training.norm import correct_bn, reestimate_bn

__all__ = ["BatchSource", "FitResult", "Hook", "correct_bn", "fit", "reestimate_bn"]
