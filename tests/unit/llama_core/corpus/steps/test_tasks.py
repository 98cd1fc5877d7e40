import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

import llama_core
from llama_core.corpus.config import CorpusConfig, FileText, HubText
from llama_core.corpus.documents import CorpusError
from llama_core.corpus.left_out import LeftOut
from llama_core.corpus.preparation import prepare
from llama_core.corpus.steps import docstrings
from llama_core.corpus.steps.clean import Clean, keys_file, raw_file
from llama_core.corpus.steps.leaks import held_out_file, merge_held_out
from llama_core.corpus.steps.progress import Meter
from llama_core.corpus.steps.repeats import STARTS, FindRepeats, save_starts
from llama_core.corpus.steps.sources import Job
from llama_core.corpus.steps.tasks import Task, WorkerLostError, Workers
from llama_core.corpus.steps.text_corpus import TextCorpus
from llama_core.corpus.steps.texts import Texts, save_array
from tests.core_tools import story


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A mixture of two sources, each of several parts."""
    monkeypatch.setattr("llama_core.corpus.steps.text_corpus.PART_BYTES", 60_000)
    monkeypatch.setattr("llama_core.corpus.steps.shards._TASK_BYTES", 60_000)
    sources = []
    for name, seeds in (("books", range(60)), ("letters", range(1_000, 1_030))):
        folder = tmp_path / name
        folder.mkdir()
        for seed in seeds:
            (folder / f"{seed:04d}.txt").write_text(story(seed) + "\n\n" + story(seed % 7, 3))
        sources.append(FileText(path=str(folder), name=name))
    return CorpusConfig(sources=tuple(sources), vocab_size=300, val_fraction=0.2)


def digest(config, home, **options):
    return prepare(config, home, lambda doing: None, **options).digest


def test_a_corpus_depends_neither_on_its_parts_nor_on_the_processes(tmp_path, config, monkeypatch):
    in_parts = digest(config, tmp_path / "parts", processes=1)
    assert digest(config, tmp_path / "processes", processes=2) == in_parts
    monkeypatch.undo()
    assert digest(config, tmp_path / "whole", processes=1) == in_parts


def test_a_stream_has_more_buckets_and_a_file_that_comes_later_changes_none(tmp_path, config):
    def corpus(sources):
        job = Job(
            config.model_copy(update={"sources": sources}),
            *(tmp_path, tmp_path, Workers(1), lambda doing: None),
        )
        return TextCorpus(job)

    on_disk = corpus(config.sources)
    assert on_disk._buckets == 16
    shutil.rmtree(config.sources[0].path)
    assert on_disk._buckets == 16
    assert corpus((HubText(dataset="some/text"),))._buckets == 256


def performed(monkeypatch, *, stop_after=None):
    """Names of the tasks that are run; Ctrl-C arrives once so many of them have."""
    names, perform = [], Task.perform

    def run(task):
        if len(names) == stop_after:
            raise KeyboardInterrupt
        names.append(task.name)
        return perform(task)

    monkeypatch.setattr(Task, "perform", run)
    return names


@pytest.mark.parametrize("share", [0.3, 0.95])
def test_an_interrupted_preparation_does_no_task_twice(tmp_path, config, monkeypatch, share):
    with monkeypatch.context() as patch:
        every = performed(patch)
        whole = digest(config, tmp_path / "whole", processes=1)
    with monkeypatch.context() as patch:
        before = performed(patch, stop_after=int(share * len(every)))
        with pytest.raises(KeyboardInterrupt):
            digest(config, tmp_path / "home", processes=1)
    with monkeypatch.context() as patch:
        after = performed(patch)
        assert digest(config, tmp_path / "home", processes=1) == whole
    assert sorted(before + after) == sorted(every)
    assert len(set(every)) == len(every)
    # Nothing but the corpus, its request and what was left out stays.
    assert len(list((tmp_path / "home" / "corpora").iterdir())) == 3


def test_near_duplicates_are_dropped_alike_after_an_interruption(tmp_path, config, monkeypatch):
    folder = tmp_path / "letters"
    (folder / "again.txt").write_text(f"{story(1_000)}\n\nSecond edition.")
    sources = (FileText(path=str(folder)),)
    config = config.model_copy(update={"near_duplicates": "drop", "sources": sources})
    whole = digest(config, tmp_path / "whole", processes=1)
    with monkeypatch.context() as patch:
        performed(patch, stop_after=4)
        with pytest.raises(KeyboardInterrupt):
            digest(config, tmp_path / "home", processes=1)
    assert digest(config, tmp_path / "home", processes=1) == whole


def test_a_second_preparation_waits_for_the_first_and_takes_its_corpus(
    tmp_path, config, monkeypatch
):
    messages, begun, waiting, perform = [], threading.Event(), threading.Event(), Task.perform

    def run(task):
        begun.set()
        assert waiting.wait(30)
        return perform(task)

    def report(doing):
        messages.append(doing)
        waiting.set()

    monkeypatch.setattr(Task, "perform", run)
    first = threading.Thread(target=digest, args=(config, tmp_path / "home"))
    first.start()
    assert begun.wait(30)
    prepare(config, tmp_path / "home", report, processes=1)
    first.join()
    assert messages == ["waiting for another process that prepares this corpus"]


def clean_task(work, part=0, texts=("a text",)):
    Texts(work / raw_file(part)).write(texts)
    return Clean(
        work=work, part=part, source="made", ascii_only=True, folding=False, buckets=2, size=10
    )


def no_meter():
    return Meter(lambda doing: None, "")


def test_a_worker_that_is_killed_is_reported_and_leaves_its_text(tmp_path):
    with Workers(2) as workers:
        (done,) = workers.map([clean_task(tmp_path)], no_meter())
        assert done.counts == LeftOut(source="made", documents=1, bytes=6, characters=6)
        (process,) = workers._started
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with pytest.raises(WorkerLostError, match=r"ended at clean-000001 .*goes on from there"):
            list(workers.map([clean_task(tmp_path, part=1)], no_meter()))
    assert (tmp_path / raw_file(1)).exists()


def test_what_a_worker_refuses_and_where_it_fails_is_passed_on(tmp_path):
    refused, failing = clean_task(tmp_path), clean_task(tmp_path, part=1)
    (tmp_path / raw_file(0)).write_bytes(b"\0" * 8)
    (tmp_path / raw_file(1)).unlink()
    with Workers(2) as workers:
        with pytest.raises(CorpusError, match="was cut short"):
            list(workers.map([refused], no_meter()))
        with pytest.raises(RuntimeError, match=r"clean-000001 failed(?s:.)*FileNotFoundError"):
            list(workers.map([failing], no_meter()))


def test_a_worker_whose_parent_is_gone_ends_within_its_task(tmp_path):
    task = clean_task(tmp_path)
    (tmp_path / raw_file(0)).unlink()
    # A task that waits for its text until the test ends.
    os.mkfifo(tmp_path / raw_file(0))
    with Workers(2) as workers:
        process = workers._new()
        process.stdin.write(task.model_dump_json().encode() + b"\n")
        process.stdin.close()
        assert process.wait(30) == 0
    assert task.done() is None


@pytest.mark.parametrize("first", ["", "folder"], ids=["working folder", "folder of a script"])
def test_a_worker_imports_what_its_parent_does_and_no_file_of_the_users_for_pythons(
    tmp_path, monkeypatch, first
):
    (tmp_path / "json.py").write_text("raise SystemExit('of the user')")
    task = clean_task(tmp_path)
    monkeypatch.chdir(tmp_path)
    root = str(Path(llama_core.__file__).parents[1])
    others = [path for path in sys.path if path]
    monkeypatch.setattr(sys, "path", [str(tmp_path) if first else "", *others, root])
    with Workers(2) as workers:
        assert list(workers.map([task], no_meter())) == [task.done()]


def test_docstrings_are_read_in_the_order_of_their_files_and_files_without_give_none(
    tmp_path, monkeypatch
):
    sentences = [f"Paragraph {word} has enough letters to be prose." * 2 for word in "abc"]
    first, *others = [f'"""{sentence}"""' for sentence in sentences]
    files = [tmp_path / f"{number}.py" for number in range(5)]
    for file, content in zip(files, [first, "", *others, "("], strict=True):
        file.write_text(content)
    monkeypatch.setattr(docstrings, "_TASK_FILES", 2)
    monkeypatch.setattr(docstrings, "environment_files", lambda: files)
    for number, processes in enumerate((1, 2)):
        (work := tmp_path / str(number)).mkdir()
        with Workers(processes) as workers:
            documents = docstrings.docstring_documents(work, workers, lambda doing: None)
            assert list(documents) == sentences


def test_a_full_disk_is_the_same_error_from_a_worker(tmp_path, monkeypatch):
    reply = json.dumps({"errno": [errno.ENOSPC, os.strerror(errno.ENOSPC)]})
    workers = Workers(2)
    script = f"import sys; sys.stdin.readline(); print('{reply}', flush=True); sys.stdin.read()"
    with workers:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen([sys.executable, "-c", script], **pipes)
        monkeypatch.setattr(workers, "_new", lambda: workers._started.append(process) or process)
        with pytest.raises(OSError, match="No space left") as full:
            list(workers.map([clean_task(tmp_path)], no_meter()))
    assert full.value.errno == errno.ENOSPC


def test_more_parts_than_open_files_are_compared(tmp_path):
    keys = np.arange(4, dtype="<u8").reshape(2, 2)
    for part in range(60):
        save_array(tmp_path / keys_file(part), keys)
        save_array(tmp_path / f"passages-{part:06d}.npy", keys.ravel())
    save_starts(tmp_path, np.array([[0, 2]] * 60))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (tmp_path / STARTS).open("rb") as file:
        lowest_free = file.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 20, limits[1]))
    try:
        FindRepeats(work=tmp_path, bucket=0).run()
        merge_held_out(tmp_path, 0, range(60))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert np.load(tmp_path / "repeats-00000.npy").sum() == 118
    assert np.fromfile(tmp_path / held_out_file(0), "<u8").tolist() == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_preparation_goes_on_and_its_workers_end(tmp_path, wanted):
    (tmp_path / "books").mkdir()
    for seed in range(300):
        (tmp_path / "books" / f"{seed:04d}.txt").write_text(story(seed))
    script = (
        "import llama_core.corpus.steps.text_corpus as steps, pathlib, sys\n"
        "from llama_core.corpus.config import CorpusConfig, FileText\n"
        "from llama_core.corpus.preparation import prepare\n"
        "steps.PART_BYTES = 40_000\n"
        "config = CorpusConfig(sources=(FileText(path=sys.argv[1]),), vocab_size=300)\n"
        "print(prepare(config, pathlib.Path(sys.argv[2]), lambda d: None, processes=2).digest)\n"
    )

    def command(home):
        return [sys.executable, "-c", script, str(tmp_path / "books"), str(tmp_path / home)]

    whole = subprocess.run(command("whole"), capture_output=True, text=True, check=True).stdout
    # A shell's background job ignores Ctrl-C, and so would what its tests start.
    attentive = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command("home"), stderr=subprocess.PIPE, preexec_fn=attentive) as process:
        corpora = tmp_path / "home" / "corpora"
        while len(results := list(corpora.glob(".preparing-*/keep-*.json"))) < 10:
            assert process.poll() is None
            time.sleep(0.01)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(wanted)
    assert len(workers) == 2
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    (work,) = corpora.glob(".preparing-*")
    kept = {path.name for path in work.glob("*.json")}
    assert {path.name for path in results} <= kept
    again = subprocess.run(command("home"), capture_output=True, text=True, check=True).stdout
    assert again == whole
    assert not work.exists()
