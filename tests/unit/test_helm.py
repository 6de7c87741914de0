"""The chart, checked as far as that goes without a cluster.

It is rendered by Helm's own engine and judged by the schemas of Kubernetes, KEDA and the Prometheus operator.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from stream import worker
from stream.cli.main import command_line
from stream.deliver import service
from stream.errors import UsageError
from stream.health import address_of
from stream.settings import PREFIX, Settings, load, unknown_variables
from stream.web import ingest, server

helm = pytest.importorskip("helm_python", reason="Helm's engine has no wheel for this platform")
kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason="Kubernetes' schemas are not installed"
)

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "reviewpulse"
PROMETHEUS = ROOT / "deploy" / "prometheus"
KUBERNETES = ("1.27", "1.37")
"""The oldest that the chart admits, and the newest that is known here."""
TOKENS = "page:read+operate:0123456789abcdef"

PROBES = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}

LEAST = {"secrets": {"create": {"web_tokens": TOKENS}}}
"""The defaults want tokens, and nothing else."""
GPU = LEAST | {
    "image": {"tag": "gpu", "digest": "sha256:" + "a" * 64},
    "worker": {"gpu": {"enabled": True, "runtimeClassName": "nvidia"}},
}
FULL: dict[str, Any] = {
    "image": {"pullSecrets": [{"name": "registry"}]},
    "config": {
        "kafka": "k1:9093,k2:9093",
        "kafka_security": "SASL_SSL",
        "kafka_username": "pulse",
        "redis": "rediss+cluster://worker@n1:6379,n2:6379",
        "shards": 8,
        "expected_events_per_day": 25_000_000,
        "web_names": "pulse.example.com",
        "namespace": "shop",
    },
    "secrets": {"existingSecret": "pulse"},
    "tls": {
        "kafka": {"secret": "kafka-tls", "clientCertificate": True},
        "redis": {"secret": "redis-tls", "clientCertificate": True},
    },
    "files": {"rules": "[[rule]]\n", "priors": "{}", "notify": "# told\n", "bundleKey": "-----BEGIN"},
    "bundle": {"image": "registry.example/bundles:7", "path": "/bundles/7"},
    "worker": {
        "autoscaling": {"enabled": True},
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "extraEnv": [{"name": "MALLOC_ARENA_MAX", "value": "2"}],
    },
    "web": {
        "ingress": {
            "enabled": True,
            "host": "pulse.example.com",
            "tlsSecret": "page-tls",
            "className": "nginx",
        }
    },
    "notify": {
        "enabled": True,
        "extraEnv": [
            {"name": "OPS_SLACK_URL", "valueFrom": {"secretKeyRef": {"name": "ops", "key": "slack"}}}
        ],
    },
    "metrics": {
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "rules": {
            "enabled": True,
            "runbook": "https://docs.example/runbook",
            "labels": {"release": "prometheus"},
        },
    },
    "networkPolicy": {"webFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}]},
}
CLAIM = LEAST | {
    "bundle": {"existingClaim": "bundles", "path": "/bundles/en-zh"},
    "serviceAccount": {"name": "pulse"},
}
SETS = {"least": LEAST, "gpu": GPU, "full": FULL, "claim": CLAIM}

SERVE = ("worker", "web", "notify")
"""Components that serve health and metrics."""

each_set = pytest.mark.parametrize("values", SETS.values(), ids=SETS)

Manifest = dict[str, Any]


def rendered(values: dict[str, Any]) -> list[Manifest]:
    """What an installation named ``pulse`` would apply."""
    return copy.deepcopy(_rendered(json.dumps(values)))


@cache
def _rendered(values: str) -> list[Manifest]:
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(json.loads(values))
        texts = chart.render(json.loads(values), name="pulse", namespace="shop")
    return [
        document
        for name, text in texts.items()
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


def one(values: dict[str, Any], kind: str, ends: str = "") -> Manifest:
    """The manifest of a kind, whose name ends so."""
    (found,) = [
        each for each in rendered(values) if each["kind"] == kind and each["metadata"]["name"].endswith(ends)
    ]
    return found


def pods(values: dict[str, Any]) -> dict[str, Manifest]:
    """Pod specifications by component."""
    return {
        each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"][
            "template"
        ]["spec"]
        for each in rendered(values)
        if each["kind"] in ("Deployment", "Job")
    }


def containers(values: dict[str, Any]) -> dict[str, Manifest]:
    """The container of each component."""
    return {name: pod["containers"][0] for name, pod in pods(values).items()}


def environment(container: Manifest) -> dict[str, str]:
    """Its variables that have a value, not those taken from a Secret of the user's."""
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


def closed(schema: Any) -> Any:
    """A schema whose objects have no other properties than it names: Kubernetes drops them in silence."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    return inner | ({"additionalProperties": False} if "properties" in schema else {})


def crd(model: Any) -> Any:
    """The schema of a custom resource; Go lets a pattern's flags stand anywhere, Python at its beginning."""
    text = json.dumps(model.model_json_schema(by_alias=True)).replace('"^(?i)', '"(?i)^')
    return closed(json.loads(text))


@each_set
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(values: dict[str, Any], version: str) -> None:
    manifests = [
        each for each in rendered(values) if "." not in each["apiVersion"] or "k8s.io" in each["apiVersion"]
    ]
    assert {"Deployment", "Service", "NetworkPolicy", "Job", "PodDisruptionBudget"} <= {
        each["kind"] for each in manifests
    }
    for each in manifests:
        kubernetes_validate.validate(each, version, strict=True)


def test_the_check_by_kubernetes_schema_can_fail() -> None:
    broken = one(LEAST, "Deployment", "-worker")
    broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(broken, KUBERNETES[1], strict=True)


def test_keda_knows_every_field() -> None:
    keda = pytest.importorskip("cloudcoil.models.keda.v1alpha1", reason="KEDA's models are not installed")
    scaled = one(FULL, "ScaledObject")
    jsonschema.validate(scaled, crd(keda.ScaledObject))
    jsonschema.validate(one(FULL, "TriggerAuthentication"), crd(keda.TriggerAuthentication))
    scaled["spec"]["maxReplicaCuont"] = 8
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(scaled, crd(keda.ScaledObject))


def test_the_prometheus_operator_knows_every_field() -> None:
    operator = pytest.importorskip(
        "cloudcoil.models.prometheus_operator.v1", reason="the operator's models are not installed"
    )
    for name in SERVE:
        monitor = one(FULL, "PodMonitor", f"-{name}")
        jsonschema.validate(monitor, crd(operator.PodMonitor))
        monitor["spec"]["podMetricsEndpoints"][0]["prot"] = "health"
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(monitor, crd(operator.PodMonitor))
    rules = one(FULL, "PrometheusRule")
    jsonschema.validate(rules, crd(operator.PrometheusRule))
    rules["spec"]["groups"][0]["rules"][0]["exrp"] = "up"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(rules, crd(operator.PrometheusRule))


def test_rules_are_those_of_prometheus_with_the_runbook_s_place() -> None:
    manifest = one(FULL, "PrometheusRule")
    texts = [path.read_text("utf-8") for path in sorted((PROMETHEUS / "rules").glob("*.yml"))]
    written = [
        yaml.safe_load(text.replace("{{ $externalLabels.runbook }}", "https://docs.example/runbook"))[
            "groups"
        ]
        for text in texts
    ]
    assert manifest["spec"]["groups"] == [group for groups in written for group in groups]
    assert manifest["metadata"]["labels"]["release"] == "prometheus"
    (lag,) = [
        rule
        for group in manifest["spec"]["groups"]
        for rule in group["rules"]
        if rule.get("alert") == "ReviewpulseLag"
    ]
    assert "$externalLabels" not in json.dumps(manifest)
    assert lag["annotations"]["runbook_url"] == "https://docs.example/runbook#reviewpulselag"
    assert lag["annotations"]["summary"] == "Counters are {{ $value | humanizeDuration }} behind"


def test_a_chart_without_its_rules_says_so(tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "chart", ignore=shutil.ignore_patterns("rules"))
    with helm.Chart.load(tmp_path / "chart") as chart:
        with pytest.raises(helm.HelmRenderError, match="this copy of the chart has no rules"):
            chart.render(FULL, name="pulse", namespace="shop")
        assert chart.render(LEAST, name="pulse", namespace="shop")


@pytest.mark.parametrize("name", SERVE)
def test_metrics_are_scraped_where_they_are_served_as_the_jobs_that_rules_name(name: str) -> None:
    (endpoint,) = one(FULL, "PodMonitor", f"-{name}")["spec"]["podMetricsEndpoints"]
    ports = {each["name"]: each["containerPort"] for each in containers(FULL)[name]["ports"]}
    _, port = address_of(environment(containers(FULL)[name])["REVIEWPULSE_HEALTH"])
    assert (ports[endpoint["port"]], endpoint["path"]) == (port, "/metrics")
    annotations = one(FULL, "Deployment", f"-{name}")["spec"]["template"]["metadata"]["annotations"]
    assert {key: value for key, value in annotations.items() if key.startswith("prometheus.io/")} == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port),
        "prometheus.io/path": "/metrics",
    }
    scraped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    assert [each["replacement"] for each in endpoint["relabelings"]] == [f"reviewpulse-{name}"]
    assert f"reviewpulse-{name}" in {each["job_name"] for each in scraped}


def test_a_monitor_is_made_for_what_runs_alone() -> None:
    least = LEAST | {"metrics": {"podMonitor": {"enabled": True}}}
    monitors = [each["metadata"]["name"] for each in rendered(least) if each["kind"] == "PodMonitor"]
    assert monitors == ["pulse-reviewpulse-worker", "pulse-reviewpulse-web"]


def mount(pod: Manifest, under: Path) -> dict[str, str]:
    """Makes the files that a pod's volumes put into its container; by the place there, the folder here.

    A Secret of the user's holds what the volume takes of it, or a server's certificates.
    """
    volumes = {each["name"]: each for each in pod["volumes"]}
    folders = {}
    for each in pod["containers"][0]["volumeMounts"]:
        volume = volumes[each["name"]]
        folder = under / each["mountPath"].lstrip("/")
        folder.mkdir(parents=True)
        folders[each["mountPath"]] = str(folder)
        source: Manifest = volume.get("secret") or volume.get("configMap") or {"items": []}
        certificates = [{"path": file} for file in ("ca.crt", "tls.crt", "tls.key")]
        for item in source.get("items", certificates):
            text = TOKENS if item["path"].endswith("_web_tokens") else "content"
            (folder / item["path"]).write_text(text, "utf-8")
    return folders


def loaded(pod: Manifest, under: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as the container would load them, its file system being a folder of ours."""
    folders = mount(pod, under)
    variables = environment(pod["containers"][0])
    with monkeypatch.context() as patched:
        for key, value in variables.items():
            place = next((each for each in folders if value == each or value.startswith(f"{each}/")), None)
            patched.setenv(key, value if place is None else folders[place] + value[len(place) :])
        return load()


@each_set
def test_every_variable_is_a_setting_with_a_value_it_accepts(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, pod in pods(values).items():
        assert unknown_variables(environment(pod["containers"][0])) == {}, name
        settings = loaded(pod, tmp_path / name, monkeypatch)
        for file in (settings.rules, settings.priors, settings.notify, settings.bundle_key):
            assert file is None or file.is_file(), name
        assert (settings.web_tokens is not None) is (name == "web")


@pytest.mark.parametrize(
    ("volume", "says"),
    [("kafka-tls", "KAFKA_CA_FILE: there is no file"), ("secrets", "there is no folder")],
)
def test_a_volume_that_is_not_mounted_is_found(
    volume: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pod = pods(FULL)["worker"]
    mounts = pod["containers"][0]["volumeMounts"]
    pod["containers"][0]["volumeMounts"] = [each for each in mounts if each["name"] != volume]
    with pytest.raises(UsageError, match=says):
        loaded(pod, tmp_path, monkeypatch)


def test_a_password_that_is_not_mounted_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pod = pods(FULL)["worker"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "secrets"]
    volume["secret"]["items"] = []
    with pytest.raises(UsageError, match="set REVIEWPULSE_KAFKA_PASSWORD"):
        loaded(pod, tmp_path, monkeypatch)


@each_set
def test_every_command_is_one_that_reviewpulse_has(values: dict[str, Any]) -> None:
    group: Any = typer.main.get_command(command_line())
    for container in containers(values).values():
        command, *arguments = container["args"]
        assert group.commands[command].make_context(command, arguments, resilient_parsing=True)
    assert "doctor" in group.commands  # named in NOTES.txt


def test_the_notes_name_deployments_services_and_ports_that_there_are() -> None:
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(FULL, name="pulse", namespace="shop")
    (notes,) = [text for name, text in texts.items() if name.endswith("NOTES.txt")]
    named = set(re.findall(r"(deploy|service)/(\S+)", notes))
    kinds = {"Deployment": "deploy", "Service": "service"}
    there = {
        (kinds[each["kind"]], each["metadata"]["name"]) for each in rendered(FULL) if each["kind"] in kinds
    }
    assert named == {("deploy", "pulse-reviewpulse-worker"), ("service", "pulse-reviewpulse-web")}
    assert named <= there
    (port,) = re.findall(r"port-forward deploy/\S+ (\d+)", notes)
    assert int(port) in {each["containerPort"] for each in containers(FULL)["worker"]["ports"]}


def test_numbers_reach_the_settings_as_they_were_written() -> None:
    variables = environment(containers(FULL)["worker"])
    assert variables["REVIEWPULSE_EXPECTED_EVENTS_PER_DAY"] == "25000000"
    assert environment(containers(GPU)["worker"])["REVIEWPULSE_TOKEN_BUDGET"] == "16384"  # noqa: S105


@each_set
def test_no_pod_has_a_right_it_does_not_need(values: dict[str, Any]) -> None:
    for name, pod in pods(values).items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
        volumes = {each["name"]: each for each in pod["volumes"]}
        assert volumes["tmp"] == {"name": "tmp", "emptyDir": {}}


@each_set
def test_what_is_mounted_is_a_volume_and_every_volume_is_mounted(values: dict[str, Any]) -> None:
    for name, pod in pods(values).items():
        mounted = {
            mount["name"]
            for container in [*pod["containers"], *pod.get("initContainers", [])]
            for mount in container["volumeMounts"]
        }
        assert mounted == {each["name"] for each in pod["volumes"]}, name


def test_every_file_a_setting_names_is_mounted_there() -> None:
    for name, container in containers(FULL).items():
        folders = [each["mountPath"] for each in container["volumeMounts"]]
        variables = environment(container)
        files = [
            value
            for key, value in variables.items()
            if key.endswith(("_FILE", "_RULES", "_PRIORS", "_NOTIFY", "_BUNDLE_KEY"))
        ]
        assert len(files) == {"worker": 9, "web": 7, "notify": 7, "topics": 6}[name]
        assert all(any(each.startswith(f"{folder}/") for folder in folders) for each in files)
    data = one(FULL, "ConfigMap")["data"]
    assert data == {
        "rules.toml": "[[rule]]\n",
        "priors.json": "{}",
        "notify.toml": "# told\n",
        "bundleKey.pem": "-----BEGIN",
    }


def test_a_process_sees_its_own_secrets_alone() -> None:
    keys = {
        name: {
            item["key"]
            for each in pod["volumes"]
            if each["name"] == "secrets"
            for item in each["secret"]["items"]
        }
        for name, pod in pods(FULL).items()
    }
    own = {"reviewpulse_kafka_password", "reviewpulse_redis_password", "reviewpulse_redis_sentinel_password"}
    assert keys == {"worker": own, "notify": own, "topics": own, "web": own | {"reviewpulse_web_tokens"}}
    known = {name for name in Settings.model_fields if schema_of_values().is_secret(name)}
    assert {key.removeprefix("reviewpulse_") for key in keys["web"]} == known


def test_no_secret_is_in_the_environment_or_in_a_config_map() -> None:
    for each in rendered(LEAST):
        assert each["kind"] == "Secret" or TOKENS not in json.dumps(each)
    assert one(LEAST, "Secret")["stringData"] == {"reviewpulse_web_tokens": TOKENS}


@pytest.mark.parametrize("name", SERVE)
def test_what_serves_its_health_is_asked_there(name: str) -> None:
    container = containers(FULL)[name]
    host, port = address_of(environment(container)["REVIEWPULSE_HEALTH"])
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert (host, port) == ("0.0.0.0", ports["health"])  # noqa: S104 - kubelets ask from outside
    asked = {probe: container[probe]["httpGet"] for probe in PROBES}
    assert {probe: each["path"] for probe, each in asked.items()} == PROBES
    # The page has begun, and is ready, when it answers where people ask it.
    at = {"startupProbe": "http", "readinessProbe": "http"} if name == "web" else {}
    assert {probe: each["port"] for probe, each in asked.items()} == dict.fromkeys(PROBES, "health") | at


def test_the_page_is_asked_at_the_port_it_listens_on_by_a_name_it_answers_to() -> None:
    container = containers(FULL)["web"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports["http"] == int(environment(container)["REVIEWPULSE_WEB_PORT"])
    for probe in PROBES:
        if container[probe]["httpGet"]["port"] == "http":
            assert container[probe]["httpGet"]["httpHeaders"] == [{"name": "Host", "value": "localhost"}]


def test_what_only_makes_topics_serves_nothing() -> None:
    container = containers(FULL)["topics"]
    assert "REVIEWPULSE_HEALTH" not in environment(container)
    assert "ports" not in container


def test_a_start_may_take_three_minutes() -> None:
    for name in SERVE:
        probe = containers(FULL)[name]["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 120


def test_every_pod_has_time_to_drain() -> None:
    grace = {name: pod.get("terminationGracePeriodSeconds") for name, pod in pods(FULL).items()}
    farewell_s = worker.NOTES_S + worker.COMMIT_S + worker.LEAVE_S + worker.NOTES_S
    assert grace["worker"] > worker.DRAIN_S + farewell_s
    stops_s = 5.0  # preStop
    assert grace["web"] > stops_s + server.GRACE_S + ingest.FLUSH_S + ingest.DELIVERY_S + ingest.FLUSH_S
    # Two sources, and the alerts followed for the metrics: see stream/deliver/service.py.
    assert grace["notify"] > service.DRAIN_S + 3 * 2.0
    schema = schema_of_values().values()["properties"]["worker"]["properties"]
    assert schema["terminationGracePeriodSeconds"]["minimum"] > worker.DRAIN_S + farewell_s


def test_keda_scales_on_the_lag_of_both_topics_within_the_partitions() -> None:
    spec = one(FULL, "ScaledObject")["spec"]
    settings = load()
    assert spec["scaleTargetRef"]["name"] == one(FULL, "Deployment", "-worker")["metadata"]["name"]
    assert "replicas" not in one(FULL, "Deployment", "-worker")["spec"]  # KEDA's to say
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, settings.partitions)
    read = [each["metadata"] for each in spec["triggers"]]
    assert [each["topic"] for each in read] == list(settings.topics.values())
    for each in read:
        assert each["consumerGroup"] == settings.group
        assert (each["bootstrapServers"], each["sasl"], each["tls"]) == (
            "k1:9093,k2:9093",
            "scram_sha512",
            "enable",
        )
        assert each["allowIdleConsumers"] == "false"


def test_keda_gets_at_kafka_with_the_workers_own_secrets() -> None:
    authentication = one(FULL, "TriggerAuthentication")
    references = {each["authenticationRef"]["name"] for each in one(FULL, "ScaledObject")["spec"]["triggers"]}
    assert references == {authentication["metadata"]["name"]}
    (username,) = authentication["spec"]["env"]
    container = containers(FULL)["worker"]
    assert username["containerName"] == container["name"]
    assert environment(container)[username["name"]] == "pulse"
    taken = {
        each["parameter"]: (each["name"], each["key"]) for each in authentication["spec"]["secretTargetRef"]
    }
    assert taken == {
        "password": ("pulse", "reviewpulse_kafka_password"),
        "ca": ("kafka-tls", "ca.crt"),
        "cert": ("kafka-tls", "tls.crt"),
        "key": ("kafka-tls", "tls.key"),
    }


def test_without_keda_there_are_as_many_workers_as_said() -> None:
    assert one(LEAST, "Deployment", "-worker")["spec"]["replicas"] == 2
    assert {"ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule"}.isdisjoint(
        each["kind"] for each in rendered(LEAST)
    )


def test_gpu_workers_demand_cuda_and_a_gpu_and_no_other_pod_does() -> None:
    container = containers(GPU)["worker"]
    assert environment(container)["REVIEWPULSE_PROVIDER"] == "cuda"
    for kind in ("limits", "requests"):
        assert container["resources"][kind]["nvidia.com/gpu"] == 1
    assert pods(GPU)["worker"]["runtimeClassName"] == "nvidia"
    assert "nvidia" not in json.dumps([pods(GPU)["web"], pods(GPU)["topics"]])
    assert one(GPU, "Deployment", "-worker")["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 0,
        "maxUnavailable": 1,
    }
    assert container["image"] == "reviewpulse@sha256:" + "a" * 64


@each_set
def test_selectors_find_their_pods_and_no_others(values: dict[str, Any]) -> None:
    manifests = rendered(values)
    labels = [
        each["spec"]["template"]["metadata"]["labels"]
        for each in manifests
        if each["kind"] in ("Deployment", "Job")
    ]

    def found(selector: dict[str, str]) -> int:
        return sum(selector.items() <= each.items() for each in labels)

    for each in manifests:
        spec = each.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector"))
        if selector is not None:
            assert found(selector.get("matchLabels", selector)) == 1, each["metadata"]["name"]


def test_the_network_lets_through_what_each_needs_and_no_more() -> None:
    ports = {
        each["metadata"]["name"].rpartition("-")[2]: {
            port["port"] for rule in each["spec"]["egress"] for port in rule["ports"]
        }
        for each in rendered(FULL)
        if each["kind"] == "NetworkPolicy"
    }
    own = {53, 9092, 6379}
    assert ports == {"worker": own, "web": own, "topics": own, "notify": own | {443, 587}}
    reached = {
        each["metadata"]["name"].rpartition("-")[2]: [
            port["port"] for rule in each["spec"]["ingress"] for port in rule["ports"]
        ]
        for each in rendered(FULL)
        if each["kind"] == "NetworkPolicy"
    }
    assert reached == {"worker": [8080], "web": [8080, 8000], "topics": [], "notify": [8080]}


def test_the_page_s_visitors_do_not_reach_the_metrics() -> None:
    scraper, ingress = [{"podSelector": {"matchLabels": {"a": "b"}}}], [{"namespaceSelector": {}}]
    policies = rendered(FULL | {"networkPolicy": {"metricsFrom": scraper, "webFrom": ingress}})
    reached = {
        (each["metadata"]["name"].rpartition("-")[2], port["port"]): rule["from"]
        for each in policies
        if each["kind"] == "NetworkPolicy"
        for rule in each["spec"]["ingress"]
        for port in rule["ports"]
    }
    assert reached == {(name, 8080): scraper for name in SERVE} | {("web", 8000): ingress}


def test_another_configuration_is_another_job_since_a_job_cannot_change() -> None:
    other = LEAST | {"config": {"partitions": 16}}
    names = {one(each, "Job")["metadata"]["name"] for each in (LEAST, other, LEAST)}
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)


def test_another_file_rolls_the_pods_that_read_it() -> None:
    other = FULL | {"files": FULL["files"] | {"rules": "[[rule]] # another\n"}}

    def annotations(values: dict[str, Any], name: str) -> Any:
        return one(values, "Deployment", name)["spec"]["template"]["metadata"]["annotations"][
            "checksum/files"
        ]

    assert annotations(FULL, "-worker") != annotations(other, "-worker")
    assert annotations(FULL, "-notify") == annotations(other, "-notify")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "web.enabled needs tokens"),
        ({"web": {"enabled": False}, "notify": {"enabled": True}}, "needs the notify file"),
        (LEAST | {"worker": {"replicas": 9}}, "worker.replicas is 9, but a topic has 8 partitions"),
        (
            LEAST | {"worker": {"autoscaling": {"enabled": True, "maxReplicas": 12}}},
            "maxReplicas is 12, but a topic has 8 partitions",
        ),
        (LEAST | {"bundle": {"image": "b:1"}}, "bundle.path is to say which folder below /bundles"),
        (LEAST | {"files": {"bundleKey": "-----BEGIN"}}, "set bundle.path to one that is"),
        (LEAST | {"web": {"ingress": {"enabled": True}}}, "needs web.ingress.host"),
        (
            {"secrets": {"existingSecret": "a", "create": {"web_tokens": TOKENS}}},
            "both given: keep one",
        ),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused_with_a_sentence(
    values: dict[str, Any], says: str
) -> None:
    with pytest.raises(helm.HelmRenderError, match=says):
        rendered(values)


@pytest.mark.parametrize(
    ("values", "place", "why"),
    [
        ({"worker": {"replica": 3}}, "at '/worker'", "additional properties 'replica' not allowed"),
        (
            {"config": {"token_bugdet": 64}},
            "at '/config'",
            "additional properties 'token_bugdet' not allowed",
        ),
        ({"config": {"token_budget": 1}}, "at '/config/token_budget'", "minimum: got 1, want 64"),
        ({"config": {"kafka_security": "TLS"}}, "at '/config/kafka_security'", "must be one of"),
        ({"config": {"web_tokens": TOKENS}}, "at '/config'", "'web_tokens' not allowed"),
        ({"worker": {"terminationGracePeriodSeconds": 10}}, "terminationGracePeriodSeconds'", "want 30"),
        ({"worker": {"autoscaling": {"minReplicas": 0}}}, "autoscaling/minReplicas'", "want 1"),
        ({"worker": {"gpu": {"count": 2}}}, "gpu/count'", "want 1"),
        ({"image": {"digest": "latest"}}, "at '/image/digest'", "does not match pattern"),
    ],
)
def test_wrong_values_are_refused_by_place_and_reason(values: dict[str, Any], place: str, why: str) -> None:
    with pytest.raises(helm.HelmValuesError) as refused:
        rendered(values)
    assert place in str(refused.value)
    assert why in str(refused.value)


def schema_of_values() -> Any:
    """The program that writes the schema."""
    sys.path.insert(0, str(ROOT / "deploy" / "helm"))
    try:
        import values_schema  # noqa: PLC0415 - it is in no package
    finally:
        sys.path.pop(0)
    return values_schema


def test_the_schema_is_of_todays_settings() -> None:
    program = schema_of_values()
    assert program.SCHEMA.read_text("utf-8") == program.written(), "run `python deploy/helm/values_schema.py`"


def test_every_setting_is_in_the_chart_somewhere() -> None:
    program = schema_of_values()
    given = set(program.config()["properties"])
    used = {
        key.removeprefix(PREFIX).lower() for each in containers(FULL).values() for key in environment(each)
    }
    secrets = {name for name in Settings.model_fields if program.is_secret(name)}
    assert set(Settings.model_fields) - given - used - secrets == program.NOT_IN_THE_CHART


def test_the_default_values_have_every_key_of_the_schema_and_no_other() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))

    def keys(schema: dict[str, Any], place: str = "") -> set[str]:
        found = set()
        for name, inner in schema.get("properties", {}).items():
            found |= {f"{place}{name}"} | keys(inner, f"{place}{name}.")
        return found

    def given(value: Any, place: str = "") -> set[str]:
        found = set()
        for name, inner in value.items() if isinstance(value, dict) else ():
            found |= {f"{place}{name}"} | given(inner, f"{place}{name}.")
        return found

    schema = keys(schema_of_values().values())
    free = ("config.", "secrets.create.", "global")
    assert {each for each in schema if not each.startswith(free)} == {
        each for each in given(defaults) if not each.startswith(free) and (".resources." not in each)
    }


def test_the_chart_is_of_this_version() -> None:
    from stream import __version__  # noqa: PLC0415

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["appVersion"] == __version__


def test_helm_lint_finds_nothing_but_that_there_is_no_icon() -> None:
    report = helm.lint(str(CHART), LEAST, strict=True)
    assert report["errors"] == []
    assert [each["error"] for each in report["messages"]] == ["icon is recommended"]
