"""What evaluation, comparison, calibration and distillation ask: logits of texts, whoever gives them.

Rules:
- Columns are in the order of ``labels``, which is one of ``stream.bundle.LABEL_SETS``.
- Texts come as serving would score them; truncation and padding are the classifier's own.
- Batches are cut by padded tokens of texts sorted by length, as in serving.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np

from models.checkpoint import CONFIG, RECORD, label_columns, load_checkpoint, read_record
from stream import bundle
from stream.core.batch import cut
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from stream.core.events import Label
    from stream.scorer.onnx import OnnxScorer

TOKEN_BUDGET = {"cpu": 4096, "cuda": 65_536}
"""Padded tokens of a batch."""

MAX_LENGTH = 512
"""Tokens read of a text where a checkpoint's record does not say."""


class Classifier(Protocol):
    """A checkpoint, a bundle or a baseline."""

    name: str
    """For people and reports."""
    labels: tuple[Label, ...]
    temperature: float
    """That its logits are divided by; 1 when it was not calibrated."""
    neutral_band: float
    """Two labels nearer to each other than this mean neutral; 0 when there is no band, or three labels."""

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits before the temperature, float32 (n, labels)."""


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities, float64 (n, labels).

    >>> softmax(np.array([[0.0, 0.0]], np.float32)).tolist()
    [[0.5, 0.5]]
    """
    scaled = logits.astype(np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return shares


def probabilities(classifier: Classifier, texts: Sequence[str]) -> NDArray[np.float64]:
    """Calibrated probabilities, float64 (n, labels)."""
    return softmax(classifier.logits(texts), classifier.temperature)


def open_classifier(path: Path) -> Classifier:
    """The classifier that a folder holds: a checkpoint (on a GPU where there is one) or a bundle.

    A bundle is read, verified and run as serving does it.

    Raises:
        UsageError: the folder is neither, or cannot be read.
    """
    if (path / bundle.MANIFEST).is_file():
        from stream.scorer.onnx import OnnxScorer

        return BundleClassifier(OnnxScorer(path, bundle.verify(path), provider="cpu"))
    if (path / CONFIG).is_file():
        return _open_checkpoint(path)
    missing = "there is no such folder" if not path.is_dir() else f"it has no {CONFIG}"
    raise UsageError(
        f"{path} is neither a checkpoint nor a bundle: {missing} and no {bundle.MANIFEST}; "
        "`reviewpulse train` writes the one, `reviewpulse export` the other."
    )


class NetworkClassifier:
    """A network of PyTorch and its tokenizer.

    Args:
        network: anything that gives logits (or an output that has them) of token ids and their mask.
        tokenizer: cutting where the network ends.
        labels: in our order.
        columns: the network's column of each label; by default they are in our order.
        token_budget: padded tokens of a batch; by default what suits the network's device.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Tokenizer,
        labels: tuple[Label, ...],
        *,
        name: str = "",
        temperature: float = 1.0,
        neutral_band: float = 0.0,
        columns: Sequence[int] | None = None,
        token_budget: int | None = None,
    ) -> None:
        self.name, self.labels = name, labels
        self.temperature, self.neutral_band = temperature, neutral_band
        self._network, self._tokenizer = network, tokenizer
        self._columns = list(columns if columns is not None else range(len(labels)))
        self._token_budget = token_budget

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits before the temperature, float32 (n, labels)."""
        import torch

        self._network.eval()
        encoded = [each.ids for each in self._tokenizer.encode_batch_fast(list(texts))]
        pad_id = int(self._network.config.pad_token_id or 0)
        device = next(self._network.parameters()).device

        def run(rows: NDArray[np.intp]) -> NDArray[np.float32]:
            longest = max(1, *(len(encoded[row]) for row in rows))
            ids = np.full((len(rows), longest), pad_id, np.int64)
            mask = np.zeros((len(rows), longest), np.int64)
            for at, row in enumerate(rows):
                ids[at, : len(encoded[row])] = encoded[row]
                mask[at, : len(encoded[row])] = 1
            output = self._network(
                input_ids=torch.from_numpy(ids).to(device), attention_mask=torch.from_numpy(mask).to(device)
            )
            said = getattr(output, "logits", output).float().cpu().numpy()
            return np.asarray(said[:, self._columns], np.float32)

        with torch.inference_mode():
            budget = self._token_budget or TOKEN_BUDGET[device.type]
            return _in_batches(run, [len(ids) for ids in encoded], len(self.labels), budget)


class BundleClassifier:
    """A bundle on ONNX Runtime, through serving's own scorer."""

    def __init__(self, scorer: OnnxScorer) -> None:
        self._scorer = scorer
        self.name = scorer.version
        self.labels = scorer.manifest.labels
        self.temperature, self.neutral_band = scorer.manifest.temperature, scorer.manifest.neutral_band

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits before the temperature, float32 (n, labels)."""
        encoded = self._scorer.encode(texts)
        return _in_batches(
            lambda rows: self._scorer.logits(encoded, rows),
            encoded.lengths,
            len(self.labels),
            TOKEN_BUDGET["cpu"],
            lanes=self._scorer.lanes.at_once,
        )


def _in_batches(
    run: Callable[[NDArray[np.intp]], NDArray[np.float32]],
    lengths: Sequence[int] | NDArray[np.int32],
    labels: int,
    token_budget: int,
    lanes: int = 1,
) -> NDArray[np.float32]:
    logits = np.empty((len(lengths), labels), np.float32)

    def keep(rows: NDArray[np.intp]) -> None:
        logits[rows] = run(rows)

    batches = cut(np.asarray(lengths, np.int32), token_budget)
    if lanes == 1:  # here: PyTorch's inference mode is of a thread
        for rows in batches:
            keep(rows)
    else:
        with ThreadPoolExecutor(lanes) as pool:
            for done in [pool.submit(keep, rows) for rows in batches]:
                done.result()
    return logits


def _open_checkpoint(path: Path) -> NetworkClassifier:
    import torch

    labels, columns = label_columns(path)
    record = read_record(path) if (path / RECORD).is_file() else None
    network, tokenizer = load_checkpoint(path, record.max_length if record else MAX_LENGTH)
    if not record:
        positions = int(getattr(network.config, "max_position_embeddings", MAX_LENGTH))
        tokenizer.enable_truncation(min(positions, MAX_LENGTH))
    if torch.cuda.is_available():
        network.to("cuda")
    return NetworkClassifier(
        network,
        tokenizer,
        labels,
        name=record.name if record else path.resolve().name,
        temperature=record.temperature if record else 1.0,
        neutral_band=record.neutral_band if record and len(labels) == 2 else 0.0,
        columns=columns,
    )
