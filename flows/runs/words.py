"""How a run stands, in a word; without the libraries that reading one needs."""

from typing import Literal

Ending = Literal["finished", "diverged", "out_of_memory", "failed"]
RunState = Literal["planned", "training", "interrupted"] | Ending
