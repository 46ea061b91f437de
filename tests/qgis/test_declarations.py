"""What scripts and models rely on: ids, groups, parameters and outputs by name."""

from __future__ import annotations

import pytest
from qgis.core import (
    QgsApplication,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
)

RUN = ["PROCESSING_MODE", "EXTENT", "CELL_SIZE", "MASK", "PROCESSOR", "GPU_ID", "WORKERS", "CLUSTER", "RESUME", "TRUST"]
# The public contract: these names, in this order (others may stand between them), and these outputs.
CONTRACT = {
    "labelobjects": ("labelling", ["INPUT", "SCHEMA", "FEATURES", "CLASS_FIELD"], ["OUTPUT"]),
    "exporttrainingdata": (
        "trainingdata",
        [
            "INPUT",
            "INPUT2",
            "LABELS",
            "CLASS_FIELD",
            "FORMAT",
            "CHIP_FORMAT",
            "TILE_SIZE_X",
            "TILE_SIZE_Y",
            "STRIDE_X",
            "STRIDE_Y",
            "ALL_TILES",
            "BUFFER_RADIUS",
            "MASK",
            "ROTATION",
            "REFERENCE_SYSTEM",
            "BLACKEN",
            "CROP_MODE",
            "INSTANCES",
            "MIN_OVERLAP",
            "EXTENT",
            "CELL_SIZE",
        ],
        ["OUTPUT", "CHIPS", "OBJECTS"],
    ),
    "trainmodel": (
        "training",
        [
            "INPUT",
            "MODEL_TYPE",
            "BACKBONE",
            "BACKBONE_WEIGHTS",
            "PRETRAINED_MODEL",
            "EPOCHS",
            "BATCH_SIZE",
            "LEARNING_RATE",
            "CHIP_SIZE",
            "VALIDATION",
            "AUGMENTATION",
            "EARLY_STOPPING",
            "FREEZE",
            "ARGUMENTS",
            "SEED",
            "PROCESSOR",
            "RESUME",
        ],
        ["OUTPUT", "MODEL", "REPORT", "BEST_METRIC"],
    ),
    "createpackage": ("packages", ["DEFINITION", "FILES"], ["OUTPUT"]),
    "packageinfo": ("packages", ["MODEL"], ["HTML", "JSON"]),
    "detectobjects": (
        "inference",
        [
            "INPUT",
            "COLLECTION",
            "MODEL",
            "ARGUMENTS",
            "RUN_NMS",
            "MAX_OVERLAP",
            "CONFIDENCE_FIELD",
            "CLASS_FIELD",
            *RUN,
        ],
        ["OUTPUT", "COUNT"],
    ),
    "classifypixels": ("inference", ["INPUT", "COLLECTION", "MODEL", "ARGUMENTS", *RUN], ["OUTPUT"]),
    "classifyobjects": ("inference", ["INPUT", "FEATURES", "MODEL", "ARGUMENTS", "LABEL_FIELD", *RUN], ["OUTPUT"]),
    "detectchange": ("inference", ["FROM", "TO", "MODEL", "ARGUMENTS", *RUN[1:]], ["OUTPUT"]),
    "nonmaximumsuppression": ("inference", ["INPUT", "CONFIDENCE_FIELD", "CLASS_FIELD", "MAX_OVERLAP"], ["OUTPUT"]),
    "computeaccuracy": ("evaluation", ["DETECTED", "REFERENCE", "MIN_IOU", "MASK"], ["OUTPUT", "REPORT"]),
    "setupenvironment": (
        "management",
        ["FRAMEWORKS", "PYTHON", "LOCATION", "WHEELS", "REMOVE_OUTDATED"],
        ["ENVIRONMENT"],
    ),
}


def test_the_provider_holds_exactly_the_contract(provider):
    assert provider.id() == "deepraster"
    assert {one.name() for one in provider.algorithms()} == set(CONTRACT)


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_names_groups_and_outputs(provider, name):
    group, parameters, outputs = CONTRACT[name]
    algorithm = QgsApplication.processingRegistry().algorithmById(f"deepraster:{name}")
    declared = [one.name() for one in algorithm.parameterDefinitions()]
    assert algorithm.groupId() == group
    assert [one for one in declared if one in parameters] == parameters
    assert set(outputs) <= {one.name() for one in algorithm.outputDefinitions()}


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_texts_and_enums(provider, name):
    algorithm = QgsApplication.processingRegistry().algorithmById(f"deepraster:{name}")
    assert algorithm.shortDescription().endswith((".", ")"))
    assert "ArcGIS" in algorithm.tags()
    assert not algorithm.icon().isNull()
    for parameter in algorithm.parameterDefinitions():
        assert parameter.help(), parameter.name()
        assert f"({parameter.name()})" in algorithm.shortHelpString()
        assert parameter.name() == parameter.name().upper()
        if isinstance(parameter, QgsProcessingParameterEnum):
            assert parameter.usesStaticStrings(), parameter.name()


def test_only_what_has_no_default_is_required(provider):
    """A script gives the inputs and nothing else."""
    required = {}
    for algorithm in provider.algorithms():
        optional = QgsProcessingParameterDefinition.Flag.FlagOptional
        names = [
            one.name()
            for one in algorithm.parameterDefinitions()
            if not one.flags() & optional and one.defaultValue() is None and not one.isDestination()
        ]
        required[algorithm.name()] = names
    assert required == {
        "labelobjects": ["INPUT", "SCHEMA"],
        "exporttrainingdata": ["INPUT"],
        "trainmodel": ["INPUT"],
        "createpackage": ["DEFINITION"],
        "packageinfo": ["MODEL"],
        "detectobjects": ["MODEL"],
        "classifypixels": ["MODEL"],
        "classifyobjects": ["MODEL"],
        "detectchange": ["FROM", "TO", "MODEL"],
        "nonmaximumsuppression": ["INPUT"],
        "computeaccuracy": ["DETECTED", "REFERENCE"],
        "setupenvironment": [],
    }


def test_every_label_format_of_the_engine_is_on_offer(provider):
    from deep_raster.engine.chips import rules
    from deep_raster.processing_provider import exporttrainingdata

    assert set(exporttrainingdata.FORMATS) == set(rules.FORMATS)
    assert exporttrainingdata.CHIP_FORMATS == rules.CHIP_FORMATS
    assert exporttrainingdata.EXISTING == (rules.APPEND, rules.REPLACE, rules.CONTINUE)
