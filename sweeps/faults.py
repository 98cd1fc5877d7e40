"""Refusals of settings in plain words."""

from pydantic import ValidationError


def plain(error: Exception) -> str:
    """A refusal in its own words, on one line: pydantic's is several, with types and links."""
    if not isinstance(error, ValidationError):
        return str(error)
    faults = []
    for fault in error.errors():
        where = ".".join(map(str, fault["loc"]))
        message = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{where}: {message}" if where else message)
    return "; ".join(faults)
