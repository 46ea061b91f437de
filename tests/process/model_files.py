"""Models of QGIS's model designer, as files."""

from __future__ import annotations


def write_model(path, steps, outputs):
    """Write a model: steps are (id, algorithm, values, {parameter: (earlier step, its output)})."""
    from qgis.core import (
        QgsProcessingModelAlgorithm,
        QgsProcessingModelChildAlgorithm,
        QgsProcessingModelChildParameterSource,
        QgsProcessingModelOutput,
    )

    model = QgsProcessingModelAlgorithm("several steps", "tests")
    for name, algorithm, values, links in steps:
        step = QgsProcessingModelChildAlgorithm(f"deepraster:{algorithm}")
        step.setChildId(name)
        for key, value in values.items():
            step.addParameterSources(key, [QgsProcessingModelChildParameterSource.fromStaticValue(value)])
        for key, (earlier, output) in links.items():
            step.addParameterSources(key, [QgsProcessingModelChildParameterSource.fromChildOutput(earlier, output)])
        results = {}
        for key in outputs.get(name, ()):
            result = QgsProcessingModelOutput(key)
            result.setChildId(name)
            result.setChildOutputName(key)
            results[key] = result
        step.setModelOutputs(results)
        model.addChildAlgorithm(step)
    assert model.toFile(str(path))
    return str(path)
