"""gpt2/distributed/torchrun.py as far as the stub trainer needs it: rank 0 alone.

Tests copy it to gpt2/distributed/torchrun.py of a throw-away checkout: torch takes seconds to
import. The script runs in this process.
"""

import argparse
import os
import runpy
import socket
import sys

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("--nnodes", "--nproc-per-node", "--master-addr", "--master-port"):
        parser.add_argument(name, required=True)
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    with socket.socket() as meeting:  # as torchrun's store does, for the whole run
        meeting.bind((options.master_addr, int(options.master_port)))
        meeting.listen()
        ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": options.nproc_per_node}
        os.environ |= ranks
        sys.argv = [options.script, *options.arguments]
        sys.path.insert(0, os.path.dirname(options.script))
        runpy.run_path(options.script, run_name="__main__")
