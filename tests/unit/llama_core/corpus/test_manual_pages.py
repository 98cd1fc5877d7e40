"""A manual page is read as its reader sees it."""

from llama_core.corpus.manual_pages import manual_text

PAGE = r""".\" Written by hand.
.de Xy
a macro of the page
..
.TH READ 2 "today"
.SH NAME
read \- read a \fIfile\fR
.if t .ds x y
.PP
Reads \(lqup to\(rq
.IR count (2)
bytes\&.  \" no more
.IP "\fB\-a\fP" 4
all of C:\e
"""


def test_words_are_kept_and_layout_is_not():
    text = manual_text(PAGE)
    assert [line for line in text.splitlines() if line] == [
        "NAME",
        "read - read a file",
        'Reads "up to"',
        "count(2)",
        "bytes.  ",
        "-a",
        "all of C:\\",
    ]
    # A heading and a paragraph begin after a blank line, by which repeats are found.
    assert "\n\nReads" in text


def test_the_words_of_a_page_in_mdoc_have_no_macros_among_them():
    page = ".Dd today\n.Sh SYNOPSIS\n.Nm cat\n.Op Fl u Ar file ...\n.Pp\nIt prints\n.Pa /etc\n"
    lines = [line for line in manual_text(page).splitlines() if line]
    assert lines == ["SYNOPSIS", "cat", "u file ...", "It prints", "/etc"]


def test_a_page_that_only_names_another_has_no_text():
    assert manual_text(".so man1/gzip.1\n") == ""
