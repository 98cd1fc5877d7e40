"""Where a run is on its path, as the newest checkpoint records it. No torch here."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run is on its path.

    Attributes:
        segment: index into `schedule.segments`; their number when the run is done.
        step: steps done on this path, from the start of the trunk.
        steps_taken: optimizer steps taken in all, branches included; never falls.
    """

    segment: int
    step: int
    steps_taken: int

    @property
    def checkpoint_name(self) -> str:
        """The name of a checkpoint of this place; names sort by age and are never parsed."""
        return f"{self.steps_taken:09d}-{self.segment:03d}"

    def to_header(self) -> dict[str, int]:
        """The place as a checkpoint's header holds it."""
        return {"segment": self.segment, "step": self.step, "walked": self.steps_taken}

    @classmethod
    def from_header(cls, header: dict[str, Any]) -> "Place":
        """The place in a checkpoint's header; KeyError or TypeError where it has none."""
        place = header["place"]
        return cls(place["segment"], place["step"], place["walked"])


def checkpoint_names(folder: Path) -> list[str]:
    """Names of the committed checkpoints in a folder, oldest first."""
    return sorted(path.stem for path in folder.glob("*.json"))


def newest_place(folder: Path) -> Place | None:
    """Where the newest checkpoint with a sound header resumes a run; None without one."""
    for name in reversed(checkpoint_names(folder)):
        try:
            return Place.from_header(json.loads((folder / f"{name}.json").read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
