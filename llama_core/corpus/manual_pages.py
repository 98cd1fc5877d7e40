"""Manual pages as plain text: what a reader sees of roff, without its layout."""

import re

# Macros whose line only lays out: it ends a paragraph.
_BREAKS = re.compile("[PLTIH]P|P|TQ|sp|Pp|It|[BE][ldkf]|[RE][SEX]|nf|fi|br|bp")
_HEADINGS = re.compile("S[HhSs]")
# Macros whose arguments are no text: settings, names of fonts, conditions, files.
_SILENT = re.compile("TH|D[dt]|Os|Sm|IX|[a-z][a-z]")
# Macros of mdoc within a line.
_WITHIN = re.compile("Fl|A[rco]|O[poc]|N[osm]|Pa|Ic|Cm|Sy|Em|Li|V[at]|F[ca]|E[vr]|Dv|Xr")
_NAMED = {"aq": "'", "cq": "'", "oq": "'", "dq": '"', "lq": '"', "rq": '"', "bu": "*", "em": "--"}
_NAMED |= {"en": "-", "co": "(C)", "rs": "\\", "ti": "~", "ha": "^", "ga": "`", "mi": "-"}
_ESCAPED = {character: character for character in "-\\ '`._"} | {"e": "\\", "~": " ", "0": " "}
_ESCAPE = re.compile(
    r"""\\(?:
    (?P<font>f(?:\(..|\[[^\]]*\]|.))            # \fB, \f(CW, \f[B]
    |(?P<size>s[-+]?\d{1,2})                    # \s-1
    |\((?P<two>..)|\[(?P<name>[^\]]*)\]         # \(bu, \[bu]
    |(?P<string>[*n](?:\(..|\[[^\]]*\]|.))      # \*(C`, \n(.g
    |(?P<moved>[hvwkm](?:'[^']*'|\[[^\]]*\]))   # \h'2n', \m[blue]
    |(?P<one>.)
    )""",
    re.VERBOSE,
)
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"|(\S+)')


def manual_text(page: str) -> str:
    """The words of a page in `man` or `mdoc`, from its first heading on."""
    lines: list[str] = []
    inside_definition = False
    heading = re.search(r"^\.S[Hh]\b", page, re.MULTILINE)
    # Before the first heading are settings, and macros that a program wrote there.
    for line in page[heading.start() :].splitlines() if heading is not None else ():
        if inside_definition:
            inside_definition = not line.startswith("..")
        elif line[:3] in (".de", ".am") or line.startswith(".ig"):
            inside_definition = True
        elif line[:1] not in (".", "'"):
            lines.append(_without_escapes(line))
        elif not line[1:].lstrip().startswith('\\"'):
            lines += _control_line(line[1:].strip())
    return "\n".join(lines)


def _control_line(line: str) -> list[str]:
    macro, _, rest = line.partition(" ")
    arguments = [quoted.replace('""', '"') or bare for quoted, bare in _ARGUMENT.findall(rest)]
    if _HEADINGS.fullmatch(macro):
        return ["", _without_escapes(" ".join(arguments)), ""]
    if _BREAKS.fullmatch(macro):
        # What an indented paragraph is about stands on its line.
        words = arguments[:1] if macro == "IP" else arguments if macro == "It" else []
        return ["", *map(_without_escapes, words)]
    if not macro or _SILENT.fullmatch(macro):
        return []
    if _WITHIN.fullmatch(macro):
        arguments = [argument for argument in arguments if not _WITHIN.fullmatch(argument)]
    # Of alternating fonts the arguments are one word.
    joined = "".join if macro in ("BR", "RB", "BI", "IB", "IR", "RI") else " ".join
    return [_without_escapes(joined(arguments))]


def _without_escapes(line: str) -> str:
    if "\\" not in line:
        return line
    return _ESCAPE.sub(_written, re.split(r'\\["#]', line, maxsplit=1)[0])


def _written(escape: re.Match[str]) -> str:
    if (name := escape["two"] or escape["name"]) is not None:
        return _NAMED.get(name, "")
    return _ESCAPED.get(escape["one"], "")
