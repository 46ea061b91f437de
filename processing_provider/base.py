"""What all algorithms share: names and texts, and for those of the engine the way from parameters to results.

A subclass says what it asks for (:meth:`declare`) and how that becomes a job (:meth:`job`); the rest is here. The job
is built in ``prepareAlgorithm``, which runs in the thread of the project's layers; temporary copies and the engine run
in ``processAlgorithm``, in a thread of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputDefinition,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterMultipleLayers,
)
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QWidget

from ..engine import jobs
from ..engine.errors import DeepRasterError
from . import running, sources
from .help import short_help
from .outputs import style_when_loaded
from .reader import ParameterReader
from .text import tr

ICONS = Path(__file__).parent / "icons"

# The desktop may put a dialog of its own in front of an algorithm, to ask for consent; the toolbox needs none.
DialogFactory = Callable[[QgsProcessingAlgorithm, Optional[QWidget]], Optional[QWidget]]
dialog_factories: Dict[str, DialogFactory] = {}

LABELLING, TRAINING_DATA, TRAINING, PACKAGES = "labelling", "trainingdata", "training", "packages"
INFERENCE, EVALUATION, MANAGEMENT = "inference", "evaluation", "management"


def group_label(group: str) -> str:
    """Return the translated name of a group."""
    return {
        LABELLING: tr("Labelling"),
        TRAINING_DATA: tr("Training data"),
        TRAINING: tr("Training"),
        PACKAGES: tr("Packages"),
        INFERENCE: tr("Inference"),
        EVALUATION: tr("Evaluation"),
        MANAGEMENT: tr("Management"),
    }[group]


class DeepRasterAlgorithm(QgsProcessingAlgorithm):
    """Names and texts. Subclasses set ``ID``, ``GROUP`` and ``TAGS`` and give title, summary and parameters."""

    ID = ""
    GROUP = ""
    TAGS: Sequence[str] = ()
    COMMON_TAGS = ("deep learning", "Esri", "ArcGIS", "dlpk", "emd", "neural network", "AI")

    def title(self) -> str:
        """Return the name in the toolbox."""
        raise NotImplementedError

    def summary(self) -> str:
        """Return what the algorithm does, in one or two sentences."""
        raise NotImplementedError

    def declare(self) -> List[QgsProcessingParameterDefinition]:
        """Return the parameters in order, destinations included."""
        raise NotImplementedError

    def declare_outputs(self) -> List[QgsProcessingOutputDefinition]:
        """Return outputs that are no destination parameters."""
        return []

    # The names below are QGIS's.

    def initAlgorithm(self, configuration: Optional[Dict[str, Any]] = None) -> None:
        for parameter in self.declare():
            self.addParameter(parameter)
        for output in self.declare_outputs():
            self.addOutput(output)

    def createInstance(self) -> DeepRasterAlgorithm:
        return type(self)()

    def name(self) -> str:
        return self.ID

    def displayName(self) -> str:
        return self.title()

    def group(self) -> str:
        return group_label(self.GROUP)

    def groupId(self) -> str:
        return self.GROUP

    def tags(self) -> List[str]:
        return [*self.TAGS, *self.COMMON_TAGS]

    def icon(self) -> QIcon:
        return QIcon(self.svgIconPath())

    def svgIconPath(self) -> str:
        return str(ICONS / f"{self.GROUP}.svg")

    def shortDescription(self) -> str:
        return self.summary()

    def shortHelpString(self) -> str:
        return short_help(self)

    def createCustomParametersWidget(self, parent: Optional[QWidget] = None) -> Optional[QWidget]:
        factory = dialog_factories.get(self.ID)
        return factory(self, parent) if factory else None

    def checkParameterValues(self, parameters: Dict[str, Any], context: QgsProcessingContext) -> Tuple[bool, str]:
        values = dict(parameters)
        for definition in self.parameterDefinitions():
            name = definition.name()
            if name not in values:
                continue
            if isinstance(definition, QgsProcessingParameterMultipleLayers):  # stock ones know no folders
                values[name] = sources.without_folders(values[name])
            if definition.isDestination() and values[name]:
                ok, reason = definition.isSupportedOutputValue(values[name], context)
                if not ok:
                    return False, f"{name}: {reason}"
        return super().checkParameterValues(values, context)

    def gather(self, read: ParameterReader) -> None:
        """Read the parameters; in the thread of the project's layers."""

    def work(self, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> Dict[str, Any]:
        """Do the work and return the results; in the algorithm's thread."""
        raise NotImplementedError

    def prepareAlgorithm(
        self, parameters: Dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        # QGIS turns what is raised here into “There were errors”; scripts get the sentence if it is raised later.
        self._fault: Optional[Exception] = None
        read = ParameterReader(self, parameters, context)
        try:
            self.gather(read)
        except (DeepRasterError, QgsProcessingException) as error:
            self._fault = error
        finally:
            self._to_load = read.to_load
            read.close()
        return True

    def processAlgorithm(
        self, parameters: Dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Dict[str, Any]:
        if self._fault is not None:
            raise QgsProcessingException(str(self._fault)) from self._fault
        results = self.work(context, feedback)
        # In another thread QGIS uses another context here and forgets what was announced while preparing.
        for path, details in self._to_load.items():
            if not context.willLoadLayerOnCompletion(path):
                context.addLayerToLoadOnCompletion(path, QgsProcessingContext.LayerDetails(*details))
            style_when_loaded(path, context)
        return results


class EngineAlgorithm(DeepRasterAlgorithm):
    """An algorithm whose work is one job of the engine."""

    def job(self, read: ParameterReader) -> jobs.Job:
        """Return the job for the parameters; layers that need a copy are registered with ``read``."""
        raise NotImplementedError

    def finish(self, results: Dict[str, Any], feedback: QgsProcessingFeedback) -> None:
        """Complete the results after the engine (styles and the like); in the algorithm's thread."""

    def canExecute(self) -> Tuple[bool, str]:
        return running.environment_state()

    def gather(self, read: ParameterReader) -> None:
        running.raise_without_environment()
        self._reader = read
        self._job = self.job(read)

    def work(self, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> Dict[str, Any]:
        try:
            for copy in self._reader.copies:
                copy(feedback)
                running.raise_if_cancelled(feedback)
            values = running.run(self._job, feedback)
        finally:
            self._reader.remove_copies()
        self._load_folders(values.get("WRITTEN", {}))
        results = {**self._reader.destinations, **self._declared(values)}
        self.finish(results, feedback)
        return results

    def _load_folders(self, written: Dict[str, List[str]]) -> None:
        """Have QGIS load the single files of outputs that became folders."""
        while self._reader.folders_to_load:  # emptied: projects must not be held on to
            name, project = self._reader.folders_to_load.popitem()
            for path in written.get(name, ()):
                self._to_load[path] = (Path(path).stem, project, name)

    def _declared(self, values: Dict[str, Any]) -> Dict[str, Any]:
        """Return those of the engine's values that are outputs of this algorithm, under their names here."""
        names = {output.name() for output in self.outputDefinitions()}
        return {name.upper(): value for name, value in values.items() if name.upper() in names}
