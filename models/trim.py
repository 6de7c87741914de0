"""Drops the vocabulary entries that a corpus does not use: half of a small BERT, most of a multilingual one.

Two kinds of tokenizer: WordPiece (BERT, MiniLM) and Unigram (XLM-R, multilingual e5: pieces of words, each
with a log-probability).

Rules:
- The corpus' tokenisation does not change. WordPiece takes the longest entry that fits, Unigram the likeliest
  sequence of entries; what was best stays when only others go, and none is added. Of Unigram entries the
  unlikeliest and every character of the corpus stay as well, for they set when a character is unknown.
- Any text of the corpus' scripts can still be spelled. WordPiece: every single character and continuation
  (``##``) stays. Unigram: every single character of a script that the corpus is written in, or of none
  (digits, punctuation, emoji).
- Then entries up to the limit, the likeliest ones of the corpus' languages first. WordPiece: whole words in
  the order of their ids (BERT's vocabulary is by falling frequency); ``[unused]`` ones never. Unigram: see
  ``likeness``.
- Rows of the embedding go with their entries; nothing else of the network changes, hence no logit of a text
  that is tokenised as before.
"""

from __future__ import annotations

import json
import math
import shutil
import unicodedata
from collections import Counter, defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from tokenizers import Tokenizer

from models.checkpoint import CONFIG, RECORD, TOKENIZER, WEIGHTS
from models.provenance import Provenance, of_folder, write
from models.writing import fresh_folder
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path


SPACE = "▁"
"""Stands for the space before a word in Unigram entries."""

SCRIPT_SHARE = 0.001
"""Least share of the corpus' letters for a script to be one that the corpus is written in."""


class TrimOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of `reviewpulse trim`."""

    checkpoint: str = ""
    """Folder of a checkpoint, or name of a base of ``models.bases``."""
    texts: tuple[str, ...] = ()
    """Prepared sets, of which the test split is left alone, tables or a text a line."""
    column: str = "text"
    """Of tables."""
    out: str = ""
    entries: int = 0
    """How many to keep; 0 for those that are needed."""
    words: str = ""
    """A WordPiece tokenizer of the wanted language (its file, a checkpoint's folder or a base's name): its
    words are kept first in a Unigram vocabulary."""


class Trimmed(NamedTuple):
    """What trimming a checkpoint did."""

    path: str
    texts: int
    """Of the corpus: all are tokenised as before."""
    tokens: int
    """Theirs."""
    used: int
    """Entries that they use."""
    entries: tuple[int, int]
    """Before and after; so are the next two."""
    weight_bytes: tuple[int, int]
    tokenizer_bytes: tuple[int, int]


def trim_checkpoint(
    source: Path,
    texts: Sequence[str],
    out: Path,
    *,
    entries: int = 0,
    words: Tokenizer | None = None,
    made_of: Provenance | None = None,
) -> Trimmed:
    """Writes the checkpoint or base ``source`` to ``out`` with the entries alone that ``texts`` need.

    Args:
        source: folder with config.json, model.safetensors and tokenizer.json.
        texts: the corpus, as serving would score it.
        out: folder to write; a checkpoint that is there is replaced.
        entries: how many to keep; exceeded where the corpus and its characters need more.
        words: as ``kept_ids`` takes it.
        made_of: what ``source`` is; by default what its folder says.

    Raises:
        UsageError: ``source`` is no checkpoint with a vocabulary of those kinds, or the corpus is empty.
    """
    if not texts:
        raise UsageError("There are no texts to trim for; name files of texts with --texts.")
    if out.exists() and not ((out / CONFIG).is_file() and (out / WEIGHTS).is_file()):
        raise UsageError(f"{out} exists and is not a checkpoint; name another folder with --out.")
    tokenizer = read_tokenizer(source / TOKENIZER)
    encoded = [each.ids for each in tokenizer.encode_batch_fast(list(texts))]
    keep = kept_ids(tokenizer, texts, entries, words=words)
    trimmed = trim_tokenizer(tokenizer, keep)
    _check_lossless(encoded, trimmed, keep, texts)
    with fresh_folder(out) as fresh:
        _trim_weights(source, fresh, keep)
        (fresh / TOKENIZER).write_text(compact(trimmed), encoding="utf-8")
        if (source / RECORD).is_file():
            shutil.copyfile(source / RECORD, fresh / RECORD)
        else:
            known = made_of or of_folder(source)
            name = f"{known.name}, its vocabulary trimmed to {len(keep):,} entries"
            write(msgspec.structs.replace(known, name=name), fresh)
        weights, spelled = (
            ((source / name).stat().st_size, (fresh / name).stat().st_size) for name in (WEIGHTS, TOKENIZER)
        )
    return Trimmed(
        path=str(out),
        texts=len(texts),
        tokens=sum(map(len, encoded)),
        used=len({token for ids in encoded for token in ids}),
        entries=(tokenizer.get_vocab_size(), len(keep)),
        weight_bytes=weights,
        tokenizer_bytes=spelled,
    )


def compact(tokenizer: Tokenizer) -> str:
    """A tokenizer's JSON with no padding, truncation or needless byte: a third less for Chinese."""
    stated = json.loads(tokenizer.to_str())
    stated["truncation"] = stated["padding"] = None
    return json.dumps(stated, ensure_ascii=False, separators=(",", ":")) + "\n"


def kept_ids(
    tokenizer: Tokenizer, texts: Iterable[str], limit: int, *, words: Tokenizer | None = None
) -> list[int]:
    """Old ids of the entries to keep, ascending.

    Args:
        tokenizer: a WordPiece or Unigram tokenizer, without truncation.
        texts: the corpus.
        limit: how many entries to keep; exceeded when the first rules alone need more.
        words: a WordPiece tokenizer of the wanted language: Unigram entries that it has, too, come first.

    Raises:
        UsageError: it is a tokenizer of another kind.
    """
    chosen = list(texts)
    used = Counter(token for each in tokenizer.encode_batch_fast(chosen) for token in each.ids)
    keep = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    kind = type(tokenizer.model).__name__
    if kind == "WordPiece":
        spelling, filling = _word_pieces(tokenizer)
    elif kind == "Unigram":
        spelling, filling = _unigram_pieces(tokenizer, used, chosen, words)
    else:
        raise UsageError(f"A vocabulary of kind {kind} cannot be trimmed; WordPiece and Unigram ones can.")
    keep |= used.keys() | spelling
    keep |= set(islice((token for token in filling if token not in keep), max(limit - len(keep), 0)))
    return sorted(keep)


def trim_tokenizer(tokenizer: Tokenizer, keep: list[int]) -> Tokenizer:
    """The same tokenizer with the entries ``keep`` alone, numbered in that order; none is cut or padded."""
    stated = json.loads(tokenizer.to_str())
    number = {old: new for new, old in enumerate(keep)}
    model = stated["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] = [model["vocab"][old] for old in keep if old < len(model["vocab"])]
        model["unk_id"] = number.get(model["unk_id"])
    else:
        model["vocab"] = {word: number[old] for word, old in model["vocab"].items() if old in number}
    stated["added_tokens"] = [
        {**token, "id": number[token["id"]]} for token in stated["added_tokens"] if token["id"] in number
    ]
    ends = stated["post_processor"] or {}
    for special in ends.get("special_tokens", {}).values():
        special["ids"] = [number[old] for old in special["ids"]]
    for end in ("cls", "sep"):  # as older files have them
        if end in ends:
            ends[end][1] = number[ends[end][1]]
    stated["padding"] = stated["truncation"] = None
    return Tokenizer.from_str(json.dumps(stated))


# --- which entries ----------------------------------------------------------------------------------------


def script(character: str) -> str:
    """The script a letter is of, by its Unicode name; empty for what belongs to none.

    >>> [script(each) for each in "aé电ひ7!😀"]
    ['LATIN', 'LATIN', 'CJK', 'HIRAGANA', '', '', '']
    """
    if unicodedata.category(character)[0] not in "LM":
        return ""
    return unicodedata.name(character, "UNKNOWN").split()[0]


def _word_pieces(tokenizer: Tokenizer) -> tuple[set[int], Iterator[int]]:
    """Entries that spelling needs, and all others worth keeping, the likeliest first."""
    words = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    spelling = {token for word, token in words if len(word) == 1 or word.startswith("##")}
    return spelling, (token for word, token in words if not word.startswith("[unused"))


def _unigram_pieces(
    tokenizer: Tokenizer, used: Mapping[int, int], texts: Sequence[str], words: Tokenizer | None
) -> tuple[set[int], Iterator[int]]:
    """Entries that spelling needs, and all others of the corpus' scripts, the likeliest first."""
    pieces: list[tuple[str, float]] = json.loads(tokenizer.to_str())["model"]["vocab"]
    normalize: Callable[[str], str] = tokenizer.normalizer.normalize_str if tokenizer.normalizer else str
    characters = Counter(character for text in texts for character in normalize(text))
    letters = Counter[str]()
    for character, count in characters.items():
        letters[script(character)] += count
    least = SCRIPT_SHARE * (letters.total() - letters[""])
    scripts = {name for name, count in letters.items() if count >= least} | {""}
    special = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    spelling, others = set(), []
    for token, (piece, _) in enumerate(pieces):
        bare = piece.removeprefix(SPACE)
        if token in special:
            continue
        if len(bare) <= 1 and (bare in characters or {*map(script, bare)} <= scripts):
            spelling.add(token)
        elif {*map(script, bare)} <= scripts:
            others.append(token)
    # What is unknown costs a fixed step below the unlikeliest entry.
    spelling.add(min(set(range(len(pieces))) - special, key=lambda token: pieces[token][1]))
    marks = likeness([piece for piece, _ in pieces], [token for token in used if token not in special])
    known = words.get_vocab().keys() if words else ()

    def order(token: int) -> tuple[bool, float]:
        piece, score = pieces[token]
        start = "" if piece.startswith(SPACE) else "##"
        return start + piece.removeprefix(SPACE).lower() not in known, -(score + marks(piece))

    return spelling, iter(sorted(others, key=order))


def likeness(pieces: Sequence[str], wanted: Iterable[int]) -> Callable[[str], float]:
    """How much likelier a spelling is among the wanted entries than among all, as a log-ratio.

    An entry's score is its log-probability in a hundred languages. Added to it, by Bayes' rule, this gives
    the log-probability in the corpus' languages, up to a constant. Spellings are judged by their characters,
    each after the two before it: the corpus has too few words to know its languages' others by.

    Args:
        pieces: every entry.
        wanted: those that the corpus uses.
    """
    everywhere, here = _Spelling(pieces), _Spelling([pieces[token] for token in wanted])
    return lambda piece: here.log_probability(piece) - everywhere.log_probability(piece)


class _Spelling:
    """Characters after the two before them, after one, and alone, mixed; every entry counts once."""

    MIX = (0.6, 0.3, 0.0999)
    LEAST = 1e-7

    def __init__(self, pieces: Iterable[str]) -> None:
        self._after: list[dict[str, Counter[str]]] = [defaultdict(Counter) for _ in self.MIX]
        for piece in pieces:
            for before, character in self._steps(piece):
                for counts, context in zip(self._after, self._contexts(before), strict=True):
                    counts[context][character] += 1
        self._totals = [
            {context: counter.total() for context, counter in counts.items()} for counts in self._after
        ]

    def log_probability(self, piece: str) -> float:
        total = 0.0
        for before, character in self._steps(piece):
            probability = self.LEAST
            for weight, counts, totals, context in zip(
                self.MIX, self._after, self._totals, self._contexts(before), strict=True
            ):
                if context in totals:
                    probability += weight * counts[context][character] / totals[context]
            total += math.log(probability)
        return total

    @staticmethod
    def _steps(piece: str) -> Iterator[tuple[str, str]]:
        framed = f"\x02\x02{piece}\x03"
        return ((framed[at - 2 : at], framed[at]) for at in range(2, len(framed)))

    @staticmethod
    def _contexts(before: str) -> tuple[str, str, str]:
        return before, before[1], ""


# --- a checkpoint's files ---------------------------------------------------------------------------------


def read_tokenizer(file: Path) -> Tokenizer:
    """A tokenizer that neither cuts nor pads.

    Raises:
        UsageError: it is not there or cannot be read.
    """
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001  # the library raises nothing narrower
        raise UsageError(f"{file} is not a tokenizer: {error}.") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _check_lossless(
    encoded: Sequence[Sequence[int]], trimmed: Tokenizer, keep: Sequence[int], texts: Sequence[str]
) -> None:
    again = trimmed.encode_batch_fast(list(texts))
    for text, before, after in zip(texts, encoded, again, strict=True):
        if list(before) != [keep[token] for token in after.ids]:
            raise UsageError(
                f"This vocabulary cannot be trimmed without loss: {text[:80]!r} is cut otherwise."
            )


def _trim_weights(source: Path, out: Path, keep: list[int]) -> None:
    """Writes weights and configuration; what has a row for each entry has one for each kept entry."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    try:
        config: dict[str, Any] = json.loads((source / CONFIG).read_bytes())
        tensors = load_file(source / WEIGHTS)
        entries = int(config["vocab_size"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UsageError(f"{source} is not a checkpoint that can be trimmed: {error}.") from None
    if keep[-1] >= entries:
        raise UsageError(f"{source} has a tokenizer of more entries than its network's {entries:,}.")
    for name, tensor in tensors.items():
        by_entry = any(part in name for part in ("embed", "predictions", "lm_head"))
        if by_entry and tensor.shape and tensor.shape[0] == entries:
            tensors[name] = tensor[keep].contiguous()
    number = {old: new for new, old in enumerate(keep)}
    config["vocab_size"] = len(keep)
    for key in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if isinstance(config.get(key), int):
            config[key] = number.get(config[key], 0 if key == "pad_token_id" else None)
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    (out / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
