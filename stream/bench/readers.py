"""Other ways to read the same topic, doing nothing but count: what the pipeline is measured against.

Run as ``python -m stream.bench.readers KIND KAFKA TOPIC EVENTS``; prints one JSON object. Each is set up as
its documentation says a fast consumer is; none decodes, scores or stores anything.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from uuid import uuid4


class Stopwatch:
    """Wall and CPU time from the first batch seen to the last event wanted."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._first = 0
        self._seen = 0
        self._started = (0.0, 0.0)

    def saw(self, number: int) -> bool:
        """Counts events in; True, with the result printed, once all have come."""
        if not self._seen:
            self._first = number  # read before the clock started
            self._started = (time.perf_counter(), time.process_time())
        self._seen += number
        if self._seen < self._wanted:
            return False
        wall_s = time.perf_counter() - self._started[0]
        cpu_s = time.process_time() - self._started[1]
        timed = self._seen - self._first
        print(
            json.dumps({"events_per_s": timed / wall_s, "cpu_us_per_event": cpu_s / timed * 1e6}), flush=True
        )
        return True


def read_faust(kafka: str, topic: str, events: int) -> None:
    """A plain Faust agent on ``noack_take``, the fastest of Faust's own ways, on uvloop."""
    import faust
    import uvloop

    watch = Stopwatch(events)

    async def main() -> None:
        app = faust.App(
            f"bench-{uuid4().hex}",
            broker=f"kafka://{kafka}",
            consumer_auto_offset_reset="earliest",
            topic_disable_leader=True,
            topic_allow_declare=False,
            stream_wait_empty=False,
            broker_session_timeout=6.0,
            broker_heartbeat_interval=1.0,
            value_serializer="raw",
            datadir=tempfile.mkdtemp(),
        )
        app.conf.web_enabled = False
        done = asyncio.Event()

        @app.agent(app.topic(topic, value_serializer="raw"))  # type: ignore[untyped-decorator]
        async def count(stream: faust.Stream[bytes]) -> None:
            async for batch in stream.noack_take(1000, within=0.1):
                if watch.saw(len(batch)):
                    done.set()
                    return

        await app.start()
        await done.wait()
        os._exit(0)  # what stopping costs is not measured

    uvloop.run(main())


def read_aiokafka(kafka: str, topic: str, events: int) -> None:
    """Aiokafka's ``getmany`` on uvloop."""
    import uvloop
    from aiokafka import AIOKafkaConsumer

    watch = Stopwatch(events)

    async def main() -> None:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False
        )
        await consumer.start()
        while True:
            fetched = await consumer.getmany(timeout_ms=1000, max_records=1000)
            number = sum(map(len, fetched.values()))
            if number and watch.saw(number):
                break
        await consumer.stop()

    uvloop.run(main())


def read_kafka_python(kafka: str, topic: str, events: int) -> None:
    """kafka-python's ``poll``."""
    from kafka import KafkaConsumer

    watch = Stopwatch(events)
    consumer = KafkaConsumer(
        topic, bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False
    )
    while True:
        fetched = consumer.poll(timeout_ms=1000, max_records=1000)
        number = sum(map(len, fetched.values()))
        if number and watch.saw(number):
            break
    consumer.close()


READERS = {"faust": read_faust, "aiokafka": read_aiokafka, "kafka-python": read_kafka_python}

if __name__ == "__main__":
    READERS[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]))
