"""Writes ``values.schema.json``: the chart's values, and in ``config`` the settings themselves.

    python deploy/helm/values_schema.py

So Helm refuses a setting that does not exist, or a value that a process would refuse at its start. What the
chart sets itself (addresses, files, secrets) is no part of ``config``. A test says when to run it again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from stream.settings import Settings

SCHEMA = Path(__file__).parent / "reviewpulse" / "values.schema.json"

BY_THE_CHART = {"bundle", "bundle_key", "health", "rules", "priors", "notify", "web_host", "web_port"}
"""Settings that have sections of their own in the values; so have files of certificates, and secrets."""

NOT_IN_THE_CHART = {"tensorrt_cache"}
"""TensorRT is in none of its images."""

Schema = dict[str, Any]


def is_secret(name: str) -> bool:
    """Whether a setting is mounted as a file."""
    return SecretStr in _types(name)


def is_file(name: str) -> bool:
    """Whether a setting names a file or folder."""
    return Path in _types(name)


def _types(name: str) -> tuple[object, ...]:
    annotation = Settings.model_fields[name].annotation
    return getattr(annotation, "__args__", (annotation,))


def closed(properties: dict[str, Schema], **further: Any) -> Schema:
    """An object with no other properties than these."""
    return {"type": "object", "additionalProperties": False, "properties": properties, **further}


def config() -> Schema:
    """The settings that are given in ``config``, with the limits that they have themselves."""
    known: dict[str, Schema] = Settings.model_json_schema()["properties"]
    properties = {}
    for name, field in Settings.model_fields.items():
        if name in BY_THE_CHART or is_secret(name) or is_file(name):
            continue
        schema = {key: value for key, value in known[name].items() if key not in ("default", "title")}
        properties[name] = schema | {"description": field.description}
    return closed(properties, required=["kafka", "redis"])


TEXT: Schema = {"type": "string"}
SWITCH: Schema = {"type": "boolean"}
ANY_OBJECT: Schema = {"type": "object"}
ANY_LIST: Schema = {"type": "array"}
STRINGS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
PORTS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65_535}}
VARIABLES: Schema = {
    "type": "array",
    "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
}


def number(least: int, most: int | None = None) -> Schema:
    """A whole number."""
    return {"type": "integer", "minimum": least} | ({} if most is None else {"maximum": most})


def pod(**further: Schema) -> Schema:
    """What each kind of pod has."""
    return closed(
        {
            "resources": ANY_OBJECT,
            "terminationGracePeriodSeconds": number(1),
            "podAnnotations": STRINGS,
            "nodeSelector": STRINGS,
            "tolerations": ANY_LIST,
            "affinity": ANY_OBJECT,
            "extraEnv": VARIABLES,
            **further,
        }
    )


def certificates() -> Schema:
    """A server's TLS."""
    return closed({"secret": TEXT, "ca": SWITCH, "clientCertificate": SWITCH})


def values() -> Schema:
    """The whole schema."""
    secrets = {name: TEXT for name in Settings.model_fields if is_secret(name)}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart reviewpulse",
        **closed(
            {
                "global": ANY_OBJECT,
                "image": closed(
                    {
                        "repository": {"type": "string", "minLength": 1},
                        "tag": TEXT,
                        "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
                        "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
                        "pullSecrets": ANY_LIST,
                    }
                ),
                "config": config(),
                "secrets": closed({"existingSecret": TEXT, "create": closed(secrets)}),
                "tls": closed({"kafka": certificates(), "redis": certificates()}),
                "files": closed({"rules": TEXT, "priors": TEXT, "notify": TEXT, "bundleKey": TEXT}),
                "bundle": closed(
                    {"path": TEXT, "existingClaim": TEXT, "image": TEXT, "from": TEXT, "sizeLimit": TEXT}
                ),
                "worker": pod(
                    replicas=number(1),
                    # The drain and the farewell, see the values: less would cut them off.
                    terminationGracePeriodSeconds=number(30),
                    gpu=closed(
                        {
                            "enabled": SWITCH,
                            "count": number(1, 1),
                            "tokenBudget": number(64),
                            "runtimeClassName": TEXT,
                            "tolerations": ANY_LIST,
                        }
                    ),
                    autoscaling=closed(
                        {
                            "enabled": SWITCH,
                            # At none nobody would heal counters or notice that alerts are over.
                            "minReplicas": number(1),
                            "maxReplicas": number(1),
                            "lagThreshold": number(1),
                            "pollingIntervalSeconds": number(1),
                            "scaleUpStabilizationSeconds": number(0, 3600),
                            "scaleDownStabilizationSeconds": number(0, 3600),
                            "fallbackReplicas": number(1),
                        }
                    ),
                ),
                "web": pod(
                    enabled=SWITCH,
                    replicas=number(1),
                    service=closed(
                        {
                            "type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
                            "port": number(1, 65_535),
                            "annotations": STRINGS,
                        }
                    ),
                    ingress=closed(
                        {
                            "enabled": SWITCH,
                            "className": TEXT,
                            "host": TEXT,
                            "tlsSecret": TEXT,
                            "annotations": STRINGS,
                        }
                    ),
                ),
                "notify": pod(enabled=SWITCH),
                "topics": closed({"enabled": SWITCH, "resources": ANY_OBJECT}),
                "metrics": closed(
                    {
                        "annotations": SWITCH,
                        "podMonitor": closed({"enabled": SWITCH, "interval": TEXT, "labels": STRINGS}),
                        "rules": closed({"enabled": SWITCH, "runbook": TEXT, "labels": STRINGS}),
                    }
                ),
                "podDisruptionBudget": closed(
                    {"enabled": SWITCH, "maxUnavailable": {"type": ["integer", "string"]}}
                ),
                "networkPolicy": closed(
                    {
                        "enabled": SWITCH,
                        "webFrom": ANY_LIST,
                        "metricsFrom": ANY_LIST,
                        "kafkaPorts": PORTS,
                        "redisPorts": PORTS,
                        "notifyPorts": PORTS,
                    }
                ),
                "serviceAccount": closed({"name": TEXT, "annotations": STRINGS}),
            }
        ),
    }


def written() -> str:
    """The file's contents."""
    return json.dumps(values(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(written(), "utf-8")
