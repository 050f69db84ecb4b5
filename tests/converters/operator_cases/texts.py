"""Cases of text, which only TensorFlow has."""

import numpy as np

from operator_cases.case import Array, case


def texts(*values: object) -> Array:
    return np.array(values, object)


_WORDS = texts("Monday", "tuesday", "Émile", "WEDNESDAY", "monday")
CASES = [
    case("StringConcat", texts("a", "ä", ""), texts("b", "c", "d"), label="pairs", opset=20),
    case("StringConcat", np.array([["a"], ["b"]], object), texts("1", "2", "3"), label="broadcast", opset=20),
    case("RegexFullMatch", texts("a1", "b", "a12"), label="digits", opset=20, pattern="a[0-9]+"),
    case("RegexFullMatch", np.array([["x@y.z", "no"]], object), label="mail", opset=20,
         pattern=r"[^@]+@\w+\.\w+"),
    case("StringSplit", texts("a b", " c  d e ", ""), label="space", outputs=2, opset=20),
    # onnxruntime finds no part in an empty text; the reference, like Python, finds an empty one.
    case("StringSplit", texts("a,b", "c,,d", ""), label="comma", outputs=2, opset=20, delimiter=",",
         oracle="reference"),
    case("StringSplit", np.array([["a-b-c", "d"], ["-", "e-f"]], object), label="once", outputs=2, opset=20,
         delimiter="-", maxsplit=1),
    # The reference takes accents away, onnxruntime needs locales of the system; the standard knows neither.
    case("StringNormalizer", _WORDS, label="none", opset=10, expected=(_WORDS,)),
    case("StringNormalizer", _WORDS, label="lower", opset=10, case_change_action="LOWER",
         expected=(texts("monday", "tuesday", "émile", "wednesday", "monday"),)),
    case("StringNormalizer", _WORDS, label="upper", opset=10, case_change_action="UPPER",
         expected=(texts("MONDAY", "TUESDAY", "ÉMILE", "WEDNESDAY", "MONDAY"),)),
    case("StringNormalizer", _WORDS, label="stop", opset=10, stopwords=["monday"],
         case_change_action="UPPER", expected=(texts("TUESDAY", "ÉMILE", "WEDNESDAY"),)),
    case("StringNormalizer", _WORDS, label="stop-case", opset=10, stopwords=["monday", "Émile"],
         is_case_sensitive=1, expected=(texts("Monday", "tuesday", "WEDNESDAY"),)),
    case("StringNormalizer", texts("a", "A"), label="nothing-left", opset=10, stopwords=["a"],
         expected=(texts(""),)),
    case("StringNormalizer", _WORDS[None], label="row", opset=10, stopwords=["tuesday"],
         expected=(_WORDS[None, [0, 2, 3, 4]],)),
]  # fmt: skip
