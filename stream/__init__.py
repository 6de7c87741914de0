"""Reviewpulse: reviews and chats in through Kafka, live sentiment counters and alerts out.

Read top to bottom, the rooms follow the flow:

    core/       the rules, pure: decode, batch, tally, judge
    scorer/     text to probabilities (ONNX)
    store/      the one atomic step: counters, detector state, offsets, outbox (Redis)
    transport   Kafka to Faust, a run of records at a time; sink-owned offsets
    pipeline    decode -> batch -> score -> record -> publish, overlapped and in order
    worker      the Faust app that holds them together
    client/     what producers, readers and alert subscribers import
    cli/        the `reviewpulse` command
"""

__version__ = "0.1.0"
