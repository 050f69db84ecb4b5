"""Is what has been moved the same? Run pytest in the directory above."""

import pytest


@pytest.mark.bridge(custom_objects="legacy.layers", gradients=True, training=5)
def test_converted_classifier(assert_equivalent):
    assert_equivalent("models/digits.keras", "converted/digits")


@pytest.mark.bridge(custom_objects="legacy.layers", map_inputs="image=image:0312")
class TestClassifierByHand:
    """The port takes its images with the channels first, as PyTorch does."""

    @pytest.mark.bridge(seeds=[0, 1])
    def test_on_drawn_images(self, assert_equivalent):
        assert_equivalent("models/digits.keras", "ported.model:trained")

    @pytest.mark.bridge(inputs="data:inputs", max_error=1e-5)
    def test_on_digits(self, assert_equivalent):
        assert_equivalent("models/digits.keras", "ported.model:trained")


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [("standardise", "image=Nx8x8x1"), ("squeeze_excite", "features=Nx6x6x16")],
)
def test_layer(assert_equivalent, layer, inputs):
    assert_equivalent(
        f"legacy.parts:{layer}",
        f"ported.parts:{layer}",
        inputs=inputs,
        map_inputs="#0=#0:0312",
        map_outputs="#0=#0:0231",
    )
