"""The checks of a home and its stack, in order."""

from flows.health import stack_checks as stack
from flows.health.finding import Check, Finding
from flows.health.local_checks import check_disk, check_leftovers, check_versions
from flows.health.slurm_checks import check_slurm_jobs
from flows.settings import Home, Settings, is_writable


def examine(settings: Settings, home: Home, *, repair: bool) -> list[tuple[str, list[Finding]]]:
    """Findings of every check by name, ordered so that earlier faults explain later ones.

    Args:
        repair: repair what can be repaired; otherwise nothing is changed.
    """
    checks: list[tuple[str, Check]] = [
        ("versions", check_versions),
        ("disk", check_disk),
        ("leftovers", check_leftovers),
        ("databases", stack.check_databases),
        ("deployments", stack.check_deployments),
        ("servers", stack.check_servers),
        ("workers", stack.check_workers),
        ("Slurm jobs", check_slurm_jobs),
        ("runs in Prefect", stack.check_flow_runs),
    ]
    if is_writable(home):
        # MLflow's client writes to its database even to read it.
        checks.append(("runs in MLflow", stack.check_mirror))
    return [(name, list(check(settings, home, repair))) for name, check in checks]
