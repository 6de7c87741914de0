"""What a network's linear layers see on real texts, and their weights rounded for it: ``round_network``.

Rules:
- Seen are calibration texts, as serving would tokenise them, never those that the parity gate compares on:
  the caller sees to that (``export/cli.py``).
- Padding is not looked at. Of each layer's inputs the sum of x^T x and the largest absolute value of each
  channel are kept; the rows themselves stream by.
- A value's bias reaches the output layer of the attention as the same constant for every token. The graph
  adds it afterwards (``export/int8_graph.py``), so the layer is calibrated on inputs without it.
- The products whose activations' rounding moves scores most, for what they cost, are made fine
  (``export/int8_graph.py``); which they are is found on calibration texts, too.
- Known of mean-pooled BERTs (``review-bert``), whose graph ``recast`` recognises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from export.int8_graph import FINER, LEAST_SCALE, MIDDLE, Product, of_offset
from export.rounding import SHIFTED_STEPS, STEPS, gptq, offset_of, shift_of, smoothing
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer


TEXTS = 1_200
"""Calibration texts that are enough: some 50,000 tokens for Hessians of 1,536 x 1,536."""

JUDGED_TEXTS = 128
"""Of them, those on which the products are compared with one another."""

FINE_SHARE = 0.05
"""Of the linear layers' multiplications, done twice. More of them come nearer to the checkpoint; at 0.25,
CTranslate2's int8 is the faster one (docs/decisions/0016-scorer.md)."""

TOKENS = 2_048
"""Padded tokens of a batch; where gradients are kept, a quarter of them."""

QUERY, KEY, VALUE = (f"attention.self.{each}" for each in ("query", "key", "value"))
OUT, INNER, LAST = "attention.output.dense", "intermediate.dense", "output.dense"
GROUPS = ((QUERY, KEY, VALUE), (OUT,), (INNER,), (LAST,))
"""Of a layer: products of the same inputs, which are rounded once."""


class Seen(NamedTuple):
    """What came into a layer on the calibration texts."""

    hessian: NDArray[np.float32]
    """(inputs, inputs): the sum of x^T x."""
    largest: NDArray[np.float32]
    """(inputs,): of the absolute values."""


def round_network(
    network: Any,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    at_most: int = TEXTS,
    fine_share: float = FINE_SHARE,
) -> dict[str, Product]:
    """The linear layers of the encoder, rounded for what they see on ``texts``.

    Args:
        network: a mean-pooled BERT in evaluation mode, float32.
        tokenizer: its tokenizer, cutting where serving will.
        texts: to calibrate on.
        at_most: so many of them are read, spread over all.
        fine_share: of the layers' work, how much is done twice, finely: that of the layers that gain most.

    Returns:
        Products by module.

    Raises:
        UsageError: there are no texts, or the network is of another kind.
    """
    if not texts:
        raise UsageError("There are no texts to calibrate on; name some with --calibrate.")
    modules = modules_of(network)
    some = list(texts)[:: -(-len(texts) // at_most)]
    seen = observe(network, tokenizer, some, modules)
    made: dict[str, Product] = {}
    for names in modules:
        made |= _round(names, [_weight(network, name) for name in names], seen[names[0]])
    some = list(texts)[:: -(-len(texts) // JUDGED_TEXTS)]
    fine = worst(sensitivities(network, tokenizer, some, made), made, fine_share) if fine_share else []
    return {name: product._replace(fine=name in fine) for name, product in made.items()}


def modules_of(network: Any) -> list[tuple[str, ...]]:
    """The linear layers of the encoder, those of the same inputs together.

    Raises:
        UsageError: the network is not a mean-pooled BERT.
    """
    if getattr(network.config, "pooling", "") != "mean" or network.config.hidden_act != "gelu":
        raise UsageError(
            "Mean-pooled BERTs with GELU, as `reviewpulse train` makes them, can be computed in int8, and "
            f"this checkpoint is a {network.config.model_type}; export it with --compute float32."
        )
    return [
        tuple(f"bert.encoder.layer.{layer}.{name}" for name in group)
        for layer in range(network.config.num_hidden_layers)
        for group in GROUPS
    ]


def observe(
    network: Any, tokenizer: Tokenizer, texts: Sequence[str], modules: Sequence[tuple[str, ...]]
) -> dict[str, Seen]:
    """What comes into the first layer of each group while the network reads ``texts``."""
    import torch

    encoded = sorted((each.ids for each in tokenizer.encode_batch_fast(list(texts))), key=len)
    batches = list(_batches(encoded))
    watching = [_Watch(network, names[0]) for names in modules]
    try:
        for batch in batches:
            tensors = _tensors(network, batch)
            for watch in watching:
                watch.mask = tensors["attention_mask"].bool()
            with torch.inference_mode():
                network(**tensors)
    finally:
        for watch in watching:
            watch.hook.remove()
    return {watch.name: watch.seen() for watch in watching}


def _batches(encoded: Sequence[list[int]], tokens: int = TOKENS) -> Iterator[list[list[int]]]:
    """Texts of rising length, so many at once that they make at most so many padded tokens."""
    batch: list[list[int]] = []
    for ids in encoded:
        if batch and (len(batch) + 1) * len(ids) > tokens:
            yield batch
            batch = []
        batch.append(ids)
    if batch:
        yield batch


def _tensors(network: Any, batch: Sequence[list[int]]) -> dict[str, Any]:
    import torch

    ids = np.full((len(batch), max(map(len, batch))), int(network.config.pad_token_id or 0), np.int64)
    mask = np.zeros_like(ids)
    for row, its in enumerate(batch):
        ids[row, : len(its)] = its
        mask[row, : len(its)] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


class _Watch:
    """Gathers what comes into one layer."""

    def __init__(self, network: Any, name: str) -> None:
        self.name = name
        self.mask: Any = None
        self.hook = network.get_submodule(name).register_forward_pre_hook(self._look)
        self._constant: Any = 0
        if name.endswith(f".{OUT}"):
            self._constant = network.get_submodule(name.replace(OUT, VALUE)).bias.detach()
        self._hessian: Any = 0
        self._largest: Any = None

    def _look(self, _: Any, inputs: tuple[Any, ...]) -> None:
        import torch

        rows = (inputs[0] - self._constant)[self.mask]
        self._hessian = self._hessian + rows.T @ rows
        largest = rows.abs().amax(0)
        self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)

    def seen(self) -> Seen:
        return Seen(self._hessian.numpy(), self._largest.numpy())


def _weight(network: Any, name: str) -> NDArray[np.float32]:
    """(inputs, outputs)."""
    weight: NDArray[np.float32] = network.get_submodule(name).weight.detach().numpy().T
    return weight


def _round(names: Sequence[str], weights: Sequence[NDArray[np.float32]], seen: Seen) -> dict[str, Product]:
    """Products of the same inputs."""
    is_gelu = names[0].endswith(LAST) and not names[0].endswith(OUT)
    # What attention and a GELU give is smooth enough, and a pass over it costs.
    smooth = smoothing(seen.largest, *weights) if names[0].endswith((QUERY, INNER)) else None
    divided = np.ones(len(weights[0]), np.float32) if smooth is None else smooth
    hessian = seen.hessian / np.outer(divided, divided).astype(np.float64)
    offset = offset_of(float(seen.largest.max())) if is_gelu else None
    return {
        name: Product(gptq(weight * divided[:, None], hessian), smooth, offset)
        for name, weight in zip(names, weights, strict=True)
    }


def rounded_rows(rows: NDArray[np.float32], product: Product) -> NDArray[np.float32]:
    """What the graph computes of ``rows`` (n, inputs) in place of their product: (n, outputs).

    The integers are exact; what is multiplied after them is float32.
    """
    weight, columns = product.rounded
    if product.smoothing is not None:
        rows = (rows * (1 / product.smoothing)).astype(np.float32)
    if product.offset is None:
        scales = np.maximum(np.abs(rows).max(axis=1) / np.float32(STEPS), np.float32(LEAST_SCALE))
        steps = np.clip(np.rint(rows / scales[:, None]), -MIDDLE, MIDDLE - 1)
        zeros = np.zeros_like(scales)
    else:
        zeros, scales = shift_of(rows.max(axis=1), product.offset)
        steps = np.clip(np.rint(rows / scales[:, None]) + zeros[:, None], 0, SHIFTED_STEPS)
    # Products of steps are whole numbers below 2^53, sums of thousands, too: float64 has them exactly.
    sums = steps.astype(np.float64) @ weight.astype(np.float64)
    if product.fine:
        left = (rows - (steps - zeros[:, None]) * scales[:, None]) / (scales[:, None] / FINER)
        sums += np.clip(np.rint(left), -MIDDLE, MIDDLE - 1) @ weight.astype(np.float64) / FINER
    made: NDArray[np.float32] = (sums * columns * scales[:, None]).astype(np.float32)
    return made if product.offset is None else made - of_offset(product)


def sensitivities(
    network: Any, tokenizer: Tokenizer, texts: Sequence[str], products: Mapping[str, Product]
) -> dict[str, float]:
    """How much rounding one product's activations moves the margin of a text: the mean square, by module.

    To first order: the error in the product's outputs, times the gradient of the margin (of the
    likeliest label's logit over the second's) for them. One pass over the texts says it of all products.
    """
    import torch

    moved: dict[str, list[Any]] = {name: [] for name in products}
    # The weight's own rounding stays however fine the activations are, so it is in both that are compared.
    read = {name: torch.from_numpy(_meant(product).T.copy()) for name, product in products.items()}

    def watch(name: str) -> Any:
        def look(_: Any, inputs: tuple[Any, ...], out: Any) -> None:
            rows = inputs[0].detach()
            if name.endswith(f".{OUT}"):
                rows = rows - network.get_submodule(name.replace(OUT, VALUE)).bias.detach()
            flat = rows.reshape(-1, rows.shape[-1]).numpy()
            said = torch.from_numpy(rounded_rows(flat, products[name]))
            error = said.reshape(out.shape) - rows @ read[name].T
            if not out.requires_grad:
                out.requires_grad_()
            out.register_hook(lambda gradient: moved[name].append((gradient * error).sum((1, 2)).numpy()))

        return network.get_submodule(name).register_forward_hook(look)

    hooks = [watch(name) for name in products]
    encoded = sorted((each.ids for each in tokenizer.encode_batch_fast(list(texts))), key=len)
    try:
        for batch in _batches(encoded, TOKENS // 4):
            with torch.enable_grad():
                first, second = network(**_tensors(network, batch)).logits.topk(2, dim=1).values.T
                (first - second).sum().backward()
            network.zero_grad(set_to_none=True)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: float(np.square(np.concatenate(its)).mean()) for name, its in moved.items()}


def _meant(product: Product) -> NDArray[np.float32]:
    """The weight (inputs, outputs) that a product has, of inputs that are not divided."""
    if product.smoothing is None:
        return product.rounded.weight
    return product.rounded.weight / product.smoothing[:, None]


def worst(errors: Mapping[str, float], products: Mapping[str, Product], share: float) -> list[str]:
    """The products that move the margin most for what they cost, together at most ``share`` of the work."""
    work = {name: products[name].rounded.steps.size for name in errors}
    left, chosen = share * sum(work.values()), []
    for name in sorted(errors, key=lambda name: errors[name] / work[name], reverse=True):
        if work[name] <= left:
            chosen.append(name)
            left -= work[name]
    return chosen
