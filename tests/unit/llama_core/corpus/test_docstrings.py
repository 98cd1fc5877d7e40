import ast
import typing
from pathlib import Path

from llama_core.corpus import docstrings
from llama_core.corpus.docstrings import prose

STATEMENTS = (ast.mod, ast.stmt, ast.excepthandler, ast.match_case)
EVERY_BLOCK = """
if a:
    def one(b=lambda: c): [d for d in e]
elif f:
    class Two:
        async def three():
            async with g:
                async for h in i: pass
                else: p = 1
try:
    while j:
        def four(): pass
    else:
        def five(): pass
except* K:
    def six(): pass
else:
    for l in m:
        def seven(): pass
    else:
        def eight(): pass
finally:
    match n:
        case 1:
            def nine(): pass
        case _:
            with o:
                def ten(): pass
try: pass
except P:
    def eleven(): pass
"""


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


def test_statements_are_met_in_the_order_of_walking_the_whole_tree():
    tree = ast.parse(Path(typing.__file__).read_text() + EVERY_BLOCK)
    walked = [node for node in ast.walk(tree) if isinstance(node, STATEMENTS)]
    assert list(docstrings._statements(tree)) == walked
