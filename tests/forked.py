"""Processes that have torch loaded as they start: importing it takes longer than they train."""

import multiprocessing

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(
    ["llama_core.train", "torch.distributed.fsdp", "tests.core_tools", "pytest"]
)
