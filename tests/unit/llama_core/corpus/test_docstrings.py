from llama_core.corpus.docstrings import prose


def test_only_prose_of_docstrings_is_taken():
    source = (
        b'"""Too short."""\n'
        b"def f():\n"
        b'    """This paragraph is long enough to be taken and holds nothing but prose.\n\n'
        b"    x = [1, 2, 3]; y = {4: 5, 6: 7}; z = (8, 9); print(x[0] + y[4] * z[1] - 10 ** 11)\n"
        b'    """\n'
    )
    assert list(prose(source)) == [
        "This paragraph is long enough to be taken and holds nothing but prose."
    ]
    assert list(prose(b'"""unfinished')) == []
