"""The files for Kubernetes and Compose, against the schemas of these."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import find_package
from tests.docs.pages import read_files
from tests.support.pod_security import find_violations

schemas = find_package("check_jsonschema.builtin_schemas.vendor")
jsonschema = find_package("jsonschema")
kubernetes_validate = find_package("kubernetes_validate")

ROOT = Path(__file__).resolve().parents[2]
PLATFORMS = ROOT / "docs" / "guides" / "platforms"
DEMO = ROOT / "deploy" / "kubernetes" / "parley.yaml"

MANIFESTS = {
    "the demo's": DEMO.read_text("utf-8"),
    "the guide's": read_files(PLATFORMS / "kubernetes.md")["mysite.yaml"],
}
COMPOSE_FILES = {
    "the demo's": (ROOT / "deploy" / "docker" / "compose.yaml").read_text("utf-8"),
    "the guide's": read_files(PLATFORMS / "docker.md")["compose.yaml"],
}
VERSION = kubernetes_validate.latest_version()

every_manifest = pytest.mark.parametrize("text", MANIFESTS.values(), ids=MANIFESTS)
every_compose_file = pytest.mark.parametrize(
    "text", COMPOSE_FILES.values(), ids=COMPOSE_FILES
)


def read_resources(text: str) -> list[Any]:
    # Anchors make one object of two; a change to one must not be one of the other.
    return [copy.deepcopy(each) for each in yaml.safe_load_all(text)]


def find_pods(resources: list[Any]) -> list[Any]:
    specs = [each["spec"] for each in resources if "spec" in each]
    return [spec["template"]["spec"] for spec in specs if "template" in spec]


def validate(resource: Any) -> None:
    """Raise ValidationError; what the schema does not know is an error, too."""
    kubernetes_validate.validate(resource, VERSION, strict=True)


@every_manifest
def test_resources_are_what_kubernetes_takes(text: str) -> None:
    resources = read_resources(text)
    for resource in resources:
        validate(resource)

    assert {"Deployment", "Service", "Ingress"} <= {each["kind"] for each in resources}


def test_mistake_would_be_found() -> None:
    (deployment,) = (
        each
        for each in read_resources(MANIFESTS["the guide's"])
        if each["kind"] == "Deployment"
    )
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    for key, value in (("readOnlyRootFileSystem", True), ("ports", "8000")):
        wrong = copy.deepcopy(deployment)
        wrong["spec"]["template"]["spec"]["containers"] = [{**container, key: value}]
        with pytest.raises(kubernetes_validate.ValidationError):
            validate(wrong)


@every_manifest
def test_pods_may_run_where_the_restricted_standard_is_enforced(text: str) -> None:
    pods = find_pods(read_resources(text))

    assert pods
    assert [find_violations(pod) for pod in pods] == [[]] * len(pods)


@every_manifest
def test_pods_have_more_than_the_standard_asks_for(text: str) -> None:
    for pod in find_pods(read_resources(text)):
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize(
    ("change", "violation"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "volume v"),
        ({"securityContext": {}}, "c: runAsNonRoot"),
        ({"securityContext": {"runAsNonRoot": True}}, "c: seccompProfile"),
        ({"capabilities": {}}, "c: capabilities.drop"),
        ({"capabilities": {"drop": ["ALL"], "add": ["X"]}}, "c: capabilities.add"),
        ({"allowPrivilegeEscalation": True}, "c: allowPrivilegeEscalation"),
        ({"privileged": True}, "c: privileged"),
        ({"runAsUser": 0}, "c: runAsUser"),
    ],
)
def test_violation_of_the_standard_is_found(
    change: dict[str, Any], violation: str
) -> None:
    own = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    context = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    pod: dict[str, Any] = {
        "securityContext": context,
        "containers": [{"name": "c", "securityContext": own}],
    }
    assert find_violations(pod) == []
    of_pod = change.keys() & {"hostNetwork", "volumes", "securityContext"}
    (pod if of_pod else own).update(change)

    assert violation in find_violations(pod)


@every_manifest
def test_pod_has_the_time_that_its_drain_may_take(text: str) -> None:
    """preStop and SHUTDOWN_TIMEOUT have to fit; PLATFORM_GRACE says what is left."""
    pod = find_pods(read_resources(text))[0]
    container = pod["containers"][0]
    _, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    words = [*container.get("args", []), *map(str, container.get("env", []))]
    grace = pod["terminationGracePeriodSeconds"] - int(pause)

    assert grace > 30
    assert any(
        word in (f"--platform-grace={grace}", _env("DJSERVE_PLATFORM_GRACE", grace))
        for word in words
    )


def _env(name: str, value: object) -> str:
    return str({"name": name, "value": str(value)})


@every_compose_file
def test_compose_file_is_what_the_specification_takes(text: str) -> None:
    schema = json.loads(files(schemas).joinpath("compose-spec.json").read_text("utf-8"))
    compose = yaml.safe_load(text)
    validator = jsonschema.validators.validator_for(schema)(schema)

    assert [*validator.iter_errors(compose)] == []
    compose["services"]["caddy"]["portz"] = ["80:80"]
    assert [*validator.iter_errors(compose)] != []


@every_compose_file
def test_compose_service_has_the_time_that_its_drain_may_take(text: str) -> None:
    services = yaml.safe_load(text)["services"]
    (web,) = (each for each in services.values() if "stop_grace_period" in each)
    grace = int(web["stop_grace_period"].removesuffix("s"))
    given = {
        *web.get("command", []),
        *(f"{key}={value}" for key, value in web["environment"].items()),
    }

    assert grace > 30
    assert {f"--platform-grace={grace}", f"DJSERVE_PLATFORM_GRACE={grace}"} & given


@every_compose_file
def test_compose_file_declares_each_network_that_it_names(text: str) -> None:
    """The default one too, which Docker has anyway and podman-compose has not."""
    compose = yaml.safe_load(text)
    named = {
        name
        for service in compose["services"].values()
        for name in service.get("networks", [])
    }

    assert named <= set(compose.get("networks", {}))


@every_compose_file
def test_containers_have_no_rights_that_they_do_not_need(text: str) -> None:
    services = yaml.safe_load(text)["services"]
    own = [
        each for name, each in services.items() if each["image"] in ("parley", "mysite")
    ]

    assert len(own) >= 2
    for service in own:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service.get("privileged")


def test_cloud_run_service_has_a_pod_that_kubernetes_would_take() -> None:
    text = read_files(PLATFORMS / "cloud-run.md")["service.yaml"]
    spec = yaml.safe_load(text)["spec"]["template"]["spec"]
    pod = {
        key: spec[key]
        for key in spec.keys() - {"containerConcurrency", "timeoutSeconds"}
    }
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": pod})
    (container,) = pod["containers"]
    ports = {port["containerPort"] for port in container["ports"]}

    assert {
        container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness")
    } == ports
