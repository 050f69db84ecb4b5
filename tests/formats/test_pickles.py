import decimal
import io
import pickle
import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.pickles import LEGACY_TORCH_MAGIC, scan_pickle, scan_stream

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN, st.integers(2, 5))
def test_plain_data_needs_no_imports(value: object, protocol: int) -> None:
    imports, _ = scan_stream(io.BytesIO(pickle.dumps(value, protocol=protocol)))
    assert imports <= {"_codecs.encode", "__builtin__.bytes"}


@given(PLAIN, st.integers(0, 5))
def test_a_class_is_found_wherever_it_is(value: object, protocol: int) -> None:
    content = pickle.dumps([value, decimal.Decimal, {"k": struct.error}], protocol=protocol)
    imports, _ = scan_stream(io.BytesIO(content))
    assert {"decimal.Decimal", "struct.error"} <= imports


def test_a_name_that_is_computed_is_unknown() -> None:
    # The module and the name come from the memo or from nowhere: what they are is not to be seen.
    imports, _ = scan_stream(io.BytesIO(b"\x80\x04\x8c\x02os\x93."))
    assert imports == {"?"}


def test_a_name_from_the_memo_is_found() -> None:
    content = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94000h\x00h\x01\x93."
    imports, _ = scan_stream(io.BytesIO(content))
    assert "os.system" in imports


def test_the_old_layout_of_torch_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    parts = [LEGACY_TORCH_MAGIC, 1001, {"little_endian": True}, {"weight": 1.0}]
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts) + b"storage")
    scan = scan_pickle(path)
    assert scan is not None
    assert scan.legacy_torch
    assert scan.code == ()


def test_a_cut_pickle_is_no_pickle(tmp_path: Path) -> None:
    path = tmp_path / "cut.pkl"
    path.write_bytes(pickle.dumps({"weight": [1.0] * 50})[:30])
    assert scan_pickle(path) is None


def test_only_tensors_need_no_trust(tmp_path: Path) -> None:
    path = tmp_path / "p.pkl"
    names = (
        b"torch._utils\n_rebuild_tensor_v2",
        b"torch\nFloatStorage",
        b"torch\nbfloat16",
        b"torch.nn\nLinear",
    )
    path.write_bytes(b"\x80\x02" + b"".join(b"c" + name + b"\n0" for name in names) + b"N.")
    scan = scan_pickle(path)
    assert scan is not None
    assert scan.code == ("torch.nn.Linear",)
    assert len(scan.imports) == 4
