"""The mean-pooled classifier: a BERT encoder, a pooled vector, one linear layer.

Rules:
- It is a transformers model of its own type, ``review-bert``: once this module is imported,
  ``AutoModelForSequenceClassification.from_pretrained`` reads its folders like any other checkpoint's.
- Pooling is the base model's own: sentence encoders (MiniLM, e5) were trained on the mean of their token
  vectors, which transformers' own BERT classifier does not offer.
- Columns of the logits are named by the configuration's ``id2label``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    BertPreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

if TYPE_CHECKING:
    from torch import Tensor

MODEL_TYPE = "review-bert"

Pooling = Literal["mean", "first"]


class ReviewBertConfig(BertConfig):
    """BERT's configuration, and how token vectors become one: ``mean`` or ``first``."""

    model_type = MODEL_TYPE
    pooling: str = "mean"


class ReviewClassifier(BertPreTrainedModel):
    """BERT with a linear layer over its pooled token vectors."""

    config_class = ReviewBertConfig
    # The loss below knows nothing of micro-batches: whoever accumulates gradients scales it.
    accepts_loss_kwargs = False

    def __init__(self, config: ReviewBertConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Logits, float32 (rows, labels), of int64 token ids and their mask (rows, columns).

        Args:
            input_ids: token ids.
            attention_mask: 1 for a token, 0 for padding; all ones by default.
            labels: columns, int64 (rows,), or probabilities, float32 (rows, labels); the output then has the
                mean cross-entropy as its ``loss``.
        """
        tokens = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.config.pooling == "first":
            pooled = tokens[:, 0]
        elif attention_mask is None:
            pooled = tokens.mean(dim=1)
        else:
            mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
            pooled = (tokens * mask).sum(dim=1) / mask.sum(dim=1)
        logits = self.classifier(self.dropout(pooled))
        loss = nn.functional.cross_entropy(logits, labels) if labels is not None else None
        return SequenceClassifierOutput(loss=loss, logits=logits)


AutoConfig.register(MODEL_TYPE, ReviewBertConfig, exist_ok=True)
AutoModelForSequenceClassification.register(ReviewBertConfig, ReviewClassifier, exist_ok=True)
