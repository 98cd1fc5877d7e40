"""The reference of Python, from the signatures and docstrings of `import isoflop`."""


def python_page() -> str:
    """The page of the package."""
    return "# Python\n"
