"""A worker process: performs the tasks that arrive on standard input, one a line."""

import errno
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from llama_core.corpus.documents import CorpusError
from llama_core.corpus.steps.clean import Clean, Sign
from llama_core.corpus.steps.docstrings import ReadDocstrings
from llama_core.corpus.steps.encode import Encode, TrainTokenizer
from llama_core.corpus.steps.keep import Keep
from llama_core.corpus.steps.leaks import DropLeaks, FindLeaks, SampleHeldOut
from llama_core.corpus.steps.repeats import FindRepeats

AnyTask = Annotated[
    ReadDocstrings
    | Sign
    | Clean
    | FindRepeats
    | Keep
    | SampleHeldOut
    | FindLeaks
    | DropLeaks
    | TrainTokenizer
    | Encode,
    Field(discriminator="kind"),
]

# The user can mend these; any other error is a bug, whose traceback is needed.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def serve() -> None:
    """Perform tasks until standard input ends; answer each with one line of JSON."""
    tasks: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
    # Whatever a library prints must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in _lines():
        answer: dict[str, Any] = {}
        try:
            tasks.validate_json(line).perform()
        except CorpusError as refusal:
            answer = {"refused": str(refusal)}
        except Exception as error:
            answer = {"failed": traceback.format_exc()}
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
                answer = {"errno": [error.errno, error.strerror]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _lines() -> Iterator[bytes]:
    """The lines of standard input; when it ends, this process does, whatever it is doing.

    A task that went on would meet those of the next preparation in the same folder.
    """
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def receive() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=receive, daemon=True).start()
    while True:
        yield lines.get()


if __name__ == "__main__":
    # The parent may be gone before the answer.
    with suppress(BrokenPipeError):
        serve()
