"""A bundle's model on ONNX Runtime.

Rules:
- A score depends on its text and the model alone. Rows are padded on the right to the longest of their
  batch and masked; what the batch adds is float32 rounding, below 1e-5 in a probability (tested).
- ``encode`` and ``score`` may run at the same time, and ``score`` on several threads: they share no state.
- On CPUs each micro-batch runs on one thread, and as many run at once as there are cores (``lanes``).
  Within one run, threads meet after every operator, and whoever comes first waits or spins; lanes meet at a
  window's end.
- The provider that was asked for is the one in use, or loading fails (``providers.py``).
- On a GPU two micro-batches are under way: one is padded and copied while the other is computed (``gpu.py``).
- A bundle that computes in int8 is loaded where its products are exact (``integers.py``), and on the CPU
  alone: the CUDA provider has none of them.
- Probabilities are calibrated: logits over the bundle's temperature, then a softmax in float32.

What a lone text loses by one thread, it loses only while the machine is idle.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from stream.bundle import MODEL, TOKENIZER, Manifest
from stream.errors import BundleError
from stream.scorer.buckets import most_rows, rounding
from stream.scorer.contract import Lanes
from stream.scorer.gpu import AT_ONCE, GpuRunner
from stream.scorer.providers import CPU, TENSORRT, Place, open_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stream.core.reference import Reference
    from stream.scorer.providers import Provider

BATCH_COST = 24
"""Tokens that take as long as a micro-batch does whatever is in it: it reads all weights once and calls
some 300 operators, 8 ms of the shipped model where a token takes a third of one."""

GPU_BATCH_COST = 512
"""The same on a GPU: a launch, two copies, a hand-over. An estimate, to be fitted where there is one."""

GPU_LEAST_SHARE = 8_192
"""Tokens below which a batch is not split so that there are two: a GPU is not filled by less."""

NEUTRAL = 1
"""Columns of ``stream.core.events.LABELS``: negative 0, neutral 1, positive 2."""


class Tokens(NamedTuple):
    """Token ids of n texts, end to end."""

    ids: NDArray[np.int64]
    starts: NDArray[np.intp]
    lengths: NDArray[np.int32]


class OnnxScorer:
    """Scores texts with the model of a verified bundle.

    Args:
        path: the bundle's folder.
        manifest: what ``stream.bundle.verify`` returned for it.
        provider: ``cpu``; ``cuda`` or ``tensorrt``, or fail; or ``auto``: CUDA where it works, else CPU.
        threads: micro-batches scored at once on the CPU, each on one thread; 0: one for each core.
        device_id: the GPU, where there are several.
        cuda_graphs: whether the runs of shapes that repeat are captured, on CUDA.
        engines: folder in which TensorRT keeps its engines.
        token_budget: most padded tokens a batch will have, for TensorRT.

    Raises:
        BundleError: the files do not make a model of the kind a bundle holds.
        DependencyError: a provider was demanded and cannot be used, or the bundle computes in int8 and this
            machine does not, exactly.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        *,
        provider: Provider = "auto",
        threads: int = 0,
        device_id: int = 0,
        cuda_graphs: bool = True,
        engines: Path | None = None,
        token_budget: int = 16_384,
    ) -> None:
        self._manifest = manifest
        self._tokenizer = _load_tokenizer(path, manifest)
        self._unknown_id = _unknown_id(self._tokenizer)
        place = Place(provider, device_id, cuda_graphs and not manifest.is_packed, engines, token_budget)
        opened = partial(
            open_session, path, computes_int8=manifest.computes_int8, half=manifest.computes_half
        )
        self._session = session = opened(place)
        self._gpu: GpuRunner | None = None
        on_cpu = self.provider == CPU
        self.lanes = (
            Lanes(threads or usable_cores(), BATCH_COST)
            if on_cpu
            else Lanes(AT_ONCE, GPU_BATCH_COST, GPU_LEAST_SHARE, rounding(manifest.max_length))
        )
        self._inputs = [each.name for each in session.get_inputs()]
        unknown = set(self._inputs) - {"input_ids", "attention_mask", "token_type_ids"}
        if unknown or "input_ids" not in self._inputs:
            raise BundleError(f"{path / MODEL} takes {self._inputs}; that is not a BERT classifier's input.")
        columns = session.get_outputs()[0].shape[-1]
        if columns != len(manifest.labels):
            raise BundleError(
                f"{path / MODEL} gives {columns} columns and the manifest has {len(manifest.labels)} labels."
            )
        if not on_cpu:
            self._session = None  # the runner may have to exchange it
            self._gpu = GpuRunner(
                session,
                device_id,
                manifest.pad_id,
                columns,
                plain=partial(opened, place._replace(cuda_graphs=False)),
                most_rows=most_rows(token_budget) if session.get_providers()[0] == TENSORRT else None,
            )
        self._check_vocabulary(path)

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self._manifest.version

    @property
    def provider(self) -> str:
        """The execution provider really in use."""
        return self._gpu.provider if self._gpu else str(self._session.get_providers()[0])

    @property
    def graphs(self) -> int:
        """CUDA graphs captured so far; 0 where there are none."""
        return self._gpu.graphs if self._gpu else 0

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self._manifest

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Token ids of ``texts``, special tokens included, at most the bundle's ``max_length``."""
        most, tail = self._manifest.max_length, self._manifest.tail_tokens
        encodings = [
            head_and_tail(each.ids, most, tail) for each in self._tokenizer.encode_batch_fast(list(texts))
        ]
        lengths = np.fromiter(map(len, encodings), np.int32, len(encodings))
        starts = np.zeros(len(encodings), np.intp)
        np.cumsum(lengths[:-1], out=starts[1:])
        ids = np.fromiter(chain.from_iterable(encodings), np.int64, int(lengths.sum()))
        return Tokens(ids, starts, lengths)

    def unknown_tokens(self, encoded: Tokens) -> NDArray[np.int64] | None:
        """How many tokens of each text stand for what the vocabulary does not have, shape (n,)."""
        if self._unknown_id is None:
            return None
        before = np.concatenate(([0], np.cumsum(encoded.ids == self._unknown_id)))
        found: NDArray[np.int64] = before[encoded.starts + encoded.lengths] - before[encoded.starts]
        return found

    @property
    def reference(self) -> Reference | None:
        """What the texts of the bundle's export looked like, where its manifest says."""
        return self._manifest.reference

    def score(self, encoded: Tokens, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Calibrated probabilities of the texts at ``rows``, one padded batch, shape (len(rows), 3).

        Rows [5, 6] and [7, 8, 9] run as ids [[5, 6, 0], [7, 8, 9]] and mask [[1, 1, 0], [1, 1, 1]].
        """
        if not len(rows):
            return np.empty((0, 3), np.float32)
        return self.probabilities(self.logits(encoded, rows))

    def logits(self, encoded: Tokens, rows: NDArray[np.intp], width: int = 0) -> NDArray[np.float32]:
        """What the model itself says of the texts at ``rows``, at least one, shape (len(rows), labels).

        They are padded to the longest of them, and to ``width`` at least.
        """
        lengths = encoded.lengths[rows]
        columns = np.arange(max(int(lengths.max()), width))
        mask = columns < lengths[:, None]
        places = np.where(mask, encoded.starts[rows][:, None] + columns, 0)
        ids = np.where(mask, encoded.ids[places], self._manifest.pad_id)
        return self._run(ids, mask.astype(np.int64))

    def label(self, probabilities: NDArray[np.float32]) -> NDArray[np.int8]:
        """Index into ``LABELS`` of each row, shape (n,): the likeliest.

        A two-label model is undecided, hence neutral, where both are nearly as likely.
        """
        labels: NDArray[np.int8] = probabilities.argmax(axis=1).astype(np.int8)
        if len(self._manifest.labels) == 2:
            margin = np.abs(probabilities[:, 2] - probabilities[:, 0])
            labels[margin < self._manifest.neutral_band] = NEUTRAL
        return labels

    def warm_up(self, token_budget: int) -> None:
        """Runs the largest batch first, then a small one, so that memory is sized once.

        On a GPU, a full one of each length, the longest first.

        Args:
            token_budget: most padded tokens a batch will have.
        """
        longest = self._manifest.max_length
        if self._gpu:
            self._gpu.warm_up(token_budget, longest)
            return
        for shape in ((max(token_budget // longest, 1), longest), (1, 8)):
            ids = np.full(shape, self._manifest.pad_id, np.int64)
            self._run(ids, np.ones(shape, np.int64))

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated probabilities, shape (n, 3), of logits of shape (n, labels)."""
        scaled = logits / np.float32(self._manifest.temperature)
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        shares: NDArray[np.float32] = exponentials / exponentials.sum(axis=1, keepdims=True)
        if len(self._manifest.labels) == 3:
            return shares
        probabilities = np.zeros((len(shares), 3), np.float32)
        probabilities[:, ::2] = shares
        return probabilities

    def _check_vocabulary(self, path: Path) -> None:
        """That the model takes the tokenizer's highest id; a text with it would be a dead letter else.

        CUDA reads zeros beyond an embedding's end and says nothing: there, export has seen to it.
        """
        highest = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        ids = np.array([[highest]], np.int64)
        try:
            self._run(ids, np.ones_like(ids))
        except Exception:  # noqa: BLE001  # its errors have no common base below Exception
            try:
                self._run(np.zeros_like(ids), np.ones_like(ids))
            except Exception as error:  # noqa: BLE001
                raise BundleError(f"{path / MODEL} does not run: {error}") from None
            raise BundleError(
                f"{path / TOKENIZER} does not match {MODEL}: the model does not know its id {highest:,};"
                " export the bundle anew, with the tokenizer that the model was trained with."
            ) from None

    def _run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        if self._gpu:
            return self._gpu.run(ids, mask)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        [logits] = self._session.run(None, {name: feeds[name] for name in self._inputs})
        return np.asarray(logits, np.float32)


def _load_tokenizer(path: Path, manifest: Manifest) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path / TOKENIZER))
    except Exception as error:  # noqa: BLE001  # the library raises nothing narrower
        raise BundleError(
            f"{path / TOKENIZER} is not a tokenizer: {error}; export the bundle anew."
        ) from None
    tokenizer.no_padding()
    if manifest.tail_tokens:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(manifest.max_length)
    try:
        tokenizer.encode_batch_fast(["It broke.", ""])
    except BaseException as error:  # a panic of the library's is no Exception: it would end the worker
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise BundleError(f"{path / TOKENIZER} takes no text: {error}; export the bundle anew.") from None
    return tokenizer


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id of what the vocabulary does not have; None for one that has every byte.

    >>> from tokenizers import models
    >>> _unknown_id(Tokenizer(models.WordPiece({"[UNK]": 1, "a": 2}, unk_token="[UNK]")))
    1
    """
    found = (tokenizer.token_to_id(token) for token in ("[UNK]", "<unk>"))
    return next((each for each in found if each is not None), None)


def head_and_tail(ids: list[int], most: int, tail: int) -> list[int]:
    """The first of a text's tokens and its last ``tail``, ``most`` in all.

    >>> head_and_tail([0, 11, 12, 13, 14, 15, 2], most=5, tail=2)
    [0, 11, 12, 15, 2]
    >>> head_and_tail([0, 11, 2], most=5, tail=2)
    [0, 11, 2]
    """
    if len(ids) <= most:
        return ids
    return ids[: most - tail] + ids[len(ids) - tail :]


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
