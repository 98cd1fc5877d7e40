"""How fast a corpus is prepared, on one process and on several, beside Hugging Face's tools.

    PYTHONPATH=. python bench/prepare.py --megabytes 200 --processes 2
    PYTHONPATH=. python bench/prepare.py --megabytes 2000 --memory

The text is made from source files and documentation on this machine: the words of each are put in
another order, so that any amount is varied and hardly repeats.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

VOCAB = 32_000


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--megabytes", type=int, default=100)
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--repeats", type=int, default=1)
    options.add_argument("--memory", action="store_true", help="the peak of all processes, no rest")
    options.add_argument("--peers", action="store_true", help="tokenizers and datasets.map as well")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        text.mkdir()
        size = write_text(text, given.megabytes * 1_000_000)
        print(f"{size / 1e6:.0f} MB of text; load {load()}", flush=True)
        if given.memory:
            measure(text, Path(folder), given.processes, size, watch=True)
            return
        for _ in range(given.repeats):
            for processes in (1, given.processes):
                measure(text, Path(folder), processes, size)
        if given.peers:
            for processes in (1, given.processes):
                peers(text, Path(folder), processes, size)


def write_text(folder: Path, size: int) -> int:
    """Files of JSON lines, each document the words of a real one in another order."""
    draw = np.random.default_rng(0)
    roots = [Path(sysconfig.get_paths()[key]) for key in ("stdlib", "purelib")]
    files = [path for root in roots for path in sorted(root.rglob("*.py"))]
    files += sorted(Path("/usr/share/doc").rglob("*.txt"))
    written = number = 0
    while written < size:
        with (folder / f"{number:04d}.jsonl").open("w") as lines:
            for _ in range(200):
                try:
                    text = files[draw.integers(len(files))].read_text()[:50_000]
                except (OSError, UnicodeDecodeError):
                    continue
                # Indents stay with their line.
                words = np.array(re.split(r"(?<=\S) (?=\S)", text), object)
                for _ in range(8):
                    line = json.dumps({"text": " ".join(draw.permutation(words))}) + "\n"
                    written += len(line)
                    lines.write(line)
        number += 1
    return written


def measure(text: Path, folder: Path, processes: int, size: int, *, watch: bool = False) -> None:
    """Prepare the text in a fresh home and say what it took."""
    with tempfile.TemporaryDirectory(dir=folder) as home:
        script = (
            "import sys, pathlib\n"
            "from llama_core.corpus.config import CorpusConfig, FileText\n"
            "from llama_core.corpus.preparation import prepare\n"
            f"config = CorpusConfig(sources=(FileText(path=sys.argv[1]),), vocab_size={VOCAB})\n"
            f"made = prepare(config, pathlib.Path(sys.argv[2]), print, processes={processes})\n"
            "print('digest', made.digest[:16], made.train_tokens)\n"
        )
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        output = folder / "output"
        with (
            output.open("w") as file,
            subprocess.Popen(
                [sys.executable, "-c", script, str(text), home], stdout=file
            ) as process,
        ):
            peak = peak_memory(process) if watch else 0.0
        seconds = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        print(
            f"isoflop, {processes} processes: {seconds:.1f} s, {size / 1e6 / seconds:.2f} MB/s; "
            f"{cpu:.1f} s of CPU, {size / 1e6 / cpu:.2f} MB/s a core"
            + (f"; peak {peak / 1e9:.2f} GB" if watch else "")
            + f"; load {load()}; {output.read_text().splitlines()[-1]}",
            flush=True,
        )


def peak_memory(process: "subprocess.Popen[bytes]") -> float:
    """The highest sum of the resident memory of a process and its children, until it ends."""
    peak, parent = 0.0, psutil.Process(process.pid)
    while process.poll() is None:
        with suppress(psutil.Error):
            family = (parent, *parent.children(recursive=True))
            peak = max(peak, sum(each.memory_info().rss for each in family))
        time.sleep(0.2)
    return peak


PEER = (
    f"""VOCAB = {VOCAB}"""
    + """
import sys, time, json, pathlib
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
text, processes, home = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def documents():
    for file in sorted(text.iterdir()):
        for line in file.open():
            yield json.loads(line)["text"]
def sample():
    left = 32_000_000
    for document in documents():
        if left <= 0:
            return
        yield document
        left -= len(document)
began, cpu = time.perf_counter(), time.process_time()
made = Tokenizer(models.BPE())
made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
made.train_from_iterator(sample(), trainers.BpeTrainer(vocab_size=VOCAB, show_progress=False))
trained = time.perf_counter() - began, time.process_time() - cpu
print(f"tokenizers, training: {trained[0]:.1f} s, {trained[1]:.1f} s of CPU", flush=True)
size = sum(file.stat().st_size for file in text.iterdir()) / 1e6
began, cpu, batch, tokens = time.perf_counter(), time.process_time(), [], 0
def encode(batch):
    return sum(len(each.ids) for each in made.encode_batch(batch))
for document in documents():
    batch.append(document)
    if len(batch) == 1000:
        tokens, batch = tokens + encode(batch), []
tokens += encode(batch)
took, used = time.perf_counter() - began, time.process_time() - cpu
print(f"tokenizers.encode_batch, {processes} threads: {took:.1f} s, {size / took:.2f} MB/s; "
      f"{used:.1f} s of CPU, {size / used:.2f} MB/s a core; {tokens:,} tokens", flush=True)
import datasets, resource
datasets.disable_progress_bars()
rows = datasets.load_dataset("json", data_files=[str(f) for f in sorted(text.iterdir())],
                             split="train", cache_dir=home)
def ids(rows):
    return {"ids": [each.ids for each in made.encode_batch(rows["text"])]}
def children():
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)
began, cpu = time.perf_counter(), children()
rows.map(ids, batched=True, num_proc=processes if processes > 1 else None, remove_columns=["text"])
took, used = time.perf_counter() - began, children() - cpu
print(f"datasets.map, {processes} processes: {took:.1f} s, {size / took:.2f} MB/s; "
      f"{used:.1f} s of CPU, {size / used:.2f} MB/s a core", flush=True)
"""
)


def peers(text: Path, folder: Path, processes: int, size: int) -> None:
    """Train and encode with tokenizers; encode in `datasets.map`. Nothing is cleaned or split."""
    with tempfile.TemporaryDirectory(dir=folder) as home:
        environment = os.environ | {
            "RAYON_NUM_THREADS": str(processes),
            "TOKENIZERS_PARALLELISM": "true",
            "HF_HOME": home,
            "HF_HUB_OFFLINE": "1",
        }
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PEER, str(text), str(processes), home],
            env=environment,
            check=True,
        )
        print(f"  load {load()}", flush=True)


def load() -> str:
    return " ".join(f"{each:.1f}" for each in os.getloadavg())


if __name__ == "__main__":
    main()
