"""The registered processes of a stack, whatever happened to their file or to the clock."""

import os
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from flows.settings import Home
from flows.stack.processes import alive, process_of, register, registered, running


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems keep a start time")
@pytest.mark.parametrize("set_by_s", [-3600.0, -1.0, 1.0, 3600.0])
def test_a_clock_that_is_set_leaves_a_process_alive(tmp_path, monkeypatch, set_by_s):
    home = Home(tmp_path)
    register(home, process_of("prefect-server", os.getpid()))
    # Linux keeps no start time, but the time of the boot, which it moves with the clock.
    booted_at = psutil.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: booted_at + set_by_s)
    assert [process.pid for process in running(home)] == [os.getpid()]


def test_a_process_that_got_the_number_of_an_ended_one_is_not_it():
    own = process_of("prefect-server", os.getpid())
    assert alive(own)
    # The parent may have begun in the same clock tick; the first process has not.
    assert not alive(replace(own, pid=1))


def test_an_entry_of_an_older_version_is_known_by_its_time():
    own = replace(process_of("prefect-server", os.getpid()), birth=None)
    assert alive(own)
    assert not alive(replace(own, started_at=own.started_at - 2.0))


def test_an_ended_process_is_not_alive():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = process_of("prefect-server", child.pid)
        assert alive(process)
        child.communicate(b"\n")
    assert not alive(process)


@pytest.mark.parametrize("content", ["", "null", "{", "[{}]", "[1]", '[{"later": 1}]', "\0\0"])
def test_a_damaged_file_is_logged_and_names_no_process(tmp_path, caplog, content):
    (tmp_path / "stack.json").write_text(content)
    assert registered(Home(tmp_path)) == []
    assert "stack.json is damaged or of another version" in caplog.text
