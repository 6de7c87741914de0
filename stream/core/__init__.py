"""The rules, pure: no I/O, no clock (``now`` is an argument), no asyncio."""
