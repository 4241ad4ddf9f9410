"""Rendered text lines and pages with known labels: seeded, byte for byte reproducible data sets."""

from slim.synth.manifest import GENERATOR_VERSION
from slim.synth.sets import synthesize

__all__ = ["GENERATOR_VERSION", "synthesize"]
