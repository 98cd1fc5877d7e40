"""Every deployment shipped, rendered as its worker would: processes, Docker, Kubernetes."""

import asyncio
import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import jsonschema
import kubernetes_asyncio.client.models as kubernetes
import pytest
import yaml
from kubernetes_asyncio.client import ApiClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.flows import Flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessWorker
from prefect_docker.worker import DockerWorker
from prefect_kubernetes.worker import KubernetesWorker

from tests.conftest import ROOT

WORKERS = {"process": ProcessWorker, "docker": DockerWorker, "kubernetes": KubernetesWorker}
FILES = {
    "prefect.yaml": ("process", None),
    "flows/deploy/prefect-docker.yaml": ("docker", "flows/deploy/docker-pool.json"),
    "flows/deploy/prefect-kubernetes.yaml": ("kubernetes", "flows/deploy/kubernetes-pool.json"),
}
DEPLOYMENTS = [
    (file, deployment["name"])
    for file in FILES
    for deployment in yaml.safe_load((ROOT / file).read_text())["deployments"]
]
# The worker of prefect-kubernetes requires these in the pod, where Kubernetes ignores them.
TOLERATED = {"completions", "parallelism"}


def template(kind, path):
    if path is None:
        return WORKERS[kind].get_default_base_job_template()
    return json.loads((ROOT / path).read_text())


def deployment(file, name):
    told = yaml.safe_load((ROOT / file).read_text())["deployments"]
    return next(one for one in told if one["name"] == name)


def rendered(file, name, monkeypatch):
    """The job configuration a worker makes of the deployment when a flow run comes."""
    kind, path = FILES[file]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    values = deployment(file, name)["work_pool"].get("job_variables", {})
    configuration = WORKERS[kind].job_configuration
    with temporary_settings({PREFECT_API_URL: "http://10.0.0.5:4200/api"}):
        made = asyncio.run(configuration.from_template_and_values(template(kind, path), values))
        made.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="d64"))
    return made


@pytest.mark.parametrize(("file", "name"), DEPLOYMENTS)
def test_every_deployment_names_a_flow_and_renders_to_a_job(file, name, monkeypatch):
    module, _, flow = deployment(file, name)["entrypoint"].rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), flow), Flow)
    made = rendered(file, name, monkeypatch)
    assert re.search(
        r"(prefect flow-run execute|prefect\.engine|flows\.training\.attend)", str(made.command)
    )
    assert not re.search(r"\{\{", made.model_dump_json()), "a placeholder is left"


def test_every_module_that_a_command_names_exists():
    folders = ("flows", "llama_core", "sweeps", "bench", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.*")]
    names = {
        (name, path.name)
        for path in [*files, ROOT / "pyproject.toml", ROOT / "Makefile"]
        if path.suffix in ("", ".py", ".yaml", ".json", ".toml")
        for name in re.findall(r"-m[\s\"',]+((?:flows|llama_core)[.\w]+)", path.read_text())
    }
    assert ("flows.training.attend", "prefect.yaml") in names
    assert ("flows.training.child", "tuning_grid.py") in names
    for name, file in names:
        assert importlib.util.find_spec(name.rstrip(".")), f"{file} runs -m {name}"


@pytest.mark.parametrize(("kind", "path"), [pair for pair in FILES.values() if pair[1]])
def test_a_pool_template_is_one_of_its_work_pool(kind, path):
    ours, theirs = template(kind, path), template(kind, None)
    # Prefect refuses placeholders without a variable.
    WorkPoolCreate(name=f"trainers-{kind}", type=kind, base_job_template=ours)
    jsonschema.Draft202012Validator.check_schema(ours["variables"])
    assert set(ours["job_configuration"]) <= set(theirs["job_configuration"])
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(ours["job_configuration"])))
    # `env` is filled in by the worker from the environment above it.
    assert used - {"env"} == set(ours["variables"]["properties"]) - {"env"}


@pytest.mark.parametrize("file", [file for file, (_, path) in FILES.items() if path])
def test_the_variables_of_a_deployment_fit_the_schema_of_its_pool(file):
    schema = template(*FILES[file])["variables"] | {"additionalProperties": False}
    for told in yaml.safe_load((ROOT / file).read_text())["deployments"]:
        jsonschema.validate(told["work_pool"]["job_variables"], schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"image": 5}, schema)


def test_a_container_is_pinned_to_the_gpu_of_its_worker(monkeypatch):
    made = rendered("flows/deploy/prefect-docker.yaml", "run", monkeypatch)
    assert made.env["NVIDIA_VISIBLE_DEVICES"] == "3"
    assert made.env["PREFECT_API_URL"] == "http://10.0.0.5:4200/api"
    assert "ISOFLOP_STORE" not in made.env
    assert made.container_create_kwargs == {"shm_size": "1g"}


def test_the_kubernetes_job_has_only_fields_that_kubernetes_knows(monkeypatch):
    made = rendered("flows/deploy/prefect-kubernetes.yaml", "run", monkeypatch)
    assert unknown(made.job_manifest, "V1Job") == TOLERATED
    pod = made.job_manifest["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    told = {entry["name"]: entry["value"] for entry in container["env"]}
    assert told["ISOFLOP_HOME"] == "/home/isoflop/data"
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "isoflop-home"
    assert pod["terminationGracePeriodSeconds"] >= 30
    # Builds the client's own objects, which check what is required.
    job = asyncio.run(as_kubernetes_reads(made.job_manifest))
    assert job.spec.template.spec.restart_policy == "Never"


async def as_kubernetes_reads(manifest):
    async with ApiClient() as client:
        return client.deserialize(SimpleNamespace(data=json.dumps(manifest)), "V1Job")


def unknown(value, kind):
    """Fields of a manifest that the Kubernetes API of the installed client does not have."""
    if kind.startswith("list["):
        return {name for item in value for name in unknown(item, kind[5:-1])}
    model = getattr(kubernetes, kind, None)
    if model is None:
        return set()
    fields = {field: model.openapi_types[name] for name, field in model.attribute_map.items()}
    found = set(value) - set(fields)
    for field in set(value) & set(fields):
        found |= unknown(value[field], fields[field])
    return found


def test_the_dockerfile_copies_existing_files_that_dockerignore_keeps():
    instructions = (ROOT / "flows" / "deploy" / "Dockerfile").read_text()
    copied = [
        source
        for line in re.findall(r"^COPY (.+)$", instructions, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    kept = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert set(copied) == kept
    assert all((ROOT / source).exists() for source in copied)
    packages = {path.parent.name for path in Path(ROOT).glob("*/__init__.py")} - {"tests"}
    assert packages <= set(copied)
    # The pull step of the deployments goes where the image has the code.
    [workdir] = re.findall(r"^WORKDIR (\S+)$", instructions, re.MULTILINE)
    for file in ("flows/deploy/prefect-docker.yaml", "flows/deploy/prefect-kubernetes.yaml"):
        [step] = yaml.safe_load((ROOT / file).read_text())["pull"]
        assert step["prefect.deployments.steps.set_working_directory"]["directory"] == workdir
    # And the home is where the templates look for it.
    [home] = re.findall(r"^ENV ISOFLOP_HOME=(\S+)$", instructions, re.MULTILINE)
    for kind in ("docker", "kubernetes"):
        pool = template(kind, f"flows/deploy/{kind}-pool.json")
        assert pool["job_configuration"]["env"]["ISOFLOP_HOME"] == home
