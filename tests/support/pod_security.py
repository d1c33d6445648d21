"""The rules of Kubernetes' Pod Security Standard "restricted", those of "baseline" too.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SECCOMP_PROFILES = {"RuntimeDefault", "Localhost"}
HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")


def find_violations(pod: dict[str, Any]) -> list[str]:
    """Return what of a pod's spec the standard does not admit."""
    containers = [
        container
        for kind in ("initContainers", "containers", "ephemeralContainers")
        for container in pod.get(kind, [])
    ]
    found = [*_find_in_pod(pod)]
    for container in containers:
        problems = _find_in_container(container, pod.get("securityContext", {}))
        found += [f"{container['name']}: {problem}" for problem in problems]
    return found


def _find_in_pod(pod: dict[str, Any]) -> Iterator[str]:
    for name in HOST_NAMESPACES:
        if pod.get(name):
            yield name
    for volume in pod.get("volumes", []):
        kinds = volume.keys() - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']}"
    context = pod.get("securityContext", {})
    if context.get("sysctls"):
        yield "sysctls"
    if context.get("runAsUser") == 0:
        yield "runAsUser"


def _find_in_container(
    container: dict[str, Any], pod_context: dict[str, Any]
) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = {**pod_context, **own}
    if both.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if both.get("runAsUser") == 0:
        yield "runAsUser"
    if both.get("seccompProfile", {}).get("type") not in SECCOMP_PROFILES:
        yield "seccompProfile"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if own.get("privileged"):
        yield "privileged"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities.drop"
    if not {*capabilities.get("add", [])} <= {"NET_BIND_SERVICE"}:
        yield "capabilities.add"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "hostPort"
