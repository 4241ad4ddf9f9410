"""Which layers are quantized: ordered rules by layer type or structural path; the later rule wins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from paddle import nn

from quant import lstm
from quant.scheme import FloatLayer, LayerScheme, LstmScheme, QuantScheme
from slim.arch.cost import run_hooked
from slim.errors import ConfigError, UnsupportedModel

if TYPE_CHECKING:
    from slim.config.ours import QuantSection

# Every layer with weights a net may hold; each of them ends up in the scheme, quantized or with a reason.
WEIGHTED = (nn.Conv2D, nn.Conv2DTranspose, nn.Linear, nn.LSTM)


@dataclass(frozen=True)
class Rule:
    """Layers whose ``by`` ("type" or "path") fits ``match`` are quantized, or stay float for ``reason``.

    A path is matched as a glob whose ``*`` also crosses dots: "head.*" is everything below the head.
    ``weight_bits`` and ``activation_bits`` are those of the section where None.
    """

    by: str
    match: str
    quantize: bool
    reason: str = ""
    weight_bits: int | None = None
    activation_bits: int | None = None

    def fits(self, path: str, kind: str) -> bool:
        """Whether the layer at ``path`` of type ``kind`` is meant.

        >>> Rule("path", "backbone.*.conv", True).fits("backbone.blocks.0.expand_conv.conv", "Conv2D")
        True
        """
        return kind == self.match if self.by == "type" else fnmatchcase(path, self.match)


# What cannot be quantized at all; these come last, so that no recipe overrides them.
ALWAYS_FLOAT = (
    Rule(
        "type",
        "Conv2DTranspose",
        False,
        "opt 2.13 applies BatchNorm's factor to an int8 conv2d_transpose once per input channel",
    ),
    Rule(
        "type", "LSTM", False, "Paddle-Lite 2.13 has no int8 rnn kernel; its matrices may be stored as int8"
    ),
)


def from_section(section: QuantSection) -> list[Rule]:
    """The rules a Quant section stands for, in order."""
    rules = [Rule("type", kind, True) for kind in section.layers]
    rules += [Rule("path", glob, False, f"Quant.exclude names {glob}") for glob in section.exclude]
    for number, given in enumerate(section.rules):
        by, match = ("path", given.path) if given.path is not None else ("type", str(given.type))
        reason = "" if given.quantize else f"Quant.rules[{number}] names {match}"
        rules.append(Rule(by, match, given.quantize, reason, given.weight_bits, given.activation_bits))
    return rules


def bits(path: str, kind: str, rules: Sequence[Rule], section: QuantSection) -> tuple[int, int]:
    """Bits of a layer's weights and input: the last rule that fits and names them, else the section's."""
    weight, activation = section.weight_bits, section.activation_bits
    for rule in rules:
        if rule.fits(path, kind):
            weight = rule.weight_bits or weight
            activation = rule.activation_bits or activation
    return weight, activation


def resolve(
    layers: Mapping[str, str], rules: Sequence[Rule], reached: Iterable[str]
) -> tuple[list[str], list[FloatLayer]]:
    """Decide every layer.

    Args:
        layers: path -> type of each layer with weights, in the net's order.
        rules: ordered rules; ALWAYS_FLOAT is added behind them.
        reached: paths of the layers that inference runs; others are never calibrated, so stay float.
    Returns:
        The quantized paths, and the layers that stay float.
    Raises:
        ConfigError: a path rule that fits no layer, with the nearest path.
    """
    seen = set(reached)
    for rule in rules:
        if rule.by == "path" and not any(rule.fits(path, kind) for path, kind in layers.items()):
            near = get_close_matches(rule.match, layers, n=1, cutoff=0.0)
            raise ConfigError(
                f"{rule.match!r} fits no layer of the net",
                where="Quant.exclude or Quant.rules",
                remedy=f"the nearest layer is {near[0]!r}" if near else None,
            )
    quantized, kept = [], []
    for path, kind in layers.items():
        decision = _decide(path, kind, [*rules, *ALWAYS_FLOAT])
        if decision.quantize and path not in seen:
            decision = Rule("path", path, False, "inference does not run it")
        if decision.quantize:
            quantized.append(path)
        else:
            kept.append(FloatLayer(path, kind, decision.reason))
    return quantized, kept


def _decide(path: str, kind: str, rules: Sequence[Rule]) -> Rule:
    chosen = Rule("type", kind, False, f"Quant.layers does not name {kind}")
    for rule in rules:
        if rule.fits(path, kind):
            chosen = rule
    return chosen


def build_scheme(net: nn.Layer, section: QuantSection, input_shape: Sequence[int]) -> QuantScheme:
    """The uncalibrated scheme of a net.

    Args:
        net: a float net (pruned or not).
        section: the Quant section.
        input_shape: C, H, W of one input; the net is run once on zeros to see which layers it reaches.
    Raises:
        ConfigError: a rule fits no layer.
        UnsupportedModel: nothing would be quantized.
    """
    kinds = {p: _kind(la) for p, la in net.named_sublayers() if isinstance(la, WEIGHTED)}
    chosen = from_section(section)
    paths, kept = resolve(kinds, chosen, _reached(net, kinds, input_shape))
    if not paths:
        raise UnsupportedModel(
            "no layer would be quantized", remedy="widen Quant.layers, Quant.exclude or Quant.rules"
        )
    layers = tuple(
        LayerScheme(path, kinds[path], *bits(path, kinds[path], chosen, section)) for path in paths
    )
    return QuantScheme(
        mode=section.mode,
        layers=layers,
        kept_float=tuple(kept),
        algo=section.algo,
        clip=section.clip if section.mode == "qat" else "none",
        moving_rate=section.moving_rate,
        lstms=tuple(_lstms(net, kinds, section, chosen)),
    )


def _lstms(
    net: nn.Layer, kinds: Mapping[str, str], section: QuantSection, rules: Sequence[Rule]
) -> Iterator[LstmScheme]:
    """How LSTMs are stored: as Quant.lstm_weights says, as floats where a rule keeps the path float."""
    layers = dict(net.named_sublayers())
    for path in (path for path, kind in kinds.items() if kind == "LSTM"):
        kept = any(rule.by == "path" and not rule.quantize and rule.fits(path, "LSTM") for rule in rules)
        yield lstm.plan(path, layers[path], quantize=section.lstm_weights == "int8" and not kept)


def _kind(layer: nn.Layer) -> str:
    return next(kind.__name__ for kind in WEIGHTED if isinstance(layer, kind))


def _reached(net: nn.Layer, paths: Iterable[str], input_shape: Sequence[int]) -> set[str]:
    """Paths among ``paths`` that one inference pass runs."""
    seen: set[str] = set()
    layers = dict(net.named_sublayers())
    hooks = []
    for path in paths:
        hooks.append(layers[path].register_forward_pre_hook(lambda layer, inputs, p=path: seen.add(p)))
    run_hooked(net, input_shape, hooks)
    return seen
