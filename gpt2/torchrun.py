#!/usr/bin/env python3
"""torchrun, with the exit status of the rank that ended the others.

torchrun.py --nproc-per-node 4 [torchrun's options] gpt2/train_ra_mla.py --run-dir …

torchrun itself returns 1 for whatever a rank returns, so that a cell that was
stopped (143) or is held elsewhere (75) could not be told from one that failed.
"""

import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main(arguments: list[str]) -> int:
    """The first rank's status that is not 0; 128 + n for signal n."""
    try:
        run.main(arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode
        print(f"rank {rank} ended first, with {code}", file=sys.stderr)
        return code if code > 0 else 128 - code
    except SignalException as error:
        return 128 + error.sigval
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
