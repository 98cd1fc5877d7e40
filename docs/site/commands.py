"""The reference of the commands, from what `--help` says."""

import re

from flows.cli import app

_FOLDER = "reference/commands"


def command_pages() -> dict[str, str]:
    """A page for each command and one that lists them, by their place in the site."""
    whole = app.generate_docs(output_format="markdown", max_heading_level=3)
    # The command that cyclopts makes itself has the name of the program that runs.
    whole = whole.replace("isoflop completion -m docs.site", "isoflop completion")
    # A product such as steps*batch*2048 is no emphasis.
    whole = re.sub(r"(?<=\w)\*(?=\w)", r"\\*", whole)
    sections = re.split(r"^## (?=isoflop )", whole, flags=re.M)[1:]
    by_name = {section.split()[1]: section for section in sections}
    pages = {f"{_FOLDER}/{name}.md": f"# {by_name[name].strip()}\n" for name in names()}
    head = "# Commands\n\nWhat `isoflop COMMAND --help` says.\n\n| command | does |\n|---|---|"
    rows = [f"| [`isoflop {name}`]({name}.md) | {_help(name)} |" for name in names()]
    pages[f"{_FOLDER}/index.md"] = "\n".join([head, *rows, ""])
    return pages


def names() -> list[str]:
    """The commands in the order of `isoflop --help`."""
    return [name for name in app if not name.startswith("-")]


def _help(name: str) -> str:
    return str(app[name].help).split("\n", 1)[0].replace("|", r"\|")
