"""What is wrong with a home and its stack, and mending it: the checks and their order."""

from flows.health.finding import Check, Finding
from flows.health.local_checks import check_disk, check_leftovers, check_versions
from flows.settings import Home, Settings


def examine(settings: Settings, home: Home, *, mend: bool) -> list[tuple[str, list[Finding]]]:
    """Every check by name with its findings, in the order in which one fault explains the next.

    Args:
        mend: put right what can be; otherwise nothing is touched.
    """
    from flows.health import stack_checks as stack

    checks: list[tuple[str, Check]] = [
        ("versions", check_versions),
        ("disk", check_disk),
        ("leftovers", check_leftovers),
        ("databases", stack.check_databases),
        ("deployments", stack.check_deployments),
        ("servers", stack.check_servers),
        ("workers", stack.check_workers),
        ("runs in Prefect", stack.check_flow_runs),
        ("runs in MLflow", stack.check_mirror),
    ]
    return [(name, list(check(settings, home, mend))) for name, check in checks]
