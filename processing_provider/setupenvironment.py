"""Make the engine's Python environment."""

from __future__ import annotations

from typing import Any, Dict, List

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputDefinition,
    QgsProcessingOutputString,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
)

from ..engine.environment import check_environment, create_environment
from ..engine.errors import DeepRasterError, JobCancelled
from ..engine.setup.removal import outdated_environments, remove_outdated
from . import environments, parameters, settings
from .base import MANAGEMENT, DeepRasterAlgorithm
from .reader import ParameterReader
from .running import sentence
from .text import tr

FRAMEWORKS = ("onnx", "pytorch", "tensorflow", "cluster", "all")


class SetupEnvironment(DeepRasterAlgorithm):
    """deepraster:setupenvironment."""

    ID = "setupenvironment"
    GROUP = MANAGEMENT
    TAGS = ("install", "venv", "PyTorch", "TensorFlow", "ONNX", "pip")

    def title(self) -> str:
        return tr("Set up environment")

    def summary(self) -> str:
        return tr(
            "Makes the Python environment in which the engine works, apart from QGIS's own: nothing of QGIS is "
            "changed. Stopped or failed set-ups go on where they were."
        )

    def declare(self) -> List[QgsProcessingParameterDefinition]:
        frameworks = QgsProcessingParameterEnum(
            "FRAMEWORKS",
            tr("Frameworks"),
            list(FRAMEWORKS),
            allowMultiple=True,
            defaultValue=["pytorch"],
            usesStaticStrings=True,
        )
        frameworks.setHelp(
            tr(
                "onnx is the smallest and runs ONNX models; pytorch trains and runs most models (about 1 to 5 GB); "
                "tensorflow runs TensorFlow and Keras models (about 2 GB); cluster adds what Dask clusters need."
            )
        )
        return [
            frameworks,
            parameters.file(
                "PYTHON",
                tr("Python interpreter"),
                tr("A Python 3.10 or newer to build on; empty looks for one on this computer."),
                file_filter=tr("Programs") + " (*)",
                optional=True,
            ),
            parameters.folder(
                "LOCATION",
                tr("Folder of environments"),
                tr("Where to make it; empty for the usual place for data of this user."),
                optional=True,
            ),
            parameters.advanced(
                parameters.folder(
                    "WHEELS",
                    tr("Folder of wheels"),
                    tr("Install from these files alone, without a network."),
                    optional=True,
                )
            ),
            parameters.advanced(
                parameters.boolean(
                    "REMOVE_OUTDATED",
                    tr("Remove environments of earlier versions"),
                    tr(
                        "Afterwards, removes the environments that earlier versions of Deep Raster made in the same "
                        "folder. Another QGIS that still has such a version would have to set up its own again."
                    ),
                )
            ),
        ]

    def declare_outputs(self) -> List[QgsProcessingOutputDefinition]:
        return [QgsProcessingOutputString("ENVIRONMENT", tr("Interpreter of the environment"))]

    def gather(self, read: ParameterReader) -> None:
        self._frameworks = read.choices("FRAMEWORKS")
        self._python = read.file("PYTHON")
        self._location = read.file("LOCATION") or settings.location()
        self._wheels = read.existing_file("WHEELS", tr("folder"))
        self._remove_outdated = read.flag("REMOVE_OUTDATED")

    def work(self, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> Dict[str, Any]:
        def show(fraction: float, text: str) -> None:
            feedback.setProgress(100.0 * fraction)
            feedback.setProgressText(text)

        try:
            environment = create_environment(
                self._frameworks,
                python=self._python,
                location=self._location,
                wheels=self._wheels,
                on_progress=show,
                is_cancelled=feedback.isCanceled,
            )
            checked = check_environment(environment.python, environment.frameworks, imports=True)
            environments.forget()
            self._tidy(feedback)
        except JobCancelled as error:
            raise QgsProcessingException(tr("Cancelled; the same set-up goes on where it stopped.")) from error
        except DeepRasterError as error:
            raise QgsProcessingException(sentence(error)) from error
        for name, version in sorted(checked.versions.items()):
            feedback.pushInfo(f"{name} {version}")
        feedback.pushInfo(tr("Complete for: {}").format(", ".join(checked.frameworks)))
        return {"ENVIRONMENT": checked.python}

    def _tidy(self, feedback: QgsProcessingFeedback) -> None:
        """Remove the environments of earlier versions, or tell what they occupy."""
        if self._remove_outdated:
            freed = remove_outdated(self._location, feedback.isCanceled)
            feedback.pushInfo(tr("Earlier environments removed: {:.1f} GB are free again.").format(freed / 1e9))
            return
        old = outdated_environments(self._location)
        if old:
            text = tr("Environments of earlier versions: {}, {:.1f} GB. REMOVE_OUTDATED removes them.")
            feedback.pushInfo(text.format(len(old), sum(one.bytes for one in old) / 1e9))
