"""A worker process: performs the tasks that arrive on standard input, one a line."""

import json
import os
import sys
import traceback
from contextlib import suppress
from typing import Annotated

from pydantic import Field, TypeAdapter

from llama_core.corpus.documents import CorpusError
from llama_core.corpus.steps.clean import Clean, Sign
from llama_core.corpus.steps.encode import Encode, TrainTokenizer
from llama_core.corpus.steps.keep import Keep
from llama_core.corpus.steps.leaks import DropLeaks, FindLeaks, SampleHeldOut
from llama_core.corpus.steps.repeats import FindRepeats
from llama_core.corpus.steps.tasks import ignore_interrupts

AnyTask = Annotated[
    Sign
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


def serve() -> None:
    """Perform tasks until standard input ends; answer each with one line of JSON."""
    tasks: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
    # Whatever a library prints must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        try:
            tasks.validate_json(line).perform()
            answer = {}
        except CorpusError as refusal:
            answer = {"refused": str(refusal)}
        except Exception:
            answer = {"failed": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    ignore_interrupts()
    # The parent may be gone before the answer.
    with suppress(BrokenPipeError):
        serve()
