"""Settings from the environment, and where things lie in ISOFLOP_HOME."""

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# Work pools of prefect.yaml.
CONTROL_POOL, TRAIN_POOL = "control", "trainers"


class HomeError(ValueError):
    """ISOFLOP_HOME cannot be used."""


class Settings(BaseSettings):
    """Environment variables ISOFLOP_*; every one has a default that works on one machine."""

    model_config = SettingsConfigDict(env_prefix="ISOFLOP_", frozen=True)

    home: Path = Field(default=Path(".isoflop"), description="all that isoflop writes")
    host: str = Field(default="127.0.0.1", description="what the servers bind to")
    prefect_port: int = Field(default=4200, ge=1, le=65535)
    mlflow_port: int = Field(default=5000, ge=1, le=65535)
    mlflow_uri: str | None = Field(
        default=None, description="tracking server or database; None: SQLite in the home"
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
        return self.mlflow_uri or f"sqlite:///{home.root / 'mlflow.db'}"


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
    def logs(self) -> Path:
        """Output of servers, workers and child processes."""
        return self.root / "logs"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifact store on one machine."""
        return self.root / "artifacts"


def open_home(settings: Settings | None = None) -> Home:
    """The home's folders, made where missing.

    Raises:
        HomeError: the home cannot be written.
    """
    root = (settings or Settings()).home.expanduser().absolute()
    home = Home(root)
    try:
        for folder in (home.runs, home.sweeps, home.logs, home.artifacts):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomeError(_unwritable(root, error.strerror)) from error
    if not os.access(root, os.W_OK | os.X_OK):
        raise HomeError(_unwritable(root, "permission denied"))
    return home


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
