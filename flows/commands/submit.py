"""Command submit: start a sweep on the workers of the stack that is up."""

from pathlib import Path

from flows.commands.common import Json, failures, open_all_to_read, refusals
from flows.commands.limits import UNLIMITED
from flows.commands.options import Overrides, Spec
from flows.commands.plan import load
from flows.commands.sweep import FailFast, MaxFailures, most_failures


def submit(
    spec: Spec,
    /,
    *,
    set: Overrides = (),
    max_failures: MaxFailures = None,
    fail_fast: FailFast = False,
    json: Json = None,
) -> None:
    """Start a sweep on the workers that `isoflop up` started, and return at once.

    The workers read a YAML file where it lies. As
    `prefect deployment run sweep/chinchilla -p spec=SPEC`, with the spec checked first.
    """
    with refusals():
        # Before Prefect is imported, so that a misspelt name is refused at once.
        settings, _ = open_all_to_read()
        most = most_failures(max_failures, fail_fast)
        parsed = load(spec, set, None, UNLIMITED)

    from flows.commands.output import emit
    from flows.stack.servers import StackError
    from flows.stack.submit import submit_sweep
    from sweeps.load import presets

    with refusals():
        given = spec if spec in presets() else str(Path(spec).absolute())
        with failures(StackError):
            flow_run = submit_sweep(settings, parsed.name, given, set, most)
    page = f"{settings.prefect_address}/runs/flow-run/{flow_run}"
    if json is not None:
        emit({"sweep": parsed.name, "flow_run": flow_run, "page": page}, json)
        return
    print(f"submitted {parsed.name}")
    print(f"Prefect    {page}")
    print(f"dashboard  {settings.dashboard_address}/sweep/{parsed.name}")
    print(f"watch      isoflop watch {parsed.name}     (stop it: isoflop cancel {parsed.name})")
