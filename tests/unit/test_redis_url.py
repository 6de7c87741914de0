"""Redis URLs: what they lead to, and how a wrong one is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis
import redis.asyncio
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    ConnectionError,  # noqa: A004
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    RedisClusterException,
    ResponseError,
)

from stream.errors import DependencyError, UsageError
from stream.redis_config import connect, connect_async, redis_kwargs
from stream.redis_errors import failure
from stream.redis_url import Topology, shown_url
from stream.settings import load

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = "redis+cluster://n1:7000,n2:7001"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://host", "must specify one of the following schemes"),
        ("redis+http://host", "it must begin with redis://, redis\\+sentinel:// or redis\\+cluster://"),
        ("kafka+cluster://host", "it must begin with redis://"),
        ("redis+cluster://n1:7000,:7001", "an address has no host: write host:port,host:port"),
        ("redis+cluster://", "an address has no host"),
        ("redis+cluster://n1:seven", "'seven' is no port"),
        ("redis+cluster://n1:70000", "'70000' is no port"),
        ("redis+cluster://n1/3", "a cluster has only database 0: leave out '/3'"),
        ("redis+cluster://n1?timeout=3", "takes no options"),
        ("redis+sentinel://s1:26379", "the primary's name is missing"),
        ("redis+sentinel://s1/counters/x", "'x' is no database number"),
    ],
)
def test_a_wrong_url_is_one_sentence(url: str, why: str) -> None:
    with pytest.raises(UsageError, match=rf"REVIEWPULSE_REDIS=.* is no Redis URL: .*{why}"):
        connect(load(redis=url))
    with pytest.raises(UsageError, match=why):
        connect_async(load(redis=url))


def test_a_wrong_url_is_told_without_its_password() -> None:
    with pytest.raises(UsageError) as caught:
        connect(load(redis="redis+cluster://ops:hunter2@n1,n2:seven"))
    assert "redis+cluster://ops:***@n1,n2:seven" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_login_in_the_url_may_hold_any_sign() -> None:
    topology = Topology.of("rediss+sentinel://o%40ps:a%2Cb%2F%3A@s1,s2/counters")
    assert (topology.username, topology.password) == ("o@ps", "a,b/:")
    assert topology.addresses == [("s1", 26379), ("s2", 26379)]
    assert (topology.service, topology.db, topology.tls) == ("counters", 0, True)
    assert shown_url("rediss+sentinel://ops:x@s1,s2/counters") == "rediss+sentinel://ops:***@s1,s2/counters"


async def test_sentinels_have_a_password_of_their_own_and_are_not_waited_for_long() -> None:
    settings = load(
        redis="rediss+sentinel://ops@s1,s2:26380/counters/2",
        redis_password="hunter2",  # noqa: S106
        redis_sentinel_password="hunter3",  # noqa: S106
    )
    for client in (connect(settings), connect_async(settings)):
        pool = client.connection_pool  # type: ignore[union-attr]
        assert (pool.connection_kwargs["username"], pool.connection_kwargs["password"]) == ("ops", "hunter2")
        assert pool.connection_kwargs["db"] == 2
        assert pool.connection_kwargs["socket_timeout"] == 15
        sentinels = [each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels]
        assert [(each["host"], each["port"]) for each in sentinels] == [("s1", 26379), ("s2", 26380)]
        assert {(each.get("username"), each["password"]) for each in sentinels} == {(None, "hunter3")}
        assert {each["socket_timeout"] for each in sentinels} == {1}


async def test_a_clusters_client_does_not_repeat_itself() -> None:
    client = connect_async(load(redis=CLUSTER, redis_password="hunter2"))  # noqa: S106
    assert isinstance(client, redis.asyncio.RedisCluster)
    assert client.retry.get_retries() == 0
    assert [(node.host, node.port) for node in client.startup_nodes] == [("n1", 7000), ("n2", 7001)]
    assert client.connection_kwargs["password"] == "hunter2"  # noqa: S105


def test_certificates_need_tls_and_are_looked_at_before_anybody_connects(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for name in ("ca", "cert", "key"):
        setting = {f"redis_{name}_file": wrong}
        with pytest.raises(
            UsageError, match=rf"REDIS_{name.upper()}_FILE needs TLS: write rediss\+cluster://"
        ):
            redis_kwargs(load(redis=CLUSTER, **setting))
    over_tls = {"redis": "rediss+cluster://n1"}
    with pytest.raises(UsageError, match="KEY_FILE is set without REVIEWPULSE_REDIS_CERT_FILE"):
        redis_kwargs(load(redis_key_file=wrong, **over_tls))
    with pytest.raises(UsageError, match=f"REVIEWPULSE_REDIS_CA_FILE {wrong}: "):
        redis_kwargs(load(redis_ca_file=wrong, **over_tls))
    with pytest.raises(UsageError, match=f"REVIEWPULSE_REDIS_CERT_FILE {wrong} with .*KEY_FILE {wrong}: "):
        redis_kwargs(load(redis_cert_file=wrong, redis_key_file=wrong, **over_tls))


# What an error means.


def learning_failed(error: Exception) -> RedisClusterException:
    """As redis-py wraps what it met while it asked for the shape of a cluster."""
    try:
        try:
            raise error
        except ResponseError:
            raise RedisClusterException("Cluster mode is not enabled on this node")  # noqa: B904 - as redis-py
    except Exception as inner:  # noqa: BLE001
        outer = RedisClusterException(f"Redis Cluster cannot be connected: {inner}")
        outer.__cause__ = inner
        return outer


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Error 111 connecting to n1:7000. Connection refused."),
        MovedError("42 10.0.0.1:7001"),
        ClusterDownError("The cluster is down"),
        ResponseError("ERR Script attempted to access a non local key in a cluster node script: 1, on @user"),
        ResponseError("Attempted to access a non local key in a cluster node script: on @user_script:56."),
        learning_failed(ConnectionError("Error 111 connecting to n1:7000. Connection refused.")),
        RedisClusterException("All slots are not covered after query all startup_nodes."),
    ],
)
def test_what_passes_is_waited_for(error: Exception) -> None:
    told = failure(error, CLUSTER, at_start=True)
    assert isinstance(told, DependencyError)
    assert str(told).startswith("Redis at redis+cluster://n1:7000,n2:7001: ")


def test_a_refusal_is_a_wrong_setting_at_the_start_and_waited_for_later() -> None:
    for error in (
        AuthenticationError("invalid username-password pair"),
        learning_failed(AuthenticationError("invalid username-password pair")),
    ):
        assert isinstance(failure(error, CLUSTER, at_start=True), UsageError)
        assert isinstance(failure(error, CLUSTER), DependencyError)
        assert "refuses this user: the user or the password is wrong" in str(failure(error, CLUSTER))


def test_a_missing_permission_is_a_wrong_setting_at_any_time() -> None:
    for error in (
        NoPermissionError("this user has no permissions to run the 'eval' command"),
        learning_failed(NoPermissionError("no permissions to run the 'cluster|slots' command")),
    ):
        assert isinstance(failure(error, CLUSTER), UsageError)
        assert "Cluster mode is not enabled" not in str(failure(error, CLUSTER))


def test_a_server_of_another_kind_is_told_with_the_scheme_to_write() -> None:
    single = failure(MovedError("42 10.0.0.1:7001"), "redis://n1", at_start=True)
    assert str(single) == (
        "Redis at redis://n1 is a node of a cluster: write redis+cluster:// in REVIEWPULSE_REDIS."
    )
    disabled = learning_failed(ResponseError("This instance has cluster support disabled"))
    assert str(failure(disabled, CLUSTER, at_start=True)) == (
        "Redis at redis+cluster://n1:7000,n2:7001 is no cluster: write redis:// in REVIEWPULSE_REDIS."
    )


def test_what_is_ours_stays_what_it_is() -> None:
    ours = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
    assert failure(ours, CLUSTER, at_start=True) is ours


def test_a_full_server_is_waited_for_and_the_remedy_is_told() -> None:
    told = failure(OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "redis://r:1/0")
    assert isinstance(told, DependencyError)
    assert str(told) == (
        "Redis at redis://r:1/0 is full: raise its maxmemory, and never let it evict."
        " It said: command not allowed when used memory > 'maxmemory'."
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://ops:hun/ter2@cache:6379/0", "redis://***@cache:6379"),
        ("redis://ops:hun?ter2@cache:6379/0", "redis://***@cache:6379"),
        ("rediss+cluster://ops:hun#ter2@n1:7000,n2:7001", "rediss+cluster://***@n1:7000,n2:7001"),
        ("redis//ops:hunter2@cache", "***@cache"),
        ("redis:/ops:hunter2@cache", "redis://***@cache"),
        ("ops:hunter2@cache", "***@cache"),
    ],
)
def test_half_a_password_is_not_shown_either(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_what_is_said_of_a_wrong_url_repeats_no_piece_of_a_password() -> None:
    for url in ("redis://ops:hun/ter2@cache", "redis+cluster://ops:hun/ter2@cache"):
        with pytest.raises(UsageError) as caught:
            connect_async(load(redis=url))
        assert "hun" not in str(caught.value)
        assert "goes into REVIEWPULSE_REDIS_PASSWORD" in str(caught.value)
