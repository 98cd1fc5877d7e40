"""Settings from the environment, and where things lie in ISOFLOP_HOME."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# Work pools of prefect.yaml.
CONTROL_POOL, TRAIN_POOL = "control", "trainers"
# Where a stack that is up answers, noted in its home.
ADDRESSES = "addresses.json"
_ADDRESSED = ("host", "prefect_port", "mlflow_port")


class HomeError(ValueError):
    """ISOFLOP_HOME cannot be used."""


class Settings(BaseSettings):
    """Environment variables ISOFLOP_*; every one has a default that works on one machine."""

    model_config = SettingsConfigDict(env_prefix="ISOFLOP_", frozen=True)

    home: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default=Path(".isoflop"), description="folder that holds everything isoflop writes"
    )
    host: str = Field(default="127.0.0.1", description="what the servers bind to")
    prefect_port: int = Field(default=4200, ge=1, le=65535)
    mlflow_port: int = Field(default=5000, ge=1, le=65535)
    # Addresses of databases may hold passwords: they stay out of what is printed of settings.
    mlflow_uri: str | None = Field(
        default=None,
        repr=False,
        description="tracking server or database that runs are written to; None: mlflow_db",
    )
    mlflow_db: str | None = Field(
        default=None, repr=False, description="database of the MLflow server; None: in the home"
    )
    prefect_db: str | None = Field(
        default=None, repr=False, description="database of the Prefect server; None: in the home"
    )
    optuna_uri: str | None = Field(
        default=None, repr=False, description="database of Optuna's studies; None: a journal file"
    )
    store: str | None = Field(
        default=None,
        repr=False,
        description="where hosts without a shared home exchange corpora and runs: "
        "mlflow-artifacts://HOST:PORT/FOLDER or an fsspec URL; None: the home is shared",
    )

    @property
    def prefect_address(self) -> str:
        """Address of the Prefect UI of the local stack."""
        return f"http://{self.host}:{self.prefect_port}"

    @property
    def prefect_api(self) -> str:
        """Address of its API."""
        return f"{self.prefect_address}/api"

    @property
    def mlflow_address(self) -> str:
        """Address of the MLflow UI of the local stack."""
        return f"http://{self.host}:{self.mlflow_port}"

    def tracking_uri(self, home: "Home") -> str:
        """Where MLflow runs are written."""
        return self.mlflow_uri or self.mlflow_database(home)

    def mlflow_database(self, home: "Home") -> str:
        """Where the MLflow server of the local stack keeps what it is told."""
        if self.mlflow_db is None and self.mlflow_uri and not _is_http(self.mlflow_uri):
            return self.mlflow_uri
        return self.mlflow_db or f"sqlite:///{home.root / 'mlflow.db'}"

    def prefect_database(self, home: "Home") -> str:
        """Where the Prefect server of the local stack keeps its runs."""
        if self.prefect_db is None:
            return f"sqlite+aiosqlite:///{home.root / 'prefect.db'}"
        # Prefect needs the driver named; the other two take the address as PostgreSQL writes it.
        return re.sub(r"^postgres(ql)?://", "postgresql+asyncpg://", self.prefect_db)


@dataclass(frozen=True, slots=True)
class Home:
    """Folders of one home; made by `open_home`."""

    root: Path

    @property
    def runs(self) -> Path:
        """One folder a training, named by the run's id. The truth."""
        return self.root / "runs"

    @property
    def sweeps(self) -> Path:
        """One folder a sweep: plan, observations, law, report."""
        return self.root / "sweeps"

    @property
    def tunes(self) -> Path:
        """One folder a study of learning rate and batch: plan, journal, table, law, report."""
        return self.root / "tunes"

    @property
    def logs(self) -> Path:
        """Output of servers, workers and child processes."""
        return self.root / "logs"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifact store on one machine."""
        return self.root / "artifacts"


def open_settings() -> Settings:
    """The settings, with the addresses of a stack that is up in their home where none are set.

    `isoflop up` notes them, so that a shell that does not know its ports finds it.
    """
    settings = Settings()
    try:
        noted = json.loads((settings.home / ADDRESSES).read_text())
    except (OSError, ValueError):
        return settings
    told = {name: noted[name] for name in _ADDRESSED if name not in settings.model_fields_set}
    return settings.model_copy(update=told)


def note_addresses(settings: Settings, home: Home) -> None:
    """Say where the stack of a home answers, until `down` removes the note."""
    noted = {name: getattr(settings, name) for name in _ADDRESSED}
    (home.root / ADDRESSES).write_text(json.dumps(noted))


def home_of(settings: Settings) -> Home:
    """The folders of a home; none is made."""
    return Home(settings.home.absolute())


def open_home(settings: Settings | None = None) -> Home:
    """The home's folders, made where missing.

    Raises:
        HomeError: the home cannot be written.
    """
    home = home_of(settings or Settings())
    root = home.root
    try:
        for folder in (home.runs, home.sweeps, home.logs, home.artifacts):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomeError(_unwritable(root, error.strerror)) from error
    if not os.access(root, os.W_OK | os.X_OK):
        raise HomeError(_unwritable(root, "permission denied"))
    return home


def masked(address: str) -> str:
    """An address for people and files: its password, if there is one, as three stars."""
    hidden = re.sub(r"(://[^/@:]*:).*@", r"\1***@", address)
    return re.sub(r"(?i)([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&]*", r"\1***", hidden)


def cpu_slots() -> int:
    """CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _unwritable(root: Path, reason: str | None) -> str:
    return (
        f"cannot write to the home {root}: {(reason or 'unknown reason').lower()}. "
        "Set ISOFLOP_HOME to a folder you may write to."
    )


def _is_http(address: str) -> bool:
    return address.startswith(("http://", "https://"))
