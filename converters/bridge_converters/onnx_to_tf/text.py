"""Text: TensorFlow's strings hold the bytes of UTF-8."""

from __future__ import annotations

import tensorflow as tf

from bridge_converters.onnx_to_tf._table import lowering


@lowering("StringConcat")
def string_concat(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Each text of x with that of y behind it, broadcast."""
    return x + y


@lowering("RegexFullMatch")
def regex_full_match(x: tf.Tensor, *, pattern: str | None = None) -> tf.Tensor:
    """Whether a pattern (of RE2) matches the whole of each text."""
    return tf.strings.regex_full_match(x, "" if pattern is None else pattern)


@lowering("StringSplit")
def string_split(
    x: tf.Tensor, *, delimiter: str | None = None, maxsplit: int | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Each text cut at the delimiter, by default at white space, padded by empty texts; and the counts."""
    cut = -1 if maxsplit is None else maxsplit
    parts = tf.strings.split(tf.reshape(x, (-1,)), sep=delimiter or None, maxsplit=cut)
    if not delimiter:
        # TensorFlow adds an empty part where the splits just suffice; between white space there is none.
        parts = tf.ragged.boolean_mask(parts, tf.strings.length(parts) > 0)
    counts = tf.reshape(parts.row_lengths(), tf.shape(x))
    padded = parts.to_tensor("")
    return tf.reshape(padded, tf.concat([tf.shape(x), tf.shape(padded)[1:]], 0)), counts


@lowering("StringNormalizer")
def string_normalizer(
    x: tf.Tensor,
    *,
    case_change_action: str = "NONE",
    is_case_sensitive: int = 0,
    locale: str | None = None,
    stopwords: tuple[str, ...] | None = None,
) -> tf.Tensor:
    """The texts without stop words, in lower or upper case if asked; one empty text if none is left."""
    if stopwords:
        compared = x if is_case_sensitive else tf.strings.lower(x, encoding="utf-8")
        banned = tf.constant(stopwords)
        banned = banned if is_case_sensitive else tf.strings.lower(banned, encoding="utf-8")
        kept = tf.reshape(tf.reduce_all(compared[..., tf.newaxis] != banned, -1), (-1,))
        words = tf.boolean_mask(tf.reshape(x, (-1,)), kept)
        words = tf.cond(tf.size(words) > 0, lambda: words, lambda: tf.constant([""]))
        x = words if x.ndim == 1 else words[tf.newaxis]
    if case_change_action == "LOWER":
        return tf.strings.lower(x, encoding="utf-8")
    if case_change_action == "UPPER":
        return tf.strings.upper(x, encoding="utf-8")
    return x
