"""Every setting, once: name, default, meaning. ``python -m stream.settings`` prints the README's table.

Rules:
- Each is ``REVIEWPULSE_<NAME>`` in the environment. It may instead stand in a file of that name in lower case
  (``reviewpulse_redis_password``) in the folder ``REVIEWPULSE_SECRETS_DIR``, as Docker and Kubernetes mount
  secrets.
- Secrets are never logged and never shown.
- Whatever is wrong is told at once, at the start of whatever loads them (``stream.settings_check``).
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from stream.core.segments import MOST_SEGMENTS_KEPT, SEGMENT_OFFSETS
from stream.errors import UsageError
from stream.settings_check import PREFIX, Wrong, combination_errors, told, value_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRETS_DIR = f"{PREFIX}SECRETS_DIR"
TEST_PREFIX = f"{PREFIX}TEST_"
"""Of what the tests are to use: servers instead of embedded ones."""
OTHERS = {f"{PREFIX}URL", f"{PREFIX}TOKEN"}
"""Not settings, and not mistakes: what Grafana's data source reads (docs/grafana.md)."""
SHIPPED_BUNDLE = Path(__file__).parent / "bundles" / "en-zh"
OptionalPath = Annotated[Path | None, BeforeValidator(lambda path: None if path == "" else path)]
"""An empty one is none, as who has no value for a variable often sets it all the same."""


class Settings(BaseSettings):
    """Configuration of every command, from the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    kafka: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers, `host:port[,host:port]`.")
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Kafka security protocol."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, when the security protocol has SASL."
    )
    kafka_username: str | None = Field(None, description="SASL user.")
    kafka_password: SecretStr | None = Field(None, description="SASL password.")
    kafka_ca_file: OptionalPath = Field(None, description="CA certificates (PEM) to trust for Kafka's TLS.")
    kafka_cert_file: OptionalPath = Field(None, description="Client certificate (PEM) for Kafka's TLS.")
    kafka_key_file: OptionalPath = Field(None, description="Its private key (PEM).")

    redis: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis or Valkey URL: `redis://`, `redis+sentinel://host,host/name`, `redis+cluster://host,host`;"
        " `rediss` instead of `redis` for TLS, `user@` before the host for an ACL user.",
    )
    redis_password: SecretStr | None = Field(None, description="Redis password, kept out of the URL.")
    redis_sentinel_password: SecretStr | None = Field(None, description="The sentinels' own password.")
    redis_ca_file: OptionalPath = Field(None, description="CA certificates (PEM) to trust for Redis' TLS.")
    redis_cert_file: OptionalPath = Field(None, description="Client certificate (PEM) for Redis' TLS.")
    redis_key_file: OptionalPath = Field(None, description="Its private key (PEM).")
    namespace: str = Field("rp", pattern=r"^[A-Za-z0-9_.-]{1,32}$", description="Prefix of every Redis key.")
    shards: int = Field(
        1,
        ge=1,
        le=1024,
        description="Slots a new namespace spreads its products over; above 1 only for a cluster: 4 a master."
        " `reviewpulse reshard` changes it.",
    )

    group: str = Field("reviewpulse", min_length=1, description="Kafka consumer group of the workers.")
    topic_reviews: str = Field("reviews", description="Topic of reviews.")
    topic_chats: str = Field("chats", description="Topic of chat lines.")
    topic_alerts: str = Field("alerts", description="Topic of alert transitions (compacted).")
    topic_scores: str = Field("scores", description="Topic of scores.")
    publish_scores: bool = Field(False, description="Whether every score is published to the scores topic.")
    partitions: int = Field(8, ge=1, le=10_000, description="Partitions a created topic gets.")
    replication: int = Field(1, ge=1, le=9, description="Replicas a created topic gets; 3 in production.")
    retention_h: int = Field(
        24 * 14, ge=1, description="Hours that reviews and chats are kept: how far counters can heal."
    )
    session_timeout_s: float = Field(
        45.0, ge=6, le=300, description="Seconds until Kafka gives a silent worker's partitions away."
    )

    watchdog_loop_s: float = Field(
        30.0, ge=0, description="A worker whose event loop stands still for so long ends itself; 0: never."
    )
    watchdog_stall_s: float = Field(
        120.0,
        ge=0,
        description="So does one that applies nothing for so long while records wait and Kafka and Redis"
        " answer; 0: never.",
    )
    watchdog_rebalance_s: float = Field(
        180.0,
        ge=0,
        description="So does one that gets no assignment for so long, at least two session timeouts;"
        " 0: never.",
    )
    health: str | None = Field(
        None,
        description="Where `worker`, `web` and `notify` serve `/livez`, `/readyz` and `/metrics`:"
        " `127.0.0.1:8080`, or `8080` for the same; another host only if you write it. Off by default.",
    )

    traces: str | None = Field(
        None,
        description="OpenTelemetry collector that a worker sends traces of its windows to, over HTTP:"
        " `http://collector:4318`; needs the extra `otel`. OTEL_EXPORTER_OTLP_ENDPOINT does, too."
        " Off by default.",
    )

    scorer: Literal["onnx", "constant"] = Field(
        "onnx", description="`onnx` scores with the bundle; `constant` is for tests and benches."
    )
    bundle: Path = Field(SHIPPED_BUNDLE, description="Folder of the model bundle.")
    bundle_key: OptionalPath = Field(
        None,
        description="Public key (PEM) that bundles must be signed for, `reviewpulse bundle sign`; unsigned or"
        " altered ones are refused then.",
    )
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = Field(
        "auto",
        description="Execution provider. `cuda` and `tensorrt` fail where they cannot be used; `auto` is CUDA"
        " or else the CPU.",
    )
    threads: int = Field(
        0, ge=0, description="Micro-batches scored at once on CPUs, one thread each; 0: one for each core."
    )
    device_id: int = Field(0, ge=0, description="Which GPU, where there are several.")
    cuda_graphs: Literal["auto", "off"] = Field(
        "auto",
        description="On CUDA: runs of shapes that repeat are captured, where the model allows it.",
    )
    tensorrt_cache: OptionalPath = Field(
        None,
        description="Folder in which TensorRT keeps its engines; None: one beside temporary files.",
    )
    token_budget: int = Field(
        384,
        ge=64,
        description="Most padded tokens in one micro-batch. 384 suits CPUs, 16,384 and more GPUs.",
    )
    window_events: int = Field(
        4096, ge=1, le=16_384, description="Most events sorted, scored and recorded together."
    )
    max_event_bytes: int = Field(
        262_144, ge=1024, description="Largest record accepted; a larger one is a dead letter."
    )
    allowed_skew_s: float = Field(
        300.0, ge=0, le=300, description="How far ahead of its arrival an event's time may be."
    )
    late_after_s: float = Field(
        3600.0, ge=0, description="An event that arrives later than this after its time is counted as late."
    )
    dedupe_events: int = Field(
        2 * SEGMENT_OFFSETS,
        ge=0,
        le=MOST_SEGMENTS_KEPT * SEGMENT_OFFSETS,
        description="Offsets of a partition within which a repeated event id is counted once, rounded up to"
        " multiples of 131,072 (8 bytes an event in Redis); 0 counts every record.",
    )
    historic_after_s: float = Field(
        86_400.0, ge=0, description="An alert on events that arrive later than this is marked `historic`."
    )

    false_alarms_per_day: float = Field(
        1.0, gt=0, description="False alarms a day allowed for the whole fleet."
    )
    expected_events_per_day: float = Field(
        1_000_000.0,
        gt=0,
        description="Events a day of the whole fleet; with the budget it sets the threshold.",
    )
    alert_min_events: int = Field(20, ge=1, description="Events a product needs before it can alert.")
    alert_min_negatives: int = Field(8, ge=1, description="Negatives since the onset an alert needs.")
    rules: OptionalPath = Field(
        None,
        description="Rules file (TOML): plain threshold rules, exceptions by product."
        " `reviewpulse rules check` reads it out.",
    )
    priors: OptionalPath = Field(
        None,
        description="Snapshot of what a product's baseline begins with, from `reviewpulse priors learn`: the"
        " same file for every worker. None: the built-in prior.",
    )

    notify: OptionalPath = Field(
        None, description="File (TOML) that says whom `reviewpulse notify` tells of what, and where."
    )

    web_host: str = Field(
        "127.0.0.1",
        description="Address that `reviewpulse web` listens on; beyond loopback only with tokens.",
    )
    web_port: int = Field(8000, ge=0, le=65_535, description="Its port; 0 picks a free one.")
    web_tokens: SecretStr | None = Field(
        None,
        description="Who may use it: `name:scope+scope:token`, by commas or lines; scopes `read`, `ingest`,"
        " `operate`; a token has 16 characters at least. None: everybody on this machine.",
    )
    web_names: str = Field(
        "", description="Host names it answers to beside its address and `localhost`, by commas."
    )
    web_batch_bytes: int = Field(
        8 << 20, ge=1024, le=1 << 30, description="Largest batch of events that it takes in one request."
    )
    web_inflight_bytes: int = Field(
        64 << 20,
        ge=2048,
        description="What may wait there for Kafka's acknowledgement; beyond it senders are told to wait.",
    )

    log_format: Literal["auto", "human", "json"] = Field(
        "auto", description="`auto`: human on a terminal, JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options before environment before secret files; the folder is looked up at each load."""
        del dotenv_settings, file_secret_settings
        secrets = SecretsSettingsSource(settings_cls, secrets_dir=os.environ.get(SECRETS_DIR))
        return init_settings, env_settings, secrets

    @property
    def segments_kept(self) -> int | None:
        """Segments of ``stream.core.seen`` that duplicates are looked for in; None for no look."""
        return -(-self.dedupe_events // SEGMENT_OFFSETS) or None

    @property
    def topics(self) -> dict[str, str]:
        """Kafka topic of each input channel."""
        return {"reviews": self.topic_reviews, "chats": self.topic_chats}


def load(**overrides: Any) -> Settings:
    """Settings from the environment, with command-line options on top (those that are not None).

    Raises:
        UsageError: a setting is wrong; every wrong one is named.
    """
    settings, wrong = read(**overrides)
    if wrong:
        raise UsageError(told(wrong))
    return settings


def read(**overrides: Any) -> tuple[Settings, list[Wrong]]:
    """Settings with the defaults in place of what is wrong by itself, and everything that is wrong.

    Raises:
        UsageError: there is no folder of secrets where it should be.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    folder = os.environ.get(SECRETS_DIR)
    if folder is not None and not Path(folder).is_dir():
        raise UsageError(f"{SECRETS_DIR}: there is no folder {folder}.")
    wrong: list[Wrong] = []
    try:
        settings = Settings(**given)
    except ValidationError as error:
        wrong = value_errors(Settings.model_fields, error.errors(include_input=False))
        defaults = {name: Settings.model_fields[name].default for each in wrong for name in each.names}
        settings = Settings(**given | defaults)
    return settings, wrong + combination_errors(settings, [name for each in wrong for name in each.names])


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Variables that begin like settings and are none, each with the setting it resembles most, if any.

    >>> unknown_variables({"REVIEWPULSE_TOKEN_BUGDET": "64", "REVIEWPULSE_KAFKA": "k:9092", "HOME": "/"})
    {'REVIEWPULSE_TOKEN_BUGDET': 'REVIEWPULSE_TOKEN_BUDGET'}
    """
    known = [SECRETS_DIR, *(f"{PREFIX}{name.upper()}" for name in Settings.model_fields)]
    strange = sorted(
        name
        for name in environ
        if name.upper().startswith(PREFIX)
        and name.upper() not in known
        and name.upper() not in OTHERS
        and not name.upper().startswith(TEST_PREFIX)
    )
    return {
        name: next(iter(difflib.get_close_matches(name.upper(), known, 1, 0.8)), None) for name in strange
    }


def dead_letter_topic(topic: str) -> str:
    """The topic that takes what cannot be counted from ``topic``.

    >>> dead_letter_topic("reviews")
    'reviews.dlq'
    """
    return f"{topic}.dlq"


def markdown_table() -> str:
    """The README's table of settings."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        if name == "bundle":
            default = "the shipped one"  # its path is another on each machine
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    rows.append(
        f"| `{SECRETS_DIR}` | | Folder with a file for each secret, named like the variable in lower case. |"
    )
    return "\n".join(rows)


if __name__ == "__main__":
    print(markdown_table())
