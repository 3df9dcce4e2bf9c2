"""The settings of native sparse attention."""

from dataclasses import dataclass
from typing import Any

from gpt2.settings.mixers.mixer import MixerSettings
from kconf.bind import SettingsError, flag, integer, one_of

FORCED = 3
"""Blocks that are read in any case: the first, the query's own, the one before it."""
SUBSETS = ("cmp_sel_win", "cmp_sel", "cmp_win", "sel_win", "cmp", "sel", "win")


@dataclass(frozen=True)
class NsaSettings(MixerSettings):
    """Branches, block sizes, φ, gate."""

    name = "nsa"
    rotates = statistics = True

    subset: str = one_of(**{f"NSA_BRANCHES_{name.upper()}": name for name in SUBSETS})
    shared_kv: bool = flag("NSA_SHARED_KV")
    length: int = integer("NSA_LENGTH")
    stride: int = integer("NSA_STRIDE")
    block: int = integer("NSA_BLOCK")
    top: int = integer("NSA_TOP")
    window: int = integer("NSA_WINDOW")
    forced: bool = flag("NSA_FORCED_BLOCKS")
    per_head: bool = flag("NSA_CHOICE_PER_HEAD")
    phi: str = one_of(NSA_PHI_MEAN="mean", NSA_PHI_CONV="conv", NSA_PHI_MLP="mlp")
    phi_rope: str | None = one_of(
        optional=True,
        NSA_PHI_ROPE_AUTO="auto",
        NSA_PHI_ROPE_AFTER="after",
        NSA_PHI_ROPE_NONE="none",
    )
    phi_rank: int | None = integer("NSA_PHI_RANK", optional=True)
    gate: str = one_of(
        NSA_GATE_SIGMOID="sigmoid", NSA_GATE_SOFTMAX="softmax", NSA_GATE_FIXED="fixed"
    )
    force: str = one_of(
        NSA_FORCE_BRANCH_NONE="none",
        NSA_FORCE_BRANCH_CMP="cmp",
        NSA_FORCE_BRANCH_SEL="sel",
        NSA_FORCE_BRANCH_WIN="win",
    )

    def __post_init__(self) -> None:
        for symbol, value, why in (*self._sizes(), *self._combinations()):
            raise SettingsError(symbol, value, why)

    def _sizes(self) -> list[tuple[str, Any, str]]:
        """Sizes that do not fit each other: symbol, value, reason."""
        faults, chooses = [], "sel" in self.branches
        why = f"is not a multiple of CONFIG_NSA_STRIDE={self.stride}"
        if self.length % self.stride and self.branches != ("win",):
            faults.append(("NSA_LENGTH", self.length, why))
        if self.block % self.stride and chooses:
            faults.append(("NSA_BLOCK", self.block, why))
        if self.length > self.block and chooses:
            why = f"exceeds CONFIG_NSA_BLOCK={self.block}: equation 9 needs l <= b"
            faults.append(("NSA_LENGTH", self.length, why))
        if self.forced and self.top < FORCED and chooses:
            why = (
                f"is less than the {FORCED} blocks that CONFIG_NSA_FORCED_BLOCKS reads "
                "in any case"
            )
            faults.append(("NSA_TOP", self.top, why))
        return faults

    def _combinations(self) -> list[tuple[str, Any, str]]:
        """Choices without a meaning together."""
        faults, alone = [], "cmp" not in self.branches
        subset = f"NSA_BRANCHES_{self.subset.upper()}"
        if "sel" in self.branches and alone and not self.shared_kv:
            why = (
                "needs CONFIG_NSA_SHARED_KV: without the output of cmp nothing would "
                "train the keys that it chooses by"
            )
            faults.append((subset, True, why))
        if alone and self.phi != "mean":
            why = f"has no gradient under CONFIG_{subset}: cmp's output is not there"
            faults.append((f"NSA_PHI_{self.phi.upper()}", True, why))
        if self.force not in ("none", *self.branches):
            why = f"is no branch of CONFIG_{subset}"
            faults.append((f"NSA_FORCE_BRANCH_{self.force.upper()}", True, why))
        if len(self.branches) == 1 and self.gate != "softmax":
            why = f"has nothing to weigh under CONFIG_{subset}: leave it at softmax"
            faults.append((f"NSA_GATE_{self.gate.upper()}", True, why))
        if self.per_head and "sel" not in self.branches:
            why = f"has nothing to choose under CONFIG_{subset}"
            faults.append(("NSA_CHOICE_PER_HEAD", True, why))
        return faults

    @property
    def phi_rotation(self) -> str:
        """Where the keys of compression blocks are rotated: before φ, after it, none."""
        usual = "after" if self.phi == "mlp" else "before"
        return usual if self.phi_rope in (None, "auto") else self.phi_rope

    @property
    def branches(self) -> tuple[str, ...]:
        """Those that are there, in the order of the gate."""
        return tuple(self.subset.split("_"))

    @property
    def force_branch(self) -> str | None:
        """The one that is all of the output, None: the gate weighs them."""
        return None if self.force == "none" else self.force

    @property
    def lengths(self) -> dict[str, int]:
        """See MixerSettings."""
        names = ("LENGTH", "STRIDE", "BLOCK", "WINDOW")
        sizes = (self.length, self.stride, self.block, self.window)
        return {f"NSA_{name}": size for name, size in zip(names, sizes)}

    @property
    def widths(self) -> dict[str, int]:
        """See MixerSettings."""
        return {} if self.phi_rank is None else {"NSA_PHI_RANK": self.phi_rank}

    def sizes(self, model: Any) -> tuple[int, int, int, int, int]:
        """l, d, b, n, w after CONFIG_LENGTH_DIVISOR, which leaves n."""
        l, d, b, w = (each // model.length_divisor for each in self.lengths.values())
        return l, d, b, self.top, w

    def tokens(self, model: Any) -> int:
        """See MixerSettings: until a block is left out, or a window ends."""
        l, _, b, n, w = self.sizes(model)
        return max(l, w, (n + 1) * b) + b

    def kv_heads(self, model: Any) -> int:
        """G: CONFIG_KV_HEADS, H where that is not active."""
        return model.grouped or model.heads

    def rank(self, model: Any) -> int | None:
        """r of φ after CONFIG_WIDTH_DIVISOR, None without it."""
        return self.phi_rank and self.phi_rank // model.width_divisor

    def require(self, model: Any) -> None:
        """See MixerSettings."""
        groups = self.kv_heads(model)
        if model.heads % groups:
            why = f"does not divide CONFIG_GPT2_HEADS={model.heads}"
            raise SettingsError("KV_HEADS", groups, why)

    def asked(self, model: Any) -> dict[str, tuple[str, Any]]:
        """See MixerSettings."""
        names = ("LENGTH", "STRIDE", "BLOCK", "TOP", "WINDOW")
        return super().asked(model) | {
            "kv_heads": ("CONFIG_KV_HEADS", self.kv_heads(model)),
            "nsa_branches": ("CONFIG_NSA_BRANCHES", self.branches),
            "nsa_forced": ("CONFIG_NSA_FORCED_BLOCKS", self.forced),
            "nsa_per_head": ("CONFIG_NSA_CHOICE_PER_HEAD", self.per_head),
            **{
                f"nsa_{name.lower()}": (f"CONFIG_NSA_{name} / divisor", size)
                for name, size in zip(names, self.sizes(model))
            },
        }


SETTINGS = NsaSettings
