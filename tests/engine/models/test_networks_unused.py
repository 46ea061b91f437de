"""Networks are built without the stages of their encoder that no pixel passes."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
smp = pytest.importorskip("segmentation_models_pytorch")

from deep_raster.engine.models.networks import segmentation  # noqa: E402
from deep_raster.engine.models.networks.unused import drop_unused  # noqa: E402


def weights_with_gradient(network, bands: int) -> int:
    """Count the weights that a training step can change: an account by automatic differentiation, not by calls."""
    network.train()
    network(torch.randn(2, bands, 64, 64)).square().mean().backward()
    return sum(one.numel() for one in network.parameters() if one.grad is not None)


@pytest.mark.parametrize(
    ("configuration", "reference"),
    [
        ({"Architecture": "unet", "Depth": 3}, {"encoder_depth": 3, "decoder_channels": (64, 32, 16)}),
        ({"Architecture": "unetplusplus", "Depth": 4}, {"encoder_depth": 4, "decoder_channels": (128, 64, 32, 16)}),
        ({"Architecture": "pspnet"}, {}),
    ],
)
def test_every_weight_is_used_and_the_answers_are_the_librarys(configuration, reference):
    torch.manual_seed(3)
    network = segmentation.build({**configuration, "Backbone": "resnet18"}, 4, 3, (64, 64))
    whole = smp.create_model(
        configuration["Architecture"],
        encoder_name="resnet18", encoder_weights=None, in_channels=4, classes=3, **reference,
    )  # fmt: skip
    own = network.state_dict()
    assert set(own) < set(whole.state_dict())
    whole.load_state_dict(own, strict=False)
    image = torch.randn(1, 4, 96, 64)
    with torch.no_grad():
        assert torch.equal(network.eval()(image), whole.eval()(image))
    total = sum(one.numel() for one in network.parameters())
    assert total == weights_with_gradient(network, 4)
    assert total == weights_with_gradient(whole, 4)
    assert total < 0.6 * sum(one.numel() for one in whole.parameters())


def test_weights_used_without_a_call_stay():
    class Direct(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 2, 1)

        def forward(self, image):
            return torch.nn.functional.conv2d(self.first(image), self.second.weight)

    network = drop_unused(Direct(), 3)
    assert isinstance(network.second, torch.nn.Conv2d)
    assert network.training
