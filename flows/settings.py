"""Settings from the environment, and the folders of ISOFLOP_HOME."""

import json
import logging
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from llama_core.files import write_durably

log = logging.getLogger(__name__)

# The folder that holds our packages: a checkout's, or site-packages.
ROOT = Path(__file__).resolve().parents[1]
# Work pools of prefect.yaml.
CONTROL_POOL, TRAIN_POOL = "control", "trainers"
# A file in the home with the addresses of a stack that is up.
ADDRESSES = "addresses.json"
_ADDRESSED = ("host", "prefect_port", "mlflow_port", "dashboard_port")
_PROXY = re.compile(r"(?i)(http|https|all)_proxy")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class HomeError(ValueError):
    """ISOFLOP_HOME cannot be used."""


class Settings(BaseSettings):
    """Environment variables ISOFLOP_*; every default works on one machine."""

    model_config = SettingsConfigDict(env_prefix="ISOFLOP_", frozen=True)

    home: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default=Path(".isoflop"), description="folder for everything isoflop writes"
    )
    host: str = Field(default="127.0.0.1", description="address the servers bind to")
    prefect_port: int = Field(default=4200, ge=1, le=65535)
    mlflow_port: int = Field(default=5000, ge=1, le=65535)
    dashboard_port: int = Field(default=8050, ge=1, le=65535)
    # Addresses of databases may hold passwords: `repr` of the settings leaves them out.
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

    @property
    def dashboard_address(self) -> str:
        """Address of the dashboard."""
        return f"http://{self.host}:{self.dashboard_port}"

    def tracking_uri(self, home: "Home") -> str:
        """Where MLflow runs are written."""
        return self.mlflow_uri or self.mlflow_database(home)

    def mlflow_database(self, home: "Home") -> str:
        """The database of the local stack's MLflow server."""
        if self.mlflow_db is None and self.mlflow_uri and not _is_http(self.mlflow_uri):
            return self.mlflow_uri
        return self.mlflow_db or sqlite_url(home.root / "mlflow.db")

    def prefect_database(self, home: "Home") -> str:
        """The database of the local stack's Prefect server."""
        if self.prefect_db is None:
            return sqlite_url(home.root / "prefect.db", driver="aiosqlite")
        # Prefect needs the driver named; MLflow and Optuna take PostgreSQL's own form.
        return re.sub(r"^postgres(ql)?://", "postgresql+asyncpg://", self.prefect_db)


@dataclass(frozen=True, slots=True)
class Home:
    """Folders of one home; made by `open_home`."""

    root: Path

    @property
    def runs(self) -> Path:
        """One folder a training, named by the run's id; all else can be made from these."""
        return self.root / "runs"

    @property
    def sweeps(self) -> Path:
        """One folder a sweep: plan, observations, law, report."""
        return self.root / "sweeps"

    @property
    def timings(self) -> Path:
        """How fast shapes train on the machines of this home."""
        return self.root / "timings"

    @property
    def graphs(self) -> Path:
        """What torch compiled for models of this home."""
        return self.root / "graphs"

    @property
    def tunes(self) -> Path:
        """One folder a study of learning rate and batch: spec, journal, table, law, report."""
        return self.root / "tunes"

    @property
    def forecasts(self) -> Path:
        """One file a registered forecast, and its scores beside it."""
        return self.root / "forecasts"

    @property
    def logs(self) -> Path:
        """Output of servers, workers and child processes."""
        return self.root / "logs"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifact store on one machine."""
        return self.root / "artifacts"


def open_settings() -> Settings:
    """The settings; addresses that are not set are those of the stack that is up in the home.

    `isoflop up` writes them there, so that a shell without its ports finds the stack. No proxy
    gets between this process, or one it starts, and servers of this machine.

    Raises:
        ValueError: a setting is out of range; the message names its environment variable.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        raise ValueError(_faulty(error)) from error
    unset = [name for name in _ADDRESSED if name not in settings.model_fields_set]
    try:
        stored = json.loads((settings.home / ADDRESSES).read_text())
        settings = settings.model_copy(
            update={name: stored[name] for name in unset if name in stored}
        )
    except (OSError, ValueError, KeyError, TypeError):
        log.debug("no stack has written its addresses in %s", settings.home)
    _spare_from_proxies(settings.host)
    return settings


def _faulty(error: ValidationError) -> str:
    """The first setting out of range: its variable, its value, and what it should be."""
    [fault, *_] = error.errors()
    message = fault["msg"].removeprefix("Input ").partition(", unable")[0]
    message = message.replace("a valid integer", "a whole number")
    return f"ISOFLOP_{str(fault['loc'][0]).upper()}={fault['input']}: {message}."


def note_addresses(settings: Settings, home: Home) -> None:
    """Write the addresses of a home's stack to a file that `isoflop down` removes."""
    addresses = {name: getattr(settings, name) for name in _ADDRESSED}
    write_durably(home.root / ADDRESSES, json.dumps(addresses).encode())


def home_of(settings: Settings) -> Home:
    """The folders of a home; does not create them.

    Raises:
        HomeError: its path leads through a file.
    """
    root = settings.home.absolute()
    there = next(path for path in (root, *root.parents) if path.exists())
    if not there.is_dir():
        raise HomeError(_unwritable(root, f"{there} is not a directory"))
    return Home(root)


def open_home(settings: Settings | None = None) -> Home:
    """The home, its folders made where missing.

    Raises:
        HomeError: the home cannot be written.
    """
    home = home_of(settings or Settings())
    root = home.root
    try:
        for folder in (home.runs, home.sweeps, home.logs, home.artifacts):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomeError(_unwritable(root, str(error.strerror).lower())) from error
    if not is_writable(home):
        read_only = os.statvfs(root).f_flag & os.ST_RDONLY
        raise HomeError(
            _unwritable(root, "read-only file system" if read_only else "permission denied")
        )
    return home


def is_writable(home: Home) -> bool:
    """Whether this process may write to a home that is there."""
    return os.access(home.root, os.W_OK | os.X_OK)


def sqlite_url(path: Path, driver: str | None = None) -> str:
    """The address of an SQLite file for SQLAlchemy, whatever letters its path has.

    Raises:
        HomeError: this SQLAlchemy would open another file.
    """
    from sqlalchemy import URL, make_url

    if driver is None and quote(str(path)) != str(path):
        # MLflow makes a folder of the quoted name, unless a driver is named.
        driver = "pysqlite"
    name = "sqlite" if driver is None else f"sqlite+{driver}"
    url = URL.create(name, database=str(path)).render_as_string(hide_password=False)
    if make_url(url).database != str(path):
        # SQLAlchemy 2.0 quotes nothing in the path of a database.
        raise HomeError(
            f"the home {path.parent} has a letter in its path that no database address may have, "
            "such as ? or #. Set ISOFLOP_HOME to a folder without it, or update sqlalchemy."
        )
    return url


def masked(address: str) -> str:
    """An address to print or store, its passwords as three stars."""
    hidden = re.sub(r"(://[^/@:]*:).*@", r"\1***@", address)
    return re.sub(r"(?i)([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&]*", r"\1***", hidden)


def checkout(root: Path = ROOT) -> Path | None:
    """The checkout that this code runs from; None where it was installed from a wheel."""
    # A wheel carries the file only inside `flows`.
    return root if (root / "prefect.yaml").exists() else None


def _unwritable(root: Path, reason: str) -> str:
    return (
        f"cannot write to the home {root}: {reason}. Set ISOFLOP_HOME to a folder you may write to."
    )


def _spare_from_proxies(host: str) -> None:
    """Add this machine to NO_PROXY, for this process and every process it starts.

    A proxy that Prefect's client cannot use is dropped: the client would fail on this machine too.
    """
    proxies = {name: value for name, value in os.environ.items() if _PROXY.fullmatch(name)}
    for name, proxy in proxies.items():
        if fault := _fault_of(proxy):
            log.warning("%s=%s is not used: %s", name, masked(proxy), fault)
            del os.environ[name]
    if not proxies:
        return
    # Libraries look for either spelling, not all for the same one first.
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    spared = [name for name in map(str.strip, given.split(",")) if name]
    if "*" not in spared:
        spared += [name for name in (*LOOPBACK, host) if name not in spared]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(spared)


def _fault_of(proxy: str) -> str:
    """Why Prefect's client cannot use a proxy; empty if it can."""
    if not proxy:
        return ""
    try:
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        _ = address.port
    except ValueError as error:
        return str(error)
    if address.scheme.startswith("socks") and find_spec("socksio") is None:
        return "it needs the package socksio (pip install socksio)"
    known = address.scheme in ("http", "https", "socks5", "socks5h")
    return "" if known else "its scheme is none of http, https and socks5"


def _is_http(address: str) -> bool:
    return address.startswith(("http://", "https://"))
