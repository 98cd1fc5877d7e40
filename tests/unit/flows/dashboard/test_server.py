"""The process that fits does not outlive the server."""

import subprocess
import sys

import psutil
import pytest

_SERVER = """
import os, time
from flows.dashboard.server import _one_process

if __name__ == "__main__":
    fits = _one_process()
    fitter = fits.submit(os.getpid).result()
    fits.submit(time.sleep, 60)
    print(fitter, flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_killed_server_leaves_no_process_behind(tmp_path, how):
    script = tmp_path / "server.py"
    script.write_text(_SERVER)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as server:
        fitter = psutil.Process(int(server.stdout.readline()))
        getattr(server, how)()
    _, left = psutil.wait_procs([fitter], timeout=10)
    assert not left
