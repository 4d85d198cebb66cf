"""MBConv (1801.04381) with pre-activation and squeeze-and-excitation, the convolutional block."""

import haiku as hk
from jaxtyping import Array, Float

from perceiver_io.models.coatnet.parts import (
    activate,
    conv_1x1,
    depthwise_conv,
    norm,
    pool,
    shortcut,
    squeeze_and_excite,
)
from perceiver_io.models.coatnet.settings import CoAtNetBlocks
from perceiver_io.models.layers import stochastic_depth
from perceiver_io.models.settings import AttentionForm


class MBConv(hk.Module):
    """x <- Proj(Pool(x)) + Conv(DepthConv(Conv(Norm(x), stride))) (appendix A.1).

    Args:
        width: channels of the output.
        stride: 2 halves the resolution.
        settings: of all blocks.
        form: how the depthwise convolution is computed.
    """

    def __init__(
        self,
        width: int,
        stride: int,
        settings: CoAtNetBlocks,
        form: AttentionForm,
        name: str = "mbconv",
    ):
        super().__init__(name=name)
        self._width, self._stride = width, stride
        self._settings, self._form = settings, form

    def __call__(
        self, x: Float[Array, "B H W C"], drop_rate: Float[Array, ""], is_training: bool
    ) -> Float[Array, "B h w D"]:
        """The block applied to `x`; `drop_rate` is that of stochastic depth."""
        settings = self._settings
        residual = shortcut(settings.pooling, x, self._width, self._stride, bias=settings.conv_bias)
        branch = self._branch(x, is_training)
        rng = hk.next_rng_key() if is_training and settings.stochastic_depth else None
        return residual + stochastic_depth(branch, drop_rate, rng)

    @hk.name_like("__call__")
    def _branch(self, x: Float[Array, "B H W C"], is_training: bool) -> Float[Array, "B h w D"]:
        settings, stride = self._settings, self._stride
        expanded_from = self._width if settings.expand_from == "output" else x.shape[-1]
        hidden = max(round(settings.expansion * expanded_from), 1)
        squeezed_from = self._width if settings.squeeze_from == "output" else hidden
        strides = dict(pooling=1, expansion=1, depthwise=1) | {settings.stride: stride}

        def normalised(x, name, activated=True):
            x = norm(settings.conv_norm, x, is_training, name=name)
            return activate(settings.activation, x, settings) if activated else x

        def excited(x):
            return squeeze_and_excite(x, max(squeezed_from // 4, 1), settings)

        x = normalised(x, "norm", settings.activated_input)
        x = pool("average", x, strides["pooling"])
        x = conv_1x1(x, hidden, stride=strides["expansion"], name="expand")
        x = normalised(x, "norm_expanded")
        x = depthwise_conv(x, stride=strides["depthwise"], form=self._form, name="depthwise")
        if settings.squeeze_before_norm:
            x = normalised(excited(x), "norm_depthwise")
        else:
            x = excited(normalised(x, "norm_depthwise"))
        return conv_1x1(x, self._width, bias=settings.conv_bias, name="project")
