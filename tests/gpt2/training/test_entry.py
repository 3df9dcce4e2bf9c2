"""What the process of a cell does before torch is there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from gpt2.training import process

ROOT = Path(__file__).resolve().parents[3]
RANK = """
import os, signal, sys
sys.path.insert(0, os.getcwd())
from gpt2.training.process import as_rank
as_rank()
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"asked to stop\\n"), os._exit(0)))
print(os.environ["TRITON_CACHE_DIR"], os.environ["TORCHINDUCTOR_CACHE_DIR"], flush=True)
signal.alarm(20)  # where nobody asks it to
signal.pause()
"""
CACHES = {"TRITON_CACHE_DIR": "/c", "TORCHINDUCTOR_CACHE_DIR": "/i"}
AGENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def test_a_process_alone_keeps_its_cache(monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", "/c")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    process.as_rank()
    assert os.environ["TRITON_CACHE_DIR"] == "/c"


def test_a_rank_has_a_cache_of_its_own_and_does_not_outlive_torchrun():
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, RANK],
        cwd=ROOT,
        env={**os.environ, "LOCAL_RANK": "1", **CACHES},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert agent.stdout.readline() == "/c/rank-1 /i/rank-1\n"
    agent.send_signal(signal.SIGKILL)
    assert agent.communicate(timeout=60)[0] == "asked to stop\n"
