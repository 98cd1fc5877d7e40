"""The reference of Python: calls as they are written, docstrings as lists."""

import sys

from docs.site.python import python_page

_PACKAGE = '''
"""The package.

    import isoflop

N are parameters.
"""

__all__ = ["Fit", "fit"]


class Fit:
    """A law.

    Attributes:
        groups: each law.
    """

    @property
    def law(self) -> float:
        """The only one."""
        return 1.0


def fit(source: str, *, level: float = 0.9) -> Fit:
    """Fit a law.

    Args:
        source: a table
            of runs.
        level: of every interval.

    Raises:
        ValueError: there is none.
    """
    return Fit()
'''


def test_a_word_is_shown_with_its_call_its_parameters_and_what_it_returns(tmp_path, monkeypatch):
    (tmp_path / "isoflop").mkdir()
    (tmp_path / "isoflop" / "__init__.py").write_text(_PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "isoflop", raising=False)
    page = python_page()
    monkeypatch.delitem(sys.modules, "isoflop")
    assert "```python\nimport isoflop\n```" in page
    assert (
        "## fit\n\n```python\nisoflop.fit(\n    source: str,\n    *,\n    level: float = 0.9,\n"
        ") -> Fit\n```\n"
    ) in page
    assert "- `source`: a table of runs.\n- `level`: of every interval." in page
    assert "**Raises**\n\n- `ValueError`: there is none." in page
    assert "- `groups`: each law." in page
    assert page.index("## fit") < page.index("## Fit") < page.index("### Fit.law")
