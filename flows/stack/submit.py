"""Start the deployment of sweeps on the stack that is up."""

from collections.abc import Sequence

import httpx
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from flows.settings import Settings
from flows.stack.flow_runs import prefect_client
from flows.stack.servers import StackError, server_answers

_DEPLOYMENT = "sweep/chinchilla"


def submit_sweep(
    settings: Settings,
    name: str,
    spec: str,
    overrides: Sequence[str],
    max_failures: int | None,
) -> str:
    """Create a flow run of a sweep for the workers; its id.

    Raises:
        StackError: no server answers, it has no deployment, or it refuses the parameters.
    """
    if not server_answers(settings):
        raise StackError(
            f"no Prefect server answers at {settings.prefect_api}. Start one: isoflop up. If it "
            "is up on another port, set ISOFLOP_PREFECT_PORT, or ISOFLOP_HOME to its home."
        )
    parameters = {"spec": spec, "overrides": list(overrides), "max_failures": max_failures}
    with prefect_client(settings) as client:
        try:
            deployment = client.read_deployment_by_name(_DEPLOYMENT)
            flow_run = client.create_flow_run_from_deployment(
                deployment.id, parameters=parameters, name=name
            )
        except ObjectNotFound as error:
            raise StackError(
                f"the server at {settings.prefect_api} has no deployment {_DEPLOYMENT}. "
                "Deploy it: isoflop up."
            ) from error
        except (PrefectHTTPStatusError, httpx.HTTPStatusError) as error:
            raise StackError(f"Prefect refuses the sweep: {error.response.text[:300]}") from error
    return str(flow_run.id)
