"""The pruning plan: which channels stay, as data; written beside the weights and replayed from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prune.groups import Cuts
from slim.errors import ArtifactError

VERSION = 1
_KEYS = ("version", "criterion", "method", "weights", "groups", "cuts", "flops", "params")


@dataclass(frozen=True)
class PrunePlan:
    """What will be cut. Planning never touches a net; `prune.stage.apply` never decides.

    Attributes:
        criterion: a name of `prune.criteria.CRITERIA`.
        method: "ratio" or "sensitivity".
        weights: sha256 of the weights the plan was made for.
        sizes: group name -> channels before.
        kept: group name -> channels that stay, rising; only the groups that lose some.
        cuts: the same by layer, as `slim.arch.cuts.apply_cuts` replays it.
        flops_before, flops_after: multiply-adds for one input of the model's nominal size.
        params_before, params_after: parameters.
    """

    criterion: str
    method: str
    weights: str
    sizes: Mapping[str, int]
    kept: Mapping[str, list[int]]
    cuts: Cuts
    flops_before: int
    flops_after: int
    params_before: int
    params_after: int

    @property
    def flops_cut(self) -> float:
        """Share of the multiply-adds removed, 0 to 1."""
        return 1.0 - self.flops_after / self.flops_before

    @property
    def params_cut(self) -> float:
        """Share of the parameters removed, 0 to 1."""
        return 1.0 - self.params_after / self.params_before

    def rows(self) -> list[dict[str, Any]]:
        """One row per cut group for a table: name, before, after, removed share."""
        return [
            {
                "group": name,
                "before": self.sizes[name],
                "after": len(kept),
                "cut": 1 - len(kept) / self.sizes[name],
            }
            for name, kept in self.kept.items()
        ]

    def summary(self) -> dict[str, Any]:
        """The plan in a few numbers for a report: shares removed, counts before and after, groups cut."""
        return {
            "criterion": self.criterion,
            "method": self.method,
            "flops": {
                "before": self.flops_before,
                "after": self.flops_after,
                "cut": round(self.flops_cut, 6),
            },
            "params": {
                "before": self.params_before,
                "after": self.params_after,
                "cut": round(self.params_cut, 6),
            },
            "groups": {
                name: {"before": self.sizes[name], "after": len(kept)} for name, kept in self.kept.items()
            },
        }

    def to_json(self) -> dict[str, Any]:
        """Plain data; the key "cuts" is what reopening a pruned model needs."""
        return {
            "version": VERSION,
            "criterion": self.criterion,
            "method": self.method,
            "weights": self.weights,
            "groups": {name: {"size": self.sizes[name], "kept": kept} for name, kept in self.kept.items()},
            "cuts": self.cuts,
            "flops": {"before": self.flops_before, "after": self.flops_after},
            "params": {"before": self.params_before, "after": self.params_after},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, where: str = "plan") -> PrunePlan:
        """Rebuild from `to_json`.

        Raises:
            ArtifactError: another version, a missing or unknown key, a value that does not fit.
        """
        if data.get("version") != VERSION:
            raise ArtifactError(
                f"plan version is {data.get('version')!r}, this version reads {VERSION}", where=where
            )
        wrong = sorted(set(data) ^ set(_KEYS))
        if wrong:
            raise ArtifactError(f"plan has unknown or missing keys {', '.join(wrong)}", where=where)
        try:
            return _read(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"plan is damaged ({error})", where=where, remedy="prune again") from error


def composed_rows(plans: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`PrunePlan.rows` of several plans, each made for the net the one before left, as one cut.

    Args:
        plans: as `PrunePlan.to_json` gives them, in the order they were applied.
    """
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    for data in plans:
        for row in PrunePlan.from_json(data).rows():
            before.setdefault(row["group"], row["before"])
            after[row["group"]] = row["after"]
    return [
        {"group": name, "before": size, "after": after[name], "cut": 1 - after[name] / size}
        for name, size in before.items()
    ]


def _read(data: Mapping[str, Any]) -> PrunePlan:
    groups = {name: (_count(g["size"]), _indices(g["kept"], g["size"])) for name, g in data["groups"].items()}
    cuts = {
        str(path): {_side(side): _indices(kept, None) for side, kept in cut.items()}
        for path, cut in data["cuts"].items()
    }
    return PrunePlan(
        criterion=_text(data["criterion"]),
        method=_text(data["method"]),
        weights=_text(data["weights"]),
        sizes={name: size for name, (size, _) in groups.items()},
        kept={name: kept for name, (_, kept) in groups.items()},
        cuts=cuts,
        flops_before=_count(data["flops"]["before"]),
        flops_after=_count(data["flops"]["after"]),
        params_before=_count(data["params"]["before"]),
        params_after=_count(data["params"]["after"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{value!r} is not a positive count")
    return value


def _side(value: str) -> str:
    if value not in ("in", "out", "hidden"):
        raise ValueError(f"{value!r} is neither 'in', 'out' nor 'hidden'")
    return value


def _indices(values: Any, size: int | None) -> list[int]:
    whole = isinstance(values, list) and all(isinstance(i, int) and not isinstance(i, bool) for i in values)
    rising = whole and values and values[0] >= 0 and values == sorted(set(values))
    if not rising or (size is not None and values[-1] >= size):
        raise ValueError(f"channels {str(values)[:60]} are not a rising choice of {size or 'channels'}")
    return list(values)
