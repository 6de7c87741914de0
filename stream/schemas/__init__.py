"""The topics' values as JSON Schemas (2020-12), for producers and subscribers in any language.

``python -m stream.schemas`` writes them anew from ``stream.core.events``; a test holds them up to date.
"""

from __future__ import annotations

import json
from pathlib import Path

from stream.core.events import json_schemas

FOLDER = Path(__file__).parent


def written() -> dict[str, str]:
    """The text of each schema file, by file name, as it must be."""
    return {
        f"{topic}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for topic, schema in json_schemas().items()
    }
