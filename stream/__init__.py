"""Reviewpulse: reviews and chats in through Kafka, live sentiment counters and alerts out.

The rooms follow the flow:

    transport   Kafka to Faust, a run of records at a time; seeks to what the store holds
    lanes       which run is next in each partition, and how far the store is
    pipeline    four overlapping stages: decode, score, judge, apply
    core/       the rules, pure: decode, batch, tally, buckets, spike
    scorer/     text to probabilities (ONNX), from a verified bundle
    record      a scored part to atomic steps
    store/      the atomic step in Redis: counters, detector states, ledger, outbox, offset
    publish     dead letters, scores, alerts
    worker      the Faust app that holds them together
    client/     what producers, readers and alert subscribers import
    cli/        the `reviewpulse` command; local, topics, ingest, replay, doctor, demo/ and bench/ behind it
"""

__version__ = "0.1.0"
