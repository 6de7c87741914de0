"""A bundle that says the contrary: what an export with its labels mixed up would be.

It is whole by its checksums and has the right shape, so nothing but what it says of live texts gives it away.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from stream.bundle import MANIFEST, MODEL, load_manifest, sha256
from stream.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Field numbers of onnx.proto.
GRAPH, INITIALIZER = 7, 5
DIMS, DATA_TYPE, RAW_DATA = 1, 2, 9
FLOAT = 1

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """A field of a Protocol Buffers message: a number, or the place of its bytes."""

    number: int
    value: int
    start: int
    end: int


def exchanged(bundle: Path, folder: Path) -> Path:
    """A copy of a two-label bundle that says negative where it says positive.

    Args:
        bundle: the good one.
        folder: where the copy goes.

    Raises:
        BundleError: it has another number of labels, or no last layer that is known here.
    """
    manifest = load_manifest(bundle)
    shutil.copytree(bundle, folder)
    model = folder / MODEL
    data = bytearray(model.read_bytes())
    places = [place for place in last_layer(bytes(data)) if len(manifest.labels) == 2]
    if not places:
        raise BundleError(f"{bundle} is no bundle of two labels whose last layer the drill can find.")
    for start, end in places:
        columns = np.frombuffer(data[start:end], np.float32).reshape(-1, 2)
        data[start:end] = np.ascontiguousarray(columns[:, ::-1]).tobytes()
    model.write_bytes(data)
    stated = msgspec.json.decode((folder / MANIFEST).read_bytes())
    stated["files"][MODEL] = sha256(model)
    stated["version"] = f"{manifest.version}-exchanged"
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(stated)))
    return folder


def last_layer(model: bytes) -> Iterator[tuple[int, int]]:
    """Where the float32 weights with two columns are, and their bias."""
    for graph in _fields(model, 0, len(model)):
        if graph.number == GRAPH:
            for tensor in _fields(model, graph.start, graph.end):
                if tensor.number == INITIALIZER and (place := _two_columns(model, tensor)):
                    yield place


def _two_columns(model: bytes, tensor: Field) -> tuple[int, int] | None:
    dims: list[int] = []
    data_type, place = 0, None
    for each in _fields(model, tensor.start, tensor.end):
        if each.number == DIMS:
            dims.append(each.value)
        elif each.number == DATA_TYPE:
            data_type = each.value
        elif each.number == RAW_DATA:
            place = each.start, each.end
    return place if dims[-1:] == [2] and data_type == FLOAT else None


def _fields(data: bytes, at: int, end: int) -> Iterator[Field]:
    """The fields of a message, by the wire format of Protocol Buffers."""
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield Field(number, value, at, at)
            continue
        if kind == LENGTH:
            size, at = _varint(data, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise BundleError("The model is no ONNX file that the drill can read.")
        yield Field(number, 0, at, at + size)
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value, at
