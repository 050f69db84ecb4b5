import pytest

from bridge.errors import InputError
from bridge.formats.request import InputSpec, ReadRequest


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("1x3x224x224", InputSpec((1, 3, 224, 224))),
        ("Nx3", InputSpec(("N", 3))),
        ("?x?", InputSpec(("axis0", "axis1"))),
        ("tokens=Nx16:int64", InputSpec(("N", 16), "int64", "tokens")),
        ("scalar=:float32", InputSpec((), "float32", "scalar")),
        ("serving/x:0=2", None),
        ("layer.x=2", InputSpec((2,), "float32", "layer.x")),
    ],
)
def test_what_a_specification_means(text: str, spec: InputSpec | None) -> None:
    if spec is None:
        with pytest.raises(InputError, match="not an input specification"):
            InputSpec.parse(text)
    else:
        assert InputSpec.parse(text) == spec


@pytest.mark.parametrize("text", ["1x-3", "1xx3", "¹x3", "1,3", "2 3", "x", "a=b=c"])
def test_what_is_none_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError) as caught:
        InputSpec.parse(text)
    assert "--input 1x3x224x224" in str(caught.value.hint)


def test_a_request_survives_json() -> None:
    request = ReadRequest("m.pt", "state_dict", "a.b:c", (InputSpec((1, "N"), "int64", "t"),), trust=True)
    assert ReadRequest.from_json(request.to_json()) == request
