"""The code that trained a run is named by its commit, and by what was not committed."""

import hashlib
import subprocess

import pytest

from flows.runs import provenance as module


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit, taken for isoflop's checkout."""

    def git(*arguments):
        who = ("-c", "user.name=me", "-c", "user.email=me@localhost")
        command = ["git", "-C", tmp_path, *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    (tmp_path / "code.py").write_text("one = 1\n")
    git("add", ".")
    git("commit", "--message", "code")
    monkeypatch.setattr(module, "checkout", lambda: tmp_path)
    module._code.cache_clear()
    yield tmp_path, git
    module._code.cache_clear()


def test_clean_code_is_its_commit(repository):
    _, git = repository
    environment = module.environment(None)
    assert (environment.git_commit, environment.git_dirty_sha256) == (
        git("rev-parse", "HEAD"),
        None,
    )


def test_changed_code_is_its_commit_and_the_hash_of_the_change(repository):
    folder, git = repository
    (folder / "code.py").write_text("one = 2\n")
    environment = module.environment(None)
    assert environment.git_commit == git("rev-parse", "HEAD")
    change = git("diff", "HEAD")
    assert environment.git_dirty_sha256 == hashlib.sha256(change.encode()).hexdigest()


def test_installed_code_has_no_commit(repository, monkeypatch):
    monkeypatch.setattr(module, "checkout", lambda: None)
    assert module.environment(None).git_commit is None
