"""Which layers a Keras model file may ask for: the configuration is checked before Keras sees the file.

A saved model names the classes and functions to build it from. Keras resolves names in many places, some of which run
code; here only plain layers and a few named helpers pass, whatever Keras would make of the others.
"""

from __future__ import annotations

from typing import Any, Iterator

from ..errors import TrustError

_LAYERS = """
Activation ActivityRegularization Add AlphaDropout Attention Average AveragePooling1D AveragePooling2D
AveragePooling3D AdditiveAttention BatchNormalization BatchNormalizationV1 BatchNormalizationV2 CenterCrop
Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose Convolution2D Cropping1D
Cropping2D Cropping3D Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU EinsumDense Embedding Flatten
GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization Identity InputLayer InputSpec
LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum MultiHeadAttention
Multiply Normalization PReLU Permute RMSNormalization RandomBrightness RandomContrast RandomCrop RandomFlip
RandomRotation RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing SeparableConv1D
SeparableConv2D Softmax SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization Subtract
ThresholdedReLU TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D
ZeroPadding2D ZeroPadding3D
"""
LAYERS = frozenset(_LAYERS.split())
CONTAINERS = frozenset(("Functional", "Model", "Sequential"))
_HELPERS = """
Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform Ones Orthogonal
RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros L1 L2 L1L2 MaxNorm MinMaxNorm NonNeg UnitNorm
DTypePolicy Policy FloatDTypePolicy TensorShape SeedGenerator
"""
HELPERS = frozenset(_HELPERS.split())
_ACTIVATIONS = """
celu elu exponential gelu glu hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid
log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus squareplus swish
tanh tanh_shrink
"""
ACTIVATIONS = frozenset(_ACTIVATIONS.split())
_TENSORS = frozenset(("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__tuple__", "__dict__"))
_MODULES = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras", "builtins")
_DEEPEST = 100


def check_config(config: Any, file: str) -> None:
    """Refuse a model configuration that asks for anything but plain layers.

    Args:
        config: the configuration of the model as read from its JSON.
        file: where it comes from, for messages.

    Raises:
        TrustError: the message names the classes and functions that are not on the list.
    """
    wrong = sorted(set(_strangers(config, 0)))
    if wrong:
        raise TrustError(
            f"The Keras model asks for parts that may run code of their own: {', '.join(wrong[:8])}.",
            stage="checking the model",
            file=file,
            hint="Rebuild the model with layers of keras.layers alone (no Lambda, no layers of one's own) and save it "
            "again.",
        )


def _strangers(value: Any, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        yield "a configuration nested too deeply"
        return
    if isinstance(value, dict):
        yield from _stranger(value)
        for name, inner in value.items():
            if name in ("compile_config", "build_config", "training_config"):
                continue  # never used here: models are loaded without their training
            if name in ("activation", "recurrent_activation") and isinstance(inner, str) and inner not in ACTIVATIONS:
                yield inner
            yield from _strangers(inner, depth + 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strangers(inner, depth + 1)


def _stranger(members: dict[str, Any]) -> Iterator[str]:
    name = members.get("class_name")
    if name is None:
        return
    if not isinstance(name, str):
        yield str(name)
        return
    bare = name.rpartition(">")[2]
    module = members.get("module")
    module_known = module is None or any(module == one or str(module).startswith(f"{one}.") for one in _MODULES)
    if bare == "function" and members.get("config") in ACTIVATIONS and module_known:
        return
    if bare in _TENSORS:
        return
    known = bare in LAYERS or bare in CONTAINERS or bare in HELPERS
    if not known or not module_known or members.get("registered_name") not in (None, "", bare, name):
        yield name if known is False or module is None else f"{module}.{name}"
