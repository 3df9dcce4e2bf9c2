"""What the vendors' libraries add to sysfs: NVIDIA's memory and users, AMD's names.

Both are optional. A library that is installed and fails is said, never an error:
sysfs has told what placement needs.
"""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Mapping

from matrix.fleet.topology import Gpu, Topology, numbered, read_sysfs
from records.gpu_readers import AmdSmi, Card, Nvml, ReadError


def read(root: Path = Path("/")) -> Topology:
    """The topology of the machine below `root`, with what the libraries know."""
    topology = read_sysfs(root)
    gpus, notes = list(topology.gpus), []
    for vendor, library in (("nvidia", Nvml), ("amd", AmdSmi)):
        try:
            with closing(library()) as opened:
                gpus = _merged(gpus, vendor, opened.cards())
        except ImportError:  # not installed
            continue
        except ReadError as error:
            if any(gpu.vendor == vendor for gpu in gpus):
                notes.append(f"nothing is known from {error}")
    return replace(topology, gpus=tuple(gpus), notes=tuple(notes))


def _merged(gpus: list[Gpu], vendor: str, cards: Mapping[str, Card]) -> list[Gpu]:
    """The GPUs with what the library knows; its own list where sysfs shows none.

    NVML counts as CUDA does: what it does not see is not ours to use.
    """
    mine = [gpu for gpu in gpus if gpu.vendor == vendor]
    others = [gpu for gpu in gpus if gpu.vendor != vendor]
    if not mine:
        mine = [Gpu(-1, vendor, bus, "") for bus in sorted(cards)]
    elif vendor == "nvidia":
        mine = [gpu for gpu in mine if gpu.bus in cards]
    known = [_with(gpu, cards[gpu.bus]) if gpu.bus in cards else gpu for gpu in mine]
    return [*others, *numbered(known)]


def _with(gpu: Gpu, card: Card) -> Gpu:
    users = gpu.users if card.users is None else card.users
    uuid = card.uuid or gpu.uuid
    return replace(gpu, name=card.name, memory=card.memory, uuid=uuid, users=users)
