"""`make gpus`: this machine's GPUs in groups that never cross a NUMA node."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from records import entry  # noqa: E402
from records.arguments import Parser  # noqa: E402


def main(arguments: list[str]) -> int:
    """Print the groups; 1 for a mask that cannot be followed. With --require print
    nothing; 1 where torch finds no GPU.
    """
    parser = Parser(__doc__)
    parser.add_argument(
        "--require", action="store_true", help="only whether one is here"
    )
    given = parser.parse_args(arguments)
    from matrix.fleet import machine
    from matrix.plan.device import DeviceError, probe

    if given.require:
        with entry.refusing(DeviceError):
            if probe(sys.executable) != "cuda":
                cause = "torch finds no GPU here (`make doctor` says what there is)"
                raise DeviceError(f"{cause}, and this is for one")
        return 0
    return machine.main(ROOT, sys.executable)


if __name__ == "__main__":
    entry.run(main)
