"""The words that model definitions use: frameworks, configurations, model types, band names, and who accepts what.

Sources: the product's public documentation of the format, Esri/raster-deep-learning (Apache-2.0) and definitions that
arcgis.learn wrote. Comparison ignores case and blanks, because the files do.
"""

from __future__ import annotations

from typing import Dict, Tuple

MODEL_TYPES: Tuple[str, ...] = (
    "ObjectDetection",
    "InstanceDetection",
    "PanopticSegmenter",
    "ImageClassification",
    "ObjectClassification",
    "ImageCaptioner",
    "CycleGAN",
    "Pix2Pix",
    "Pix2PixHD",
    "SuperResolution",
    "ObjectTracking",
)
_MODEL_TYPE_ALIASES = {"objectiondetection": "ObjectDetection"}

# model type -> jobs of the engine that accept it
TOOLS: Dict[str, Tuple[str, ...]] = {
    "ObjectDetection": ("detectobjects",),
    "InstanceDetection": ("detectobjects",),
    "PanopticSegmenter": ("detectobjects", "classifypixels"),
    "ImageClassification": ("classifypixels", "detectchange"),
    "ObjectClassification": ("classifyobjects",),
    "ImageCaptioner": ("classifyobjects",),
    "CycleGAN": ("classifypixels",),
    "Pix2Pix": ("classifypixels",),
    "Pix2PixHD": ("classifypixels",),
    "SuperResolution": ("classifypixels",),
}

ARCGIS_LEARN = "arcgis.learn.models._inferencing"
FRAMEWORKS: Tuple[str, ...] = (
    "TensorFlow",
    "Keras",
    "PyTorch",
    "ONNX",
    "TorchScript",
    "TorchExport",
    "CNTK",
    "Templates",
    ARCGIS_LEARN,
)
# Frameworks whose files describe their tensors themselves; their configuration has no name to look up.
SELF_DESCRIBING: Tuple[str, ...] = ("ONNX", "TorchScript", "TorchExport")

KERAS_MASK_RCNN = ("Keras", "MaskRCNN")

# (framework, configuration) -> the model types it comes with, the usual one first
CONFIGURATIONS: Dict[Tuple[str, str], Tuple[str, ...]] = {
    ("TensorFlow", "ObjectDetectionAPI"): ("ObjectDetection",),
    ("TensorFlow", "DeepLab"): ("ImageClassification",),
    KERAS_MASK_RCNN: ("ObjectDetection", "ImageClassification"),
    ("Keras", "KerasClassifier"): ("ObjectClassification",),
    ("PyTorch", "FastaiSSD"): ("ObjectDetection",),
    ("PyTorch", "FeatureClassifier"): ("ObjectClassification",),
    ("PyTorch", "DeepRaster"): ("ObjectDetection", "InstanceDetection", "ImageClassification", "ObjectClassification"),
    ("CNTK", "FasterRCNN"): ("ObjectDetection",),
    ("CNTK", "AzurePixelLevelLandClassification"): ("ImageClassification",),
    (ARCGIS_LEARN, "_DynamicSSD"): ("ObjectDetection",),
    (ARCGIS_LEARN, "_RetinaNet_Inference"): ("ObjectDetection",),
    (ARCGIS_LEARN, "_yolov3_inference"): ("ObjectDetection",),
    (ARCGIS_LEARN, "_model_extension_inferencing"): ("ObjectDetection", "ImageClassification"),
    (ARCGIS_LEARN, "_maskrcnn_inferencing"): ("InstanceDetection",),
    (ARCGIS_LEARN, "_panoptic_inferencing"): ("PanopticSegmenter",),
    (ARCGIS_LEARN, "_unet"): ("ImageClassification",),
    (ARCGIS_LEARN, "_deeplab_infrencing"): ("ImageClassification",),
    (ARCGIS_LEARN, "_psp"): ("ImageClassification",),
    (ARCGIS_LEARN, "_tiny_unet"): ("ImageClassification",),
    (ARCGIS_LEARN, "_road_infrencing"): ("ImageClassification",),
    (ARCGIS_LEARN, "change_detection"): ("ImageClassification",),
    (ARCGIS_LEARN, "_FeatureClassifier"): ("ObjectClassification",),
    (ARCGIS_LEARN, "_image_captioner_inference"): ("ImageCaptioner",),
    (ARCGIS_LEARN, "_superres"): ("SuperResolution",),
    (ARCGIS_LEARN, "_climax"): ("ImageClassification",),
    (ARCGIS_LEARN, "_cyclegan"): ("CycleGAN",),
    (ARCGIS_LEARN, "_pix2pix"): ("Pix2Pix",),
    (ARCGIS_LEARN, "_pix2pix_hd"): ("Pix2PixHD",),
    (ARCGIS_LEARN, "_wnet_cgan"): ("ImageClassification",),
    (ARCGIS_LEARN, "_psetae_inferencing"): ("ImageClassification",),
    (ARCGIS_LEARN, "_hyperspectral3drcnet_inferencing"): ("ImageClassification",),
    (ARCGIS_LEARN, "_siammask_inferencing"): ("ObjectTracking",),
}

WELL_KNOWN_BANDS: Tuple[str, ...] = (
    "Red",
    "Green",
    "Blue",
    "Infrared",
    "CoastalBlue",
    "Yellow",
    "RedEdge",
    "ShortWaveInfrared",
    "NearInfrared",
    "NearInfrared_1",
    "NearInfrared_2",
    "MidInfrared",
    "MidInfrared_1",
    "MidInfrared_2",
    "Thermal",
    "Thermal_1",
    "Thermal_2",
    "Panchromatic",
    "PseudoRed",
    "PseudoGreen",
    "PseudoBlue",
    "QA",
)

# Inference functions of arcgis.learn: never run from a package, the engine has its own loaders for these networks.
STAND_INS: Tuple[str, ...] = (
    "ArcGISObjectDetector.py",
    "ArcGISInstanceDetector.py",
    "ArcGISPanopticSegmenter.py",
    "ArcGISImageClassifier.py",
    "ArcGISObjectClassifier.py",
    "ArcGISImageCaptioner.py",
    "ArcGISSuperResolution.py",
    "ArcGISImageTranslation.py",
    "ArcGISImageTsClassifier.py",
)

# Model classes of the extension family whose configuration module need not run, because the network is known.
KNOWN_EXTENSIONS: Tuple[str, ...] = ("FasterRCNN",)


def _fold(word: str) -> str:
    return "".join(word.split()).casefold()


_TYPES = {**{_fold(one): one for one in MODEL_TYPES}, **_MODEL_TYPE_ALIASES}
_FRAMEWORKS = {_fold(one): one for one in FRAMEWORKS}
_CONFIGURATIONS = {(_fold(framework), _fold(name)): name for framework, name in CONFIGURATIONS}
_STAND_INS = {_fold(one): one for one in STAND_INS}


def model_type(word: str) -> str:
    """Return the usual spelling of a model type; an unknown word comes back as it is."""
    return _TYPES.get(_fold(word), word.strip())


def framework(word: str) -> str:
    """Return the usual spelling of a framework; an unknown word comes back as it is."""
    return _FRAMEWORKS.get(_fold(word), word.strip())


def configuration(framework_name: str, word: str) -> str:
    """Return the usual spelling of a configuration of a framework; an unknown word comes back as it is."""
    return _CONFIGURATIONS.get((_fold(framework_name), _fold(word)), word.strip())


def stand_in(file_name: str) -> str:
    """Return the usual spelling of an inference function of arcgis.learn, or an empty text for any other name."""
    return _STAND_INS.get(_fold(file_name), "")
