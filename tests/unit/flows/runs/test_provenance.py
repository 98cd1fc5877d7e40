"""The code that trained a run is named by its commit, and by what was not committed."""

import hashlib
import subprocess
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from flows.runs import provenance as module
from flows.settings import Home
from tests.fakes import planned_run


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


def test_packages_are_those_that_are_imported_in_order_of_name(tmp_path, monkeypatch):
    for name in ("first/zeta-1.0", "first/my_lib-2.0.post1", "second/zeta-1.1", "second/alpha-3"):
        (tmp_path / f"{name}.dist-info").mkdir(parents=True)
    monkeypatch.setattr(module.sys, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    module.packages.cache_clear()
    try:
        found = module.packages()
    finally:
        module.packages.cache_clear()
    assert list(found.items()) == [("alpha", "3"), ("my_lib", "2.0.post1"), ("zeta", "1.0")]


def test_a_lock_is_the_hash_of_its_sorted_lines():
    lines = hashlib.sha256(b"a==1\nb==2").hexdigest()
    assert module.lock_sha256({"b": "2", "a": "1"}) == lines


def test_a_device_is_named_by_torch_on_a_gpu_and_by_its_processor_else(monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"GPU of {device}")
    assert module._device_name("cuda:1") == "GPU of cuda:1"
    assert module._device_name("cpu") == module.processor() != ""
    assert module._device_name(None) is None


def test_the_tokenizer_is_known_only_where_the_corpus_is(tmp_path, monkeypatch):
    home, planned = Home(tmp_path), planned_run()
    assert module.provenance(planned, home, "cpu", 5.0).tokenizer_sha256 is None
    corpus = SimpleNamespace(manifest=SimpleNamespace(tokenizer_sha256="abc"))
    monkeypatch.setattr(module, "find_corpus", lambda root, digest: corpus)
    found = module.provenance(planned, home, "cpu", 5.0)
    assert (found.tokenizer_sha256, found.recorded_at, found.device) == ("abc", 5.0, "cpu")


def test_a_folder_that_is_no_repository_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "checkout", lambda: tmp_path)
    module._code.cache_clear()
    try:
        assert module.environment(None).git_commit is None
    finally:
        module._code.cache_clear()


def test_git_that_fails_or_hangs_names_no_commit(repository, monkeypatch):
    for error in (OSError, subprocess.TimeoutExpired("git", 10)):
        monkeypatch.setattr(module.subprocess, "run", Mock(side_effect=error))
        module._code.cache_clear()
        assert module.environment(None).git_commit is None
    failed = SimpleNamespace(returncode=128, stdout="fatal")
    monkeypatch.setattr(module.subprocess, "run", lambda *args, **options: failed)
    module._code.cache_clear()
    assert module.environment(None).git_commit is None
