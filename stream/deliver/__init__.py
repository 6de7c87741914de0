"""The room of ``reviewpulse notify``: alerts and notifications out to webhooks, chats, mail, Alertmanager.

``config`` reads the file, ``intake`` fills a queue for each target in Redis (``queue``), ``courier`` empties
them through a sender of the target's kind (``webhook``, ``chat``, ``alertmanager``, ``mail``), ``service``
holds them together. What is sent next and when, and who is told of what, is decided in ``stream.core``
(``delivery``, ``routing``).
"""
