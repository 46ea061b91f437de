<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="de" sourcelanguage="en">
<context>
    <name>DeepRaster</name>
    <message>
        <source>Labelling</source>
        <translation>Beschriftung</translation>
    </message>
    <message>
        <source>Training data</source>
        <translation>Trainingsdaten</translation>
    </message>
    <message>
        <source>Training</source>
        <translation>Training</translation>
    </message>
    <message>
        <source>Packages</source>
        <translation>Pakete</translation>
    </message>
    <message>
        <source>Inference</source>
        <translation>Inferenz</translation>
    </message>
    <message>
        <source>Evaluation</source>
        <translation>Auswertung</translation>
    </message>
    <message>
        <source>Management</source>
        <translation>Verwaltung</translation>
    </message>
    <message>
        <source>Classify objects</source>
        <translation>Objekte klassifizieren</translation>
    </message>
    <message>
        <source>Shows a trained network the image under each feature and writes the features with the class it recognises; without features each raster is one object.</source>
        <translation>Zeigt einem trainierten Netz das Bild unter jedem Objekt und schreibt die Objekte mit der erkannten Klasse; ohne Objekte ist jedes Raster ein Objekt.</translation>
    </message>
    <message>
        <source>Features</source>
        <translation>Objekte</translation>
    </message>
    <message>
        <source>Points, lines or polygons to classify; all or the selected ones.</source>
        <translation>Zu klassifizierende Punkte, Linien oder Polygone; alle oder die ausgewählten.</translation>
    </message>
    <message>
        <source>Label field</source>
        <translation>Feld für die Klasse</translation>
    </message>
    <message>
        <source>Name of the field that receives the class name.</source>
        <translation>Name des Feldes, in das der Klassenname geschrieben wird.</translation>
    </message>
    <message>
        <source>Classified features</source>
        <translation>Klassifizierte Objekte</translation>
    </message>
    <message>
        <source>The features, their class and its confidence.</source>
        <translation>Die Objekte mit ihrer Klasse und deren Konfidenz.</translation>
    </message>
    <message>
        <source>Number of features</source>
        <translation>Anzahl der Objekte</translation>
    </message>
    <message>
        <source>model</source>
        <translation>Modell</translation>
    </message>
    <message>
        <source>Classify pixels</source>
        <translation>Pixel klassifizieren</translation>
    </message>
    <message>
        <source>Runs a trained network over a raster and writes a class raster with colours and names (or the values of a regression or super-resolution network).</source>
        <translation>Wendet ein trainiertes Netz auf ein Raster an und schreibt ein Klassenraster mit Farben und Namen (oder die Werte eines Regressions- oder Superauflösungsnetzes).</translation>
    </message>
    <message>
        <source>Classified raster</source>
        <translation>Klassifiziertes Raster</translation>
    </message>
    <message>
        <source>A GeoTIFF with the class values. With ITEMS_SEPARATELY this and the other outputs are folders, named without the ending, that receive one file per raster under the raster's name.</source>
        <translation>Ein GeoTIFF mit den Klassenwerten. Mit ITEMS_SEPARATELY sind diese und die anderen Ausgaben Ordner, benannt ohne die Endung, die je Raster eine Datei mit dessen Namen aufnehmen.</translation>
    </message>
    <message>
        <source>Confidence</source>
        <translation>Konfidenz</translation>
    </message>
    <message>
        <source>The probability of the class chosen, per pixel.</source>
        <translation>Die Wahrscheinlichkeit der gewählten Klasse, je Pixel.</translation>
    </message>
    <message>
        <source>Probabilities</source>
        <translation>Wahrscheinlichkeiten</translation>
    </message>
    <message>
        <source>One band per class with its probability.</source>
        <translation>Je Klasse ein Kanal mit ihrer Wahrscheinlichkeit.</translation>
    </message>
    <message>
        <source>Class polygons</source>
        <translation>Klassenpolygone</translation>
    </message>
    <message>
        <source>The classified areas as polygons.</source>
        <translation>Die klassifizierten Flächen als Polygone.</translation>
    </message>
    <message>
        <source>Compute accuracy for object detection</source>
        <translation>Genauigkeit der Objekterkennung berechnen</translation>
    </message>
    <message>
        <source>Matches detected objects with reference objects and reports precision, recall, F1 and average precision per class and overall.</source>
        <translation>Gleicht erkannte Objekte mit Referenzobjekten ab und gibt Präzision, Trefferquote, F1 und mittlere Präzision je Klasse und insgesamt an.</translation>
    </message>
    <message>
        <source>Detected objects</source>
        <translation>Erkannte Objekte</translation>
    </message>
    <message>
        <source>Polygons that a network found.</source>
        <translation>Polygone, die ein Netz gefunden hat.</translation>
    </message>
    <message>
        <source>Reference objects</source>
        <translation>Referenzobjekte</translation>
    </message>
    <message>
        <source>Polygons that are known to be right.</source>
        <translation>Polygone, die als richtig bekannt sind.</translation>
    </message>
    <message>
        <source>Class field of detected objects</source>
        <translation>Klassenfeld der erkannten Objekte</translation>
    </message>
    <message>
        <source>Empty takes a field Class, Classvalue or Value if there is one.</source>
        <translation>Leer: ein Feld Class, Classvalue oder Value, falls vorhanden.</translation>
    </message>
    <message>
        <source>Class field of reference objects</source>
        <translation>Klassenfeld der Referenzobjekte</translation>
    </message>
    <message>
        <source>Empty takes a field Classname, Classvalue, Class or Value if there is one.</source>
        <translation>Leer: ein Feld Classname, Classvalue, Class oder Value, falls vorhanden.</translation>
    </message>
    <message>
        <source>Confidence field</source>
        <translation>Konfidenzfeld</translation>
    </message>
    <message>
        <source>Field of the detected objects with their confidence (any scale).</source>
        <translation>Feld der erkannten Objekte mit ihrer Konfidenz (beliebige Skala).</translation>
    </message>
    <message>
        <source>Least overlap of a match</source>
        <translation>Mindestüberlappung für einen Treffer</translation>
    </message>
    <message>
        <source>A detected object matches a reference object from this intersection over union on (0 to 1).</source>
        <translation>Ab diesem Verhältnis von Schnitt- zu Vereinigungsfläche (0 bis 1) entspricht ein erkanntes Objekt einem Referenzobjekt.</translation>
    </message>
    <message>
        <source>Mask</source>
        <translation>Maske</translation>
    </message>
    <message>
        <source>Only objects inside these polygons count.</source>
        <translation>Nur Objekte innerhalb dieser Polygone zählen.</translation>
    </message>
    <message>
        <source>Accuracy table</source>
        <translation>Genauigkeitstabelle</translation>
    </message>
    <message>
        <source>A table with one row per class and one for all.</source>
        <translation>Eine Tabelle mit einer Zeile je Klasse und einer für alle.</translation>
    </message>
    <message>
        <source>Accuracy report</source>
        <translation>Genauigkeitsbericht</translation>
    </message>
    <message>
        <source>A page with the figures and the precision–recall curve.</source>
        <translation>Eine Seite mit den Kennzahlen und der Präzision-Trefferquote-Kurve.</translation>
    </message>
    <message>
        <source>HTML files (*.html)</source>
        <translation>HTML-Dateien (*.html)</translation>
    </message>
    <message>
        <source>Precision</source>
        <translation>Präzision</translation>
    </message>
    <message>
        <source>Recall</source>
        <translation>Trefferquote</translation>
    </message>
    <message>
        <source>F1 score</source>
        <translation>F1-Maß</translation>
    </message>
    <message>
        <source>Average precision</source>
        <translation>Mittlere Präzision</translation>
    </message>
    <message>
        <source>Mean average precision (IoU 0.5 to 0.95)</source>
        <translation>Mittel der mittleren Präzision (IoU 0,5 bis 0,95)</translation>
    </message>
    <message>
        <source>Give detected and reference objects (DETECTED and REFERENCE).</source>
        <translation>Bitte erkannte Objekte und Referenzobjekte angeben (DETECTED und REFERENCE).</translation>
    </message>
    <message>
        <source>The layer “{}” is read from a service that has no pixels of its own. Give the extent to work on and the cell size (in its map units).</source>
        <translation>Der Layer „{}“ kommt von einem Dienst, der keine eigenen Pixel hat. Bitte die Ausdehnung, die bearbeitet werden soll, und die Zellgröße (in seinen Karteneinheiten) angeben.</translation>
    </message>
    <message>
        <source>The extent does not touch the layer “{}”.</source>
        <translation>Die Ausdehnung berührt den Layer „{}“ nicht.</translation>
    </message>
    <message>
        <source>Reading {columns} × {rows} pixels of “{layer}” through QGIS.</source>
        <translation>{columns} × {rows} Pixel von „{layer}“ werden über QGIS gelesen.</translation>
    </message>
    <message>
        <source>The temporary file {} cannot be written.</source>
        <translation>Die temporäre Datei {} kann nicht geschrieben werden.</translation>
    </message>
    <message>
        <source>The layer “{layer}” gave no pixels for {extent}. Check the connection and try again.</source>
        <translation>Der Layer „{layer}“ hat für {extent} keine Pixel geliefert. Bitte die Verbindung prüfen und es noch einmal versuchen.</translation>
    </message>
    <message>
        <source>“{layer}” cannot be copied: {error}</source>
        <translation>„{layer}“ kann nicht kopiert werden: {error}</translation>
    </message>
    <message>
        <source>Create model package</source>
        <translation>Modellpaket erstellen</translation>
    </message>
    <message>
        <source>Packs a model definition and its files into one deep learning package (.dlpk).</source>
        <translation>Packt eine Modelldefinition und ihre Dateien in ein Deep-Learning-Paket (.dlpk).</translation>
    </message>
    <message>
        <source>Model definition</source>
        <translation>Modelldefinition</translation>
    </message>
    <message>
        <source>The definition (.emd); or a bare network (ONNX, TorchScript, torch.export, Keras, TensorFlow graph), from which a definition is proposed.</source>
        <translation>Die Definition (.emd) oder ein bloßes Netz (ONNX, TorchScript, torch.export, Keras, TensorFlow-Graph), aus dem eine Definition vorgeschlagen wird.</translation>
    </message>
    <message>
        <source>Definitions and networks</source>
        <translation>Definitionen und Netze</translation>
    </message>
    <message>
        <source>Further files</source>
        <translation>Weitere Dateien</translation>
    </message>
    <message>
        <source>Files to pack besides those the definition names, with semicolons between.</source>
        <translation>Dateien, die außer den in der Definition genannten eingepackt werden, durch Semikolon getrennt.</translation>
    </message>
    <message>
        <source>What the network does not tell</source>
        <translation>Was das Netz nicht verrät</translation>
    </message>
    <message>
        <source>For a bare network: name=value;name=value or JSON with members of the definition, for example ModelType=ObjectDetection;Classes=tree,house.</source>
        <translation>Für ein bloßes Netz: Name=Wert;Name=Wert oder JSON mit Angaben der Definition, zum Beispiel ModelType=ObjectDetection;Classes=Baum,Haus.</translation>
    </message>
    <message>
        <source>Package</source>
        <translation>Paket</translation>
    </message>
    <message>
        <source>The package to write.</source>
        <translation>Das zu schreibende Paket.</translation>
    </message>
    <message>
        <source>Deep learning packages (*.dlpk)</source>
        <translation>Deep-Learning-Pakete (*.dlpk)</translation>
    </message>
    <message>
        <source>definition</source>
        <translation>Definition</translation>
    </message>
    <message>
        <source>Give a model definition (DEFINITION).</source>
        <translation>Bitte eine Modelldefinition angeben (DEFINITION).</translation>
    </message>
    <message>
        <source>Detect change</source>
        <translation>Veränderungen erkennen</translation>
    </message>
    <message>
        <source>Compares two rasters of the same place with a trained network and writes what changed.</source>
        <translation>Vergleicht zwei Raster desselben Ortes mit einem trainierten Netz und schreibt, was sich verändert hat.</translation>
    </message>
    <message>
        <source>From raster</source>
        <translation>Früheres Raster</translation>
    </message>
    <message>
        <source>The raster of the earlier date.</source>
        <translation>Das Raster des früheren Zeitpunkts.</translation>
    </message>
    <message>
        <source>To raster</source>
        <translation>Späteres Raster</translation>
    </message>
    <message>
        <source>The raster of the later date, with the same bands.</source>
        <translation>Das Raster des späteren Zeitpunkts, mit denselben Kanälen.</translation>
    </message>
    <message>
        <source>Change raster</source>
        <translation>Veränderungsraster</translation>
    </message>
    <message>
        <source>A GeoTIFF: 0 where nothing changed, else the class of the change.</source>
        <translation>Ein GeoTIFF: 0, wo sich nichts verändert hat, sonst die Klasse der Veränderung.</translation>
    </message>
    <message>
        <source>Give both rasters (FROM and TO).</source>
        <translation>Bitte beide Raster angeben (FROM und TO).</translation>
    </message>
    <message>
        <source>Detect objects</source>
        <translation>Objekte erkennen</translation>
    </message>
    <message>
        <source>Runs a trained network over a raster and writes the objects it finds as polygons with class and confidence.</source>
        <translation>Wendet ein trainiertes Netz auf ein Raster an und schreibt die gefundenen Objekte als Polygone mit Klasse und Konfidenz.</translation>
    </message>
    <message>
        <source>Remove duplicates</source>
        <translation>Doppelte entfernen</translation>
    </message>
    <message>
        <source>Of objects that overlap (also where tiles meet), keep only the most confident one (non-maximum suppression).</source>
        <translation>Von Objekten, die sich überlappen (auch wo Kacheln aneinanderstoßen), bleibt nur das mit der höchsten Konfidenz (Non-Maximum-Suppression).</translation>
    </message>
    <message>
        <source>Largest overlap</source>
        <translation>Größte Überlappung</translation>
    </message>
    <message>
        <source>Part of their common area that two objects may share (intersection over union, 0 to 1).</source>
        <translation>Anteil der gemeinsamen Fläche, den zwei Objekte teilen dürfen (Schnitt- zu Vereinigungsfläche, 0 bis 1).</translation>
    </message>
    <message>
        <source>Name of the field that receives the confidence.</source>
        <translation>Name des Feldes, in das die Konfidenz geschrieben wird.</translation>
    </message>
    <message>
        <source>Class field</source>
        <translation>Klassenfeld</translation>
    </message>
    <message>
        <source>One polygon per object.</source>
        <translation>Ein Polygon je Objekt.</translation>
    </message>
    <message>
        <source>Number of objects</source>
        <translation>Anzahl der Objekte</translation>
    </message>
    <message>
        <source>The Python interpreter {} chosen for the engine does not exist. {}</source>
        <translation>Den für die Berechnung gewählten Python-Interpreter {} gibt es nicht. {}</translation>
    </message>
    <message>
        <source>The engine has no Python environment yet. {}</source>
        <translation>Der Rechenprozess hat noch keine Python-Umgebung. {}</translation>
    </message>
    <message>
        <source>Run “Set up environment” (deepraster:setupenvironment), or choose an existing interpreter in Settings ▸ Options ▸ Deep Raster.</source>
        <translation>Bitte „Umgebung einrichten“ (deepraster:setupenvironment) ausführen oder unter Einstellungen ▸ Optionen ▸ Deep Raster einen vorhandenen Interpreter wählen.</translation>
    </message>
    <message>
        <source>Export training data</source>
        <translation>Trainingsdaten exportieren</translation>
    </message>
    <message>
        <source>Cuts a raster and its labels into small images (chips) with label files, in the formats that training tools read.</source>
        <translation>Schneidet aus einem Raster und seinen Beschriftungen kleine Bilder (Chips) mit Beschriftungsdateien, in den Formaten, die Trainingsprogramme lesen.</translation>
    </message>
    <message>
        <source>Input raster</source>
        <translation>Eingaberaster</translation>
    </message>
    <message>
        <source>The imagery to cut chips from.</source>
        <translation>Das Bildmaterial, aus dem Chips geschnitten werden.</translation>
    </message>
    <message>
        <source>Second raster</source>
        <translation>Zweites Raster</translation>
    </message>
    <message>
        <source>The later date for change detection, or the target of image translation.</source>
        <translation>Der spätere Zeitpunkt für die Veränderungserkennung oder das Ziel einer Bildübersetzung.</translation>
    </message>
    <message>
        <source>Labels</source>
        <translation>Beschriftungen</translation>
    </message>
    <message>
        <source>Labelled features, or a raster of class values; formats without labels need none.</source>
        <translation>Beschriftete Objekte oder ein Raster mit Klassenwerten; Formate ohne Beschriftung brauchen keine.</translation>
    </message>
    <message>
        <source>Field with the class of each feature; empty takes Classvalue, Value or Classname if there is one, else all features are one class.</source>
        <translation>Feld mit der Klasse jedes Objekts; leer: Classvalue, Value oder Classname, falls vorhanden, sonst sind alle Objekte eine Klasse.</translation>
    </message>
    <message>
        <source>Label format</source>
        <translation>Beschriftungsformat</translation>
    </message>
    <message>
        <source>How labels are written beside the chips.</source>
        <translation>Wie Beschriftungen neben den Chips abgelegt werden.</translation>
    </message>
    <message>
        <source>Image format</source>
        <translation>Bildformat</translation>
    </message>
    <message>
        <source>Format of the chips; PNG and JPEG hold at most three bands.</source>
        <translation>Format der Chips; PNG und JPEG fassen höchstens drei Kanäle.</translation>
    </message>
    <message>
        <source>Tile width</source>
        <translation>Kachelbreite</translation>
    </message>
    <message>
        <source>Pixels.</source>
        <translation>Pixel.</translation>
    </message>
    <message>
        <source>Tile height</source>
        <translation>Kachelhöhe</translation>
    </message>
    <message>
        <source>Step to the right</source>
        <translation>Schritt nach rechts</translation>
    </message>
    <message>
        <source>Pixels from chip to chip; 0 takes the tile width.</source>
        <translation>Pixel von Chip zu Chip; 0 nimmt die Kachelbreite.</translation>
    </message>
    <message>
        <source>Step down</source>
        <translation>Schritt nach unten</translation>
    </message>
    <message>
        <source>Pixels from chip to chip; 0 takes the tile height.</source>
        <translation>Pixel von Chip zu Chip; 0 nimmt die Kachelhöhe.</translation>
    </message>
    <message>
        <source>Also tiles without labels</source>
        <translation>Auch Kacheln ohne Beschriftung</translation>
    </message>
    <message>
        <source>Write chips in which nothing is labelled as well.</source>
        <translation>Auch Chips schreiben, in denen nichts beschriftet ist.</translation>
    </message>
    <message>
        <source>Radius around points</source>
        <translation>Radius um Punkte</translation>
    </message>
    <message>
        <source>Map units; makes circles of labelled points.</source>
        <translation>Karteneinheiten; macht aus beschrifteten Punkten Kreise.</translation>
    </message>
    <message>
        <source>Only chips completely inside these polygons are written.</source>
        <translation>Nur Chips, die ganz innerhalb dieser Polygone liegen, werden geschrieben.</translation>
    </message>
    <message>
        <source>Rotation angle</source>
        <translation>Drehwinkel</translation>
    </message>
    <message>
        <source>Degrees; chips are written again for each multiple of the angle below 360.</source>
        <translation>Grad; die Chips werden für jedes Vielfache des Winkels unter 360 noch einmal geschrieben.</translation>
    </message>
    <message>
        <source>Reference system</source>
        <translation>Bezugssystem</translation>
    </message>
    <message>
        <source>MAP_SPACE for maps, PIXEL_SPACE for images without a place on the map.</source>
        <translation>MAP_SPACE für Karten, PIXEL_SPACE für Bilder ohne Ort auf der Karte.</translation>
    </message>
    <message>
        <source>Blacken around features</source>
        <translation>Um Objekte herum schwärzen</translation>
    </message>
    <message>
        <source>For labelled tiles: hide what is not the object.</source>
        <translation>Für beschriftete Kacheln: verbergen, was nicht zum Objekt gehört.</translation>
    </message>
    <message>
        <source>Crop mode</source>
        <translation>Zuschnitt</translation>
    </message>
    <message>
        <source>For labelled tiles: chips of the tile size, or of the object's own size.</source>
        <translation>Für beschriftete Kacheln: Chips in Kachelgröße oder in der Größe des Objekts.</translation>
    </message>
    <message>
        <source>Instance labels</source>
        <translation>Instanzbeschriftungen</translation>
    </message>
    <message>
        <source>For panoptic segmentation: the single objects, as polygons or raster.</source>
        <translation>Für panoptische Segmentierung: die einzelnen Objekte, als Polygone oder Raster.</translation>
    </message>
    <message>
        <source>Least part of an object</source>
        <translation>Kleinster Teil eines Objekts</translation>
    </message>
    <message>
        <source>An object is labelled in a chip only if this part of it lies inside (0 to 1).</source>
        <translation>Ein Objekt wird in einem Chip nur beschriftet, wenn mindestens dieser Teil darin liegt (0 bis 1).</translation>
    </message>
    <message>
        <source>Further rasters</source>
        <translation>Weitere Raster</translation>
    </message>
    <message>
        <source>More rasters of the same kind: layers, files or folders.</source>
        <translation>Weitere Raster derselben Art: Layer, Dateien oder Ordner.</translation>
    </message>
    <message>
        <source>Chips that are there</source>
        <translation>Vorhandene Chips</translation>
    </message>
    <message>
        <source>APPEND adds to chips already in the folder, REPLACE removes them first, CONTINUE goes on with the same export where it stopped.</source>
        <translation>APPEND ergänzt die Chips im Ordner, REPLACE entfernt sie zuvor, CONTINUE setzt denselben Export dort fort, wo er aufgehört hat.</translation>
    </message>
    <message>
        <source>Parts to train, validate and test</source>
        <translation>Teile für Training, Validierung und Test</translation>
    </message>
    <message>
        <source>For COCO and YOLO: three parts of 1, given to whole blocks of the raster.</source>
        <translation>Für COCO und YOLO: drei Teile von 1, die ganzen Blöcken des Rasters zugeteilt werden.</translation>
    </message>
    <message>
        <source>Training data folder</source>
        <translation>Ordner der Trainingsdaten</translation>
    </message>
    <message>
        <source>Folder of the chips; an existing one is added to.</source>
        <translation>Ordner der Chips; ein vorhandener wird ergänzt.</translation>
    </message>
    <message>
        <source>Number of chips</source>
        <translation>Anzahl der Chips</translation>
    </message>
    <message>
        <source>Number of labelled objects</source>
        <translation>Anzahl der beschrifteten Objekte</translation>
    </message>
    <message>
        <source>Advanced</source>
        <translation>Erweitert</translation>
    </message>
    <message>
        <source>Label objects</source>
        <translation>Objekte beschriften</translation>
    </message>
    <message>
        <source>Makes a label layer for a raster from a class schema: empty to draw in, or filled with existing features whose classes the schema knows.</source>
        <translation>Erstellt zu einem Raster einen Beschriftungslayer nach einem Klassenschema: leer zum Zeichnen oder gefüllt mit vorhandenen Objekten, deren Klassen das Schema kennt.</translation>
    </message>
    <message>
        <source>Raster</source>
        <translation>Raster</translation>
    </message>
    <message>
        <source>The imagery that is labelled; the layer takes its coordinate system.</source>
        <translation>Das Bildmaterial, das beschriftet wird; der Layer übernimmt sein Koordinatensystem.</translation>
    </message>
    <message>
        <source>Class schema</source>
        <translation>Klassenschema</translation>
    </message>
    <message>
        <source>The classes with values and colours: a schema (.ecs, .json), a table (.csv with name, value, red, green, blue), a QGIS style (.qml) or a model definition (.emd).</source>
        <translation>Die Klassen mit Werten und Farben: ein Schema (.ecs, .json), eine Tabelle (.csv mit name, value, red, green, blue), ein QGIS-Stil (.qml) oder eine Modelldefinition (.emd).</translation>
    </message>
    <message>
        <source>Class schemas</source>
        <translation>Klassenschemata</translation>
    </message>
    <message>
        <source>Existing features</source>
        <translation>Vorhandene Objekte</translation>
    </message>
    <message>
        <source>Polygons to take over as samples; all or the selected ones.</source>
        <translation>Polygone, die als Stichproben übernommen werden; alle oder die ausgewählten.</translation>
    </message>
    <message>
        <source>Field with the class, as value or as name; empty takes Classvalue, Value, Classname or Class if there is one. With a single class in the schema none is needed.</source>
        <translation>Feld mit der Klasse, als Wert oder als Name; leer: Classvalue, Value, Classname oder Class, falls vorhanden. Bei nur einer Klasse im Schema ist keines nötig.</translation>
    </message>
    <message>
        <source>Label layer</source>
        <translation>Beschriftungslayer</translation>
    </message>
    <message>
        <source>A GeoPackage with the fields Classname, Classvalue, RED, GREEN, BLUE and Count (area of the sample in pixels), colours and a form in which the class is picked by name.</source>
        <translation>Ein GeoPackage mit den Feldern Classname, Classvalue, RED, GREEN, BLUE und Count (Fläche der Stichprobe in Pixeln), mit Farben und einem Formular, in dem die Klasse nach Namen gewählt wird.</translation>
    </message>
    <message>
        <source>Number of samples</source>
        <translation>Anzahl der Stichproben</translation>
    </message>
    <message>
        <source>class schema</source>
        <translation>Klassenschema</translation>
    </message>
    <message>
        <source>Give a class schema (SCHEMA).</source>
        <translation>Bitte ein Klassenschema angeben (SCHEMA).</translation>
    </message>
    <message>
        <source>Label layers are GeoPackages; choose an output that ends with .gpkg.</source>
        <translation>Label-Layer sind GeoPackages; bitte eine Ausgabe wählen, die auf .gpkg endet.</translation>
    </message>
    <message>
        <source>Give the raster to label (INPUT).</source>
        <translation>Bitte das zu beschriftende Raster angeben (INPUT).</translation>
    </message>
    <message>
        <source>The raster “{}” has no coordinate system. Set one in the properties of the layer.</source>
        <translation>Das Raster „{}“ hat kein Koordinatensystem. Bitte in den Eigenschaften des Layers eines festlegen.</translation>
    </message>
    <message>
        <source>The features have no field “{asked}”. They have: {known}.</source>
        <translation>Die Objekte haben kein Feld „{asked}“. Vorhanden sind: {known}.</translation>
    </message>
    <message>
        <source>Name the field that holds the class of the features (CLASS_FIELD); the schema has several classes.</source>
        <translation>Bitte das Feld mit der Klasse der Objekte nennen (CLASS_FIELD); das Schema hat mehrere Klassen.</translation>
    </message>
    <message>
        <source>{path} cannot be written: {error}</source>
        <translation>{path} kann nicht geschrieben werden: {error}</translation>
    </message>
    <message>
        <source>{} samples.</source>
        <translation>{} Stichproben.</translation>
    </message>
    <message>
        <source>Cancelled.</source>
        <translation>Abgebrochen.</translation>
    </message>
    <message>
        <source>The schema does not know these classes: {}.</source>
        <translation>Das Schema kennt diese Klassen nicht: {}.</translation>
    </message>
    <message>
        <source>{count} features lie outside the raster “{name}”.</source>
        <translation>{count} Objekte liegen außerhalb des Rasters „{name}“.</translation>
    </message>
    <message>
        <source>{} features have no geometry that can be placed on the raster.</source>
        <translation>{} Objekte haben keine Geometrie, die auf dem Raster Platz findet.</translation>
    </message>
    <message>
        <source>No feature could be taken over.</source>
        <translation>Kein Objekt konnte übernommen werden.</translation>
    </message>
    <message>
        <source>Classes</source>
        <translation>Klassen</translation>
    </message>
    <message>
        <source>Non-maximum suppression</source>
        <translation>Non-Maximum-Suppression</translation>
    </message>
    <message>
        <source>Of polygons that overlap too much, keeps only the most confident one.</source>
        <translation>Von Polygonen, die sich zu stark überlappen, bleibt nur das mit der höchsten Konfidenz.</translation>
    </message>
    <message>
        <source>Polygons with a confidence.</source>
        <translation>Polygone mit einer Konfidenz.</translation>
    </message>
    <message>
        <source>Field with the confidence (any scale; larger is better).</source>
        <translation>Feld mit der Konfidenz (beliebige Skala; größer ist besser).</translation>
    </message>
    <message>
        <source>Only objects of the same class compete; empty takes Class, Classvalue or Value if there is one.</source>
        <translation>Nur Objekte derselben Klasse konkurrieren; leer: Class, Classvalue oder Value, falls vorhanden.</translation>
    </message>
    <message>
        <source>Remaining objects</source>
        <translation>Verbleibende Objekte</translation>
    </message>
    <message>
        <source>The objects that are kept.</source>
        <translation>Die Objekte, die bleiben.</translation>
    </message>
    <message>
        <source>Number of objects kept</source>
        <translation>Anzahl der verbleibenden Objekte</translation>
    </message>
    <message>
        <source>Give the detected objects (INPUT).</source>
        <translation>Bitte die erkannten Objekte angeben (INPUT).</translation>
    </message>
    <message>
        <source>Model package information</source>
        <translation>Informationen zum Modellpaket</translation>
    </message>
    <message>
        <source>Writes the card of a model: type, classes, bands, tile size, arguments, figures, files and what the checks found. Nothing of the package is run.</source>
        <translation>Schreibt den Steckbrief eines Modells: Art, Klassen, Kanäle, Kachelgröße, Argumente, Kennzahlen, Dateien und was die Prüfungen ergeben haben. Aus dem Paket wird nichts ausgeführt.</translation>
    </message>
    <message>
        <source>Model</source>
        <translation>Modell</translation>
    </message>
    <message>
        <source>A deep learning package (.dlpk) or a model definition (.emd).</source>
        <translation>Ein Deep-Learning-Paket (.dlpk) oder eine Modelldefinition (.emd).</translation>
    </message>
    <message>
        <source>Card</source>
        <translation>Steckbrief</translation>
    </message>
    <message>
        <source>The card as a page for people.</source>
        <translation>Der Steckbrief als Seite zum Lesen.</translation>
    </message>
    <message>
        <source>Card as JSON</source>
        <translation>Steckbrief als JSON</translation>
    </message>
    <message>
        <source>The card for scripts.</source>
        <translation>Der Steckbrief für Skripte.</translation>
    </message>
    <message>
        <source>JSON files (*.json)</source>
        <translation>JSON-Dateien (*.json)</translation>
    </message>
    <message>
        <source>The ending names the format: .gpkg, .fgb, .shp or .geojson.</source>
        <translation>Die Endung nennt das Format: .gpkg, .fgb, .shp oder .geojson.</translation>
    </message>
    <message>
        <source>The imagery to work on: any raster layer of the project, a file, or a web layer (XYZ, WMS, WCS; these need an extent and a cell size).</source>
        <translation>Das Bildmaterial, das bearbeitet wird: ein beliebiger Rasterlayer des Projekts, eine Datei oder ein Weblayer (XYZ, WMS, WCS; diese brauchen eine Ausdehnung und eine Zellgröße).</translation>
    </message>
    <message>
        <source>More rasters of the same kind (layers, files or folders of images), processed together with the input raster as one mosaic or one by one, see the processing mode.</source>
        <translation>Weitere Raster derselben Art (Layer, Dateien oder Ordner mit Bildern), die zusammen mit dem Eingaberaster als ein Mosaik oder einzeln bearbeitet werden, siehe Verarbeitungsweise.</translation>
    </message>
    <message>
        <source>Deep learning models</source>
        <translation>Deep-Learning-Modelle</translation>
    </message>
    <message>
        <source>Model arguments</source>
        <translation>Modellargumente</translation>
    </message>
    <message>
        <source>Settings that the model declares, as name=value;name=value or as JSON, for example padding=64;threshold=0.5. What is left out keeps the model's default; unknown names are refused.</source>
        <translation>Einstellungen, die das Modell angibt, als Name=Wert;Name=Wert oder als JSON, zum Beispiel padding=64;threshold=0.5. Was fehlt, behält die Vorgabe des Modells; unbekannte Namen werden abgelehnt.</translation>
    </message>
    <message>
        <source>A deep learning package (.dlpk) or a model definition (.emd) beside its files.</source>
        <translation>Ein Deep-Learning-Paket (.dlpk) oder eine Modelldefinition (.emd) neben ihren Dateien.</translation>
    </message>
    <message>
        <source>Extent</source>
        <translation>Ausdehnung</translation>
    </message>
    <message>
        <source>The area to work on; empty for the whole raster.</source>
        <translation>Der Bereich, der bearbeitet wird; leer für das ganze Raster.</translation>
    </message>
    <message>
        <source>Cell size</source>
        <translation>Zellgröße</translation>
    </message>
    <message>
        <source>Map units per pixel that the raster is resampled to; empty or 0 keeps the raster's own.</source>
        <translation>Karteneinheiten je Pixel, auf die das Raster umgerechnet wird; leer oder 0 behält die des Rasters.</translation>
    </message>
    <message>
        <source>Polygons outside of which nothing is processed.</source>
        <translation>Polygone, außerhalb derer nichts bearbeitet wird.</translation>
    </message>
    <message>
        <source>Go on where an interrupted run stopped</source>
        <translation>Einen unterbrochenen Lauf fortsetzen</translation>
    </message>
    <message>
        <source>A run that was stopped or broke off leaves its finished tiles behind; the same run, started again, takes them over.</source>
        <translation>Ein angehaltener oder abgebrochener Lauf hinterlässt seine fertigen Kacheln; derselbe Lauf, neu gestartet, übernimmt sie.</translation>
    </message>
    <message>
        <source>Allow the code of this package</source>
        <translation>Code dieses Pakets erlauben</translation>
    </message>
    <message>
        <source>Packages may bring Python code of their own, which never runs unless somebody allows it. sha256:&lt;hash&gt; allows the package with exactly this content, for this run.</source>
        <translation>Pakete können eigenen Python-Code mitbringen, der nie ausgeführt wird, solange ihn niemand erlaubt. sha256:&lt;Hash&gt; erlaubt das Paket mit genau diesem Inhalt, für diesen Lauf.</translation>
    </message>
    <message>
        <source>Processing mode</source>
        <translation>Verarbeitungsweise</translation>
    </message>
    <message>
        <source>MOSAICKED treats all rasters as one image, ITEMS_SEPARATELY gives each its own result and notes the raster's name with it.</source>
        <translation>MOSAICKED behandelt alle Raster als ein Bild, ITEMS_SEPARATELY gibt jedem ein eigenes Ergebnis und vermerkt den Namen des Rasters dabei.</translation>
    </message>
    <message>
        <source>Cluster</source>
        <translation>Rechnerverbund</translation>
    </message>
    <message>
        <source>Address of a Dask scheduler, such as tcp://host:8786; empty works on this computer.</source>
        <translation>Adresse eines Dask-Schedulers, etwa tcp://host:8786; leer rechnet auf diesem Computer.</translation>
    </message>
    <message>
        <source>Processor</source>
        <translation>Prozessor</translation>
    </message>
    <message>
        <source>AUTO takes a graphics card if there is one that the framework can use, else the CPU.</source>
        <translation>AUTO nimmt eine Grafikkarte, wenn es eine gibt, die das Framework nutzen kann, sonst den Hauptprozessor.</translation>
    </message>
    <message>
        <source>GPU numbers</source>
        <translation>GPU-Nummern</translation>
    </message>
    <message>
        <source>Which graphics cards to use, such as 0 or 0,1; empty for all.</source>
        <translation>Welche Grafikkarten genutzt werden, etwa 0 oder 0,1; leer für alle.</translation>
    </message>
    <message>
        <source>Workers</source>
        <translation>Arbeitsprozesse</translation>
    </message>
    <message>
        <source>Processes that work side by side; 0 chooses one per graphics card, or as many as the CPU's cores feed.</source>
        <translation>Prozesse, die nebeneinander arbeiten; 0 wählt einen je Grafikkarte oder so viele, wie die Kerne des Hauptprozessors versorgen.</translation>
    </message>
    <message>
        <source>Deep Raster</source>
        <translation>Deep Raster</translation>
    </message>
    <message>
        <source>Deep Raster: deep learning on rasters</source>
        <translation>Deep Raster: Deep Learning auf Rastern</translation>
    </message>
    <message>
        <source>{name} takes whole numbers such as 0 or 0,1, not “{text}”.</source>
        <translation>{name} erwartet ganze Zahlen wie 0 oder 0,1, nicht „{text}“.</translation>
    </message>
    <message>
        <source>{name} takes three numbers such as 0.8,0.1,0.1, not “{text}”.</source>
        <translation>{name} erwartet drei Zahlen wie 0.8,0.1,0.1, nicht „{text}“.</translation>
    </message>
    <message>
        <source>The {kind} {path} does not exist. Check the path.</source>
        <translation>{kind} nicht gefunden: {path}. Bitte den Pfad prüfen.</translation>
    </message>
    <message>
        <source>{} does not exist. Check the path.</source>
        <translation>{} gibt es nicht. Bitte den Pfad prüfen.</translation>
    </message>
    <message>
        <source>Give an input raster ({}).</source>
        <translation>Bitte ein Eingaberaster angeben ({}).</translation>
    </message>
    <message>
        <source> or </source>
        <translation> oder </translation>
    </message>
    <message>
        <source>vector layer</source>
        <translation>Vektorlayer</translation>
    </message>
    <message>
        <source> (epoch {})</source>
        <translation> (Epoche {})</translation>
    </message>
    <message>
        <source>Set up environment</source>
        <translation>Umgebung einrichten</translation>
    </message>
    <message>
        <source>Makes the Python environment in which the engine works, apart from QGIS's own: nothing of QGIS is changed. Stopped or failed set-ups go on where they were.</source>
        <translation>Erstellt die Python-Umgebung für die Berechnungen, getrennt von der von QGIS: an QGIS wird nichts verändert. Angehaltene oder fehlgeschlagene Einrichtungen werden fortgesetzt.</translation>
    </message>
    <message>
        <source>Frameworks</source>
        <translation>Frameworks</translation>
    </message>
    <message>
        <source>onnx is the smallest and runs ONNX models; pytorch trains and runs most models (about 1 to 5 GB); tensorflow runs TensorFlow and Keras models (about 2 GB); cluster adds what Dask clusters need.</source>
        <translation>onnx ist am kleinsten und führt ONNX-Modelle aus; pytorch trainiert und führt die meisten Modelle aus (etwa 1 bis 5 GB); tensorflow führt TensorFlow- und Keras-Modelle aus (etwa 2 GB); cluster ergänzt, was ein Dask-Rechnerverbund braucht.</translation>
    </message>
    <message>
        <source>Python interpreter</source>
        <translation>Python-Interpreter</translation>
    </message>
    <message>
        <source>A Python 3.10 or newer to build on; empty looks for one on this computer.</source>
        <translation>Ein Python ab 3.10, auf dem aufgebaut wird; leer sucht eines auf diesem Computer.</translation>
    </message>
    <message>
        <source>Programs</source>
        <translation>Programme</translation>
    </message>
    <message>
        <source>Folder of environments</source>
        <translation>Ordner der Umgebungen</translation>
    </message>
    <message>
        <source>Where to make it; empty for the usual place for data of this user.</source>
        <translation>Wo sie angelegt wird; leer für den üblichen Ort für Daten dieses Benutzers.</translation>
    </message>
    <message>
        <source>Folder of wheels</source>
        <translation>Ordner mit Wheels</translation>
    </message>
    <message>
        <source>Install from these files alone, without a network.</source>
        <translation>Nur aus diesen Dateien installieren, ohne Netzwerk.</translation>
    </message>
    <message>
        <source>Remove environments of earlier versions</source>
        <translation>Umgebungen früherer Versionen entfernen</translation>
    </message>
    <message>
        <source>Afterwards, removes the environments that earlier versions of Deep Raster made in the same folder. Another QGIS that still has such a version would have to set up its own again.</source>
        <translation>Entfernt danach die Umgebungen, die frühere Versionen von Deep Raster im selben Ordner angelegt haben. Ein anderes QGIS, das noch eine solche Version hat, müsste seine neu einrichten.</translation>
    </message>
    <message>
        <source>Interpreter of the environment</source>
        <translation>Interpreter der Umgebung</translation>
    </message>
    <message>
        <source>folder</source>
        <translation>Ordner</translation>
    </message>
    <message>
        <source>Cancelled; the same set-up goes on where it stopped.</source>
        <translation>Abgebrochen; dieselbe Einrichtung macht dort weiter, wo sie aufgehört hat.</translation>
    </message>
    <message>
        <source>Complete for: {}</source>
        <translation>Vollständig für: {}</translation>
    </message>
    <message>
        <source>Earlier environments removed: {:.1f} GB are free again.</source>
        <translation>Frühere Umgebungen entfernt: {:.1f} GB sind wieder frei.</translation>
    </message>
    <message>
        <source>Environments of earlier versions: {}, {:.1f} GB. REMOVE_OUTDATED removes them.</source>
        <translation>Umgebungen früherer Versionen: {}, {:.1f} GB. REMOVE_OUTDATED entfernt sie.</translation>
    </message>
    <message>
        <source>The folder {} holds no raster.</source>
        <translation>Der Ordner {} enthält kein Raster.</translation>
    </message>
    <message>
        <source>raster</source>
        <translation>Raster</translation>
    </message>
    <message>
        <source>The {kind} {source} does not exist. Check the path.</source>
        <translation>{kind} nicht gefunden: {source}. Bitte den Pfad prüfen.</translation>
    </message>
    <message>
        <source>{source} cannot be opened as a {kind}. Check that QGIS can show it as a layer.</source>
        <translation>{source} kann nicht geöffnet werden (erwartet: {kind}). Bitte prüfen, ob QGIS es als Layer anzeigen kann.</translation>
    </message>
    <message>
        <source>Train model</source>
        <translation>Modell trainieren</translation>
    </message>
    <message>
        <source>Trains a network on exported chips and writes it as a deep learning package (.dlpk) with a report.</source>
        <translation>Trainiert ein Netz mit exportierten Chips und schreibt es als Deep-Learning-Paket (.dlpk) mit einem Bericht.</translation>
    </message>
    <message>
        <source>Folder of exported chips; several folders with semicolons between.</source>
        <translation>Ordner mit exportierten Chips; mehrere Ordner durch Semikolon getrennt.</translation>
    </message>
    <message>
        <source>Model type</source>
        <translation>Modelltyp</translation>
    </message>
    <message>
        <source>Family of the network: FCOS, RETINANET and FASTERRCNN find boxes, MASKRCNN outlines, UNET to SEGFORMER classify pixels, FEATURE_CLASSIFIER objects. AUTO takes one that suits the labels.</source>
        <translation>Art des Netzes: FCOS, RETINANET und FASTERRCNN finden Rechtecke, MASKRCNN Umrisse, UNET bis SEGFORMER klassifizieren Pixel, FEATURE_CLASSIFIER Objekte. AUTO nimmt eine, die zu den Beschriftungen passt.</translation>
    </message>
    <message>
        <source>Backbone</source>
        <translation>Grundnetz</translation>
    </message>
    <message>
        <source>Network that sees the image, such as resnet18, resnet34 or resnet50; empty for the family's own.</source>
        <translation>Netz, das das Bild auswertet, etwa resnet18, resnet34 oder resnet50; leer für das übliche dieser Art.</translation>
    </message>
    <message>
        <source>Weights of the backbone</source>
        <translation>Gewichte des Grundnetzes</translation>
    </message>
    <message>
        <source>File of weights to start from (.safetensors, .pth); empty starts from scratch.</source>
        <translation>Datei mit Gewichten, von denen ausgegangen wird (.safetensors, .pth); leer beginnt von vorn.</translation>
    </message>
    <message>
        <source>Weights</source>
        <translation>Gewichte</translation>
    </message>
    <message>
        <source>Model to go on from</source>
        <translation>Modell zum Weitertrainieren</translation>
    </message>
    <message>
        <source>A package of the same type whose network is trained further.</source>
        <translation>Ein Paket derselben Art, dessen Netz weiter trainiert wird.</translation>
    </message>
    <message>
        <source>Epochs</source>
        <translation>Epochen</translation>
    </message>
    <message>
        <source>How often all chips are shown.</source>
        <translation>Wie oft alle Chips gezeigt werden.</translation>
    </message>
    <message>
        <source>Batch size</source>
        <translation>Stapelgröße</translation>
    </message>
    <message>
        <source>Chips per step; 0 chooses what fits the memory.</source>
        <translation>Chips je Schritt; 0 wählt, was in den Speicher passt.</translation>
    </message>
    <message>
        <source>Learning rate</source>
        <translation>Lernrate</translation>
    </message>
    <message>
        <source>Empty or 0 takes one that suits the family.</source>
        <translation>Leer oder 0 nimmt eine, die zur Art des Netzes passt.</translation>
    </message>
    <message>
        <source>Chip size</source>
        <translation>Chipgröße</translation>
    </message>
    <message>
        <source>Pixels to crop chips to while training; 0 takes them whole.</source>
        <translation>Pixel, auf die Chips beim Training zugeschnitten werden; 0 nimmt sie ganz.</translation>
    </message>
    <message>
        <source>Part held back</source>
        <translation>Zurückgehaltener Teil</translation>
    </message>
    <message>
        <source>Part of the chips (0 to 1), in spatial blocks, that measures the result and is not trained on.</source>
        <translation>Teil der Chips (0 bis 1), in räumlichen Blöcken, an dem das Ergebnis gemessen und mit dem nicht trainiert wird.</translation>
    </message>
    <message>
        <source>Augmentation</source>
        <translation>Augmentierung</translation>
    </message>
    <message>
        <source>DEFAULT shows turned, mirrored and brightened chips as well, NONE does not; or single strengths such as zoom=1.2;brightness=0.1;turn=0.</source>
        <translation>DEFAULT zeigt auch gedrehte, gespiegelte und aufgehellte Chips, NONE nicht; oder einzelne Stärken wie zoom=1.2;brightness=0.1;turn=0.</translation>
    </message>
    <message>
        <source>Stop without progress</source>
        <translation>Anhalten ohne Fortschritt</translation>
    </message>
    <message>
        <source>Stop after so many epochs without progress; 0 never.</source>
        <translation>Nach so vielen Epochen ohne Fortschritt anhalten; 0 nie.</translation>
    </message>
    <message>
        <source>Freeze the backbone</source>
        <translation>Grundnetz einfrieren</translation>
    </message>
    <message>
        <source>Train only what follows the backbone.</source>
        <translation>Nur trainieren, was auf das Grundnetz folgt.</translation>
    </message>
    <message>
        <source>Further arguments</source>
        <translation>Weitere Argumente</translation>
    </message>
    <message>
        <source>Settings of the model family as name=value;name=value or as JSON.</source>
        <translation>Einstellungen des Modelltyps als Name=Wert;Name=Wert oder als JSON.</translation>
    </message>
    <message>
        <source>Seed</source>
        <translation>Startwert</translation>
    </message>
    <message>
        <source>The same seed gives the same network on the same computer.</source>
        <translation>Derselbe Startwert ergibt auf demselben Computer dasselbe Netz.</translation>
    </message>
    <message>
        <source>Take up the last epoch that an earlier run of the same training has finished.</source>
        <translation>Die letzte Epoche aufnehmen, die ein früherer Lauf desselben Trainings beendet hat.</translation>
    </message>
    <message>
        <source>Model folder</source>
        <translation>Modellordner</translation>
    </message>
    <message>
        <source>Folder of the package, the report and the state of the training.</source>
        <translation>Ordner für das Paket, den Bericht und den Stand des Trainings.</translation>
    </message>
    <message>
        <source>Package (.dlpk)</source>
        <translation>Paket (.dlpk)</translation>
    </message>
    <message>
        <source>Report</source>
        <translation>Bericht</translation>
    </message>
    <message>
        <source>Best value of the measure</source>
        <translation>Bester Wert des Gütemaßes</translation>
    </message>
    <message>
        <source>Give a folder of training data (INPUT).</source>
        <translation>Bitte einen Ordner mit Trainingsdaten angeben (INPUT).</translation>
    </message>
    <message>
        <source>file of weights</source>
        <translation>Datei mit Gewichten</translation>
    </message>
    <message>
        <source>The toolbox “Processing” does not know {}.</source>
        <translation>Die Werkzeugkiste „Verarbeitung“ kennt {} nicht.</translation>
    </message>
    <message>
        <source>Set up…</source>
        <translation>Einrichten…</translation>
    </message>
    <message>
        <source>Environment of the engine</source>
        <translation>Umgebung des Rechenprozesses</translation>
    </message>
    <message>
        <source>the environment made by the set-up</source>
        <translation>die bei der Einrichtung erstellte Umgebung</translation>
    </message>
    <message>
        <source>Any virtual or conda environment with the needed packages may be named here (3.10 or newer).</source>
        <translation>Hier kann jede virtuelle oder Conda-Umgebung mit den nötigen Paketen genannt werden (ab 3.10).</translation>
    </message>
    <message>
        <source>Set up environment…</source>
        <translation>Umgebung einrichten…</translation>
    </message>
    <message>
        <source>Engine</source>
        <translation>Rechenprozess</translation>
    </message>
    <message>
        <source> minutes</source>
        <translation> Minuten</translation>
    </message>
    <message>
        <source>ends with each run</source>
        <translation>endet mit jedem Lauf</translation>
    </message>
    <message>
        <source>A waiting engine keeps its network loaded, so that the next run starts at once.</source>
        <translation>Ein wartender Rechenprozess behält sein Netz im Speicher, sodass der nächste Lauf sofort beginnt.</translation>
    </message>
    <message>
        <source>Stay ready after a run</source>
        <translation>Nach einem Lauf bereit bleiben</translation>
    </message>
    <message>
        <source>the usual place for caches</source>
        <translation>der übliche Ort für Zwischenspeicher</translation>
    </message>
    <message>
        <source>Folder of unpacked packages</source>
        <translation>Ordner ausgepackter Pakete</translation>
    </message>
    <message>
        <source>Packages that were allowed or refused to run their code</source>
        <translation>Pakete, denen das Ausführen ihres Codes erlaubt oder verweigert wurde</translation>
    </message>
    <message>
        <source>Decision</source>
        <translation>Entscheidung</translation>
    </message>
    <message>
        <source>When</source>
        <translation>Wann</translation>
    </message>
    <message>
        <source>Hash</source>
        <translation>Hash</translation>
    </message>
    <message>
        <source>Revoke</source>
        <translation>Widerrufen</translation>
    </message>
    <message>
        <source>allowed</source>
        <translation>erlaubt</translation>
    </message>
    <message>
        <source>refused</source>
        <translation>verweigert</translation>
    </message>
    <message>
        <source>PyTorch</source>
        <translation>PyTorch</translation>
    </message>
    <message>
        <source>train networks, run most models; 1 to 5 GB</source>
        <translation>Netze trainieren, die meisten Modelle ausführen; 1 bis 5 GB</translation>
    </message>
    <message>
        <source>ONNX Runtime only</source>
        <translation>Nur ONNX Runtime</translation>
    </message>
    <message>
        <source>run ONNX models, no training; 0.5 GB</source>
        <translation>ONNX-Modelle ausführen, kein Training; 0,5 GB</translation>
    </message>
    <message>
        <source>TensorFlow</source>
        <translation>TensorFlow</translation>
    </message>
    <message>
        <source>run TensorFlow and Keras models; 2 GB</source>
        <translation>TensorFlow- und Keras-Modelle ausführen; 2 GB</translation>
    </message>
    <message>
        <source>All of these</source>
        <translation>Alle diese</translation>
    </message>
    <message>
        <source>any model; 4 to 8 GB</source>
        <translation>jedes Modell; 4 bis 8 GB</translation>
    </message>
    <message>
        <source>Set up the environment of Deep Raster</source>
        <translation>Die Umgebung von Deep Raster einrichten</translation>
    </message>
    <message>
        <source>The engine of Deep Raster works in a Python environment of its own. Nothing of QGIS is changed, and no administrator rights are needed.</source>
        <translation>Deep Raster rechnet in einer eigenen Python-Umgebung. An QGIS wird nichts verändert, und Administratorrechte sind nicht nötig.</translation>
    </message>
    <message>
        <source>Options</source>
        <translation>Optionen</translation>
    </message>
    <message>
        <source>Empty takes the usual place for data of this user.</source>
        <translation>Leer nimmt den üblichen Ort für Daten dieses Benutzers.</translation>
    </message>
    <message>
        <source>Python to build on</source>
        <translation>Python als Grundlage</translation>
    </message>
    <message>
        <source>Afterwards, remove environments of earlier versions</source>
        <translation>Danach Umgebungen früherer Versionen entfernen</translation>
    </message>
    <message>
        <source>Another QGIS that still has such a version would have to set up its own again.</source>
        <translation>Ein anderes QGIS, das noch eine solche Version hat, müsste seine neu einrichten.</translation>
    </message>
    <message>
        <source>Set up</source>
        <translation>Einrichten</translation>
    </message>
    <message>
        <source>Cancel set-up</source>
        <translation>Einrichtung abbrechen</translation>
    </message>
    <message>
        <source>No environment yet</source>
        <translation>Noch keine Umgebung</translation>
    </message>
    <message>
        <source>Looking at the environment…</source>
        <translation>Die Umgebung wird geprüft…</translation>
    </message>
    <message>
        <source>Starting…</source>
        <translation>Wird gestartet…</translation>
    </message>
    <message>
        <source>Stopping…</source>
        <translation>Wird angehalten…</translation>
    </message>
    <message>
        <source>The environment is not ready</source>
        <translation>Die Umgebung ist nicht bereit</translation>
    </message>
    <message>
        <source>no framework</source>
        <translation>kein Framework</translation>
    </message>
    <message>
        <source>The environment is ready</source>
        <translation>Die Umgebung ist bereit</translation>
    </message>
    <message>
        <source>Unexpected fault: {}</source>
        <translation>Unerwarteter Fehler: {}</translation>
    </message>
    <message>
        <source>Cancelled. The same set-up goes on where it stopped.</source>
        <translation>Abgebrochen. Dieselbe Einrichtung macht dort weiter, wo sie aufgehört hat.</translation>
    </message>
    <message>
        <source>Trying the environment</source>
        <translation>Die Umgebung wird ausprobiert</translation>
    </message>
    <message>
        <source>Removing environments of earlier versions</source>
        <translation>Umgebungen früherer Versionen werden entfernt</translation>
    </message>
    <message>
        <source>Setting up the environment of Deep Raster</source>
        <translation>Die Umgebung von Deep Raster wird eingerichtet</translation>
    </message>
    <message>
        <source>Looking at the environment</source>
        <translation>Die Umgebung wird geprüft</translation>
    </message>
    <message>
        <source>Checking the environment of Deep Raster</source>
        <translation>Die Umgebung von Deep Raster wird geprüft</translation>
    </message>
    <message>
        <source>{}…</source>
        <translation>{}…</translation>
    </message>
    <message>
        <source>Show model card</source>
        <translation>Modellsteckbrief anzeigen</translation>
    </message>
    <message>
        <source>Detect objects with this model…</source>
        <translation>Objekte mit diesem Modell erkennen…</translation>
    </message>
    <message>
        <source>Classify pixels with this model…</source>
        <translation>Pixel mit diesem Modell klassifizieren…</translation>
    </message>
    <message>
        <source>Classify objects with this model…</source>
        <translation>Objekte mit diesem Modell klassifizieren…</translation>
    </message>
    <message>
        <source>Detect change with this model…</source>
        <translation>Veränderungen mit diesem Modell erkennen…</translation>
    </message>
    <message>
        <source>{} – model package</source>
        <translation>{} – Modellpaket</translation>
    </message>
    <message>
        <source>Code and consent…</source>
        <translation>Code und Zustimmung…</translation>
    </message>
    <message>
        <source>run its own Python code</source>
        <translation>eigenen Python-Code ausführen</translation>
    </message>
    <message>
        <source>load TorchScript, which can write files while it loads</source>
        <translation>TorchScript laden, das beim Laden Dateien schreiben kann</translation>
    </message>
    <message>
        <source>run operations of its network that may touch files</source>
        <translation>Operationen seines Netzes ausführen, die auf Dateien zugreifen könnten</translation>
    </message>
    <message>
        <source> and </source>
        <translation> und </translation>
    </message>
    <message>
        <source>May this package run its code?</source>
        <translation>Darf dieses Paket seinen Code ausführen?</translation>
    </message>
    <message>
        <source>One changed byte anywhere in the package makes another hash, and you are asked again.</source>
        <translation>Ein einziges geändertes Byte im Paket ergibt einen anderen Hash, und Sie werden erneut gefragt.</translation>
    </message>
    <message>
        <source>Code</source>
        <translation>Code</translation>
    </message>
    <message>
        <source>Files</source>
        <translation>Dateien</translation>
    </message>
    <message>
        <source>Protection here:</source>
        <translation>Schutz auf diesem Computer:</translation>
    </message>
    <message>
        <source>not stated</source>
        <translation>nicht angegeben</translation>
    </message>
    <message>
        <source>The package &lt;b&gt;{name}&lt;/b&gt; wants to {wants}.</source>
        <translation>Das Paket &lt;b&gt;{name}&lt;/b&gt; möchte {wants}.</translation>
    </message>
    <message>
        <source>From</source>
        <translation>Herkunft</translation>
    </message>
    <message>
        <source>Made by</source>
        <translation>Erstellt von</translation>
    </message>
    <message>
        <source>as the package says itself</source>
        <translation>laut Angabe des Pakets</translation>
    </message>
    <message>
        <source>Code can do whatever you can do on this computer, within the protection named below. </source>
        <translation>Code kann alles, was Sie auf diesem Computer können, innerhalb des unten genannten Schutzes. </translation>
    </message>
    <message>
        <source>Allow it only if you know where the package comes from.</source>
        <translation>Erlauben Sie ihn nur, wenn Sie wissen, woher das Paket kommt.</translation>
    </message>
    <message>
        <source>
… {} bytes more …</source>
        <translation>
… {} weitere Bytes …</translation>
    </message>
    <message>
        <source>File</source>
        <translation>Datei</translation>
    </message>
    <message>
        <source>Bytes</source>
        <translation>Bytes</translation>
    </message>
    <message>
        <source>SHA-256</source>
        <translation>SHA-256</translation>
    </message>
    <message>
        <source>Not now</source>
        <translation>Jetzt nicht</translation>
    </message>
    <message>
        <source>Nothing is run; you are asked again next time.</source>
        <translation>Nichts wird ausgeführt; Sie werden beim nächsten Mal erneut gefragt.</translation>
    </message>
    <message>
        <source>This run only</source>
        <translation>Nur dieser Lauf</translation>
    </message>
    <message>
        <source>The package may run its code in the run that starts now.</source>
        <translation>Das Paket darf seinen Code in dem Lauf ausführen, der jetzt beginnt.</translation>
    </message>
    <message>
        <source>Always, exactly this package</source>
        <translation>Immer, genau dieses Paket</translation>
    </message>
    <message>
        <source>Remembered for this hash until you revoke it in the options.</source>
        <translation>Für diesen Hash gemerkt, bis Sie es in den Optionen widerrufen.</translation>
    </message>
    <message>
        <source>Never</source>
        <translation>Nie</translation>
    </message>
    <message>
        <source>Refused for this hash until you revoke that in the options.</source>
        <translation>Für diesen Hash verweigert, bis Sie das in den Optionen widerrufen.</translation>
    </message>
    <message>
        <source>Looking at the package…</source>
        <translation>Das Paket wird geprüft…</translation>
    </message>
    <message>
        <source>Opening the model package</source>
        <translation>Das Modellpaket wird geöffnet</translation>
    </message>
    <message>
        <source>name=value;name=value</source>
        <translation>Name=Wert;Name=Wert</translation>
    </message>
    <message>
        <source>Tiles</source>
        <translation>Kacheln</translation>
    </message>
    <message>
        <source>How the raster is cut into tiles and how their answers are joined.</source>
        <translation>Wie das Raster in Kacheln geschnitten wird und wie deren Antworten zusammengefügt werden.</translation>
    </message>
    <message>
        <source>This model detects objects; use “{}”.</source>
        <translation>Dieses Modell erkennt Objekte; bitte „{}“ verwenden.</translation>
    </message>
    <message>
        <source>This model classifies pixels; use “{}”.</source>
        <translation>Dieses Modell klassifiziert Pixel; bitte „{}“ verwenden.</translation>
    </message>
    <message>
        <source>This model classifies objects; use “{}”.</source>
        <translation>Dieses Modell klassifiziert Objekte; bitte „{}“ verwenden.</translation>
    </message>
    <message>
        <source>{count} classes: {names}</source>
        <translation>{count} Klassen: {names}</translation>
    </message>
    <message>
        <source>bands {}</source>
        <translation>Kanäle {}</translation>
    </message>
    <message>
        <source>Padding</source>
        <translation>Rand</translation>
    </message>
    <message>
        <source>Pixels on each side for context.</source>
        <translation>Pixel auf jeder Seite als Umgebung.</translation>
    </message>
    <message>
        <source>Confidence threshold</source>
        <translation>Schwelle der Konfidenz</translation>
    </message>
    <message>
        <source>What is below is left out.</source>
        <translation>Was darunter liegt, entfällt.</translation>
    </message>
    <message>
        <source>Overlap within a tile</source>
        <translation>Überlappung in einer Kachel</translation>
    </message>
    <message>
        <source>Of objects that overlap more, the best stays.</source>
        <translation>Von Objekten, die sich stärker überlappen, bleibt das beste.</translation>
    </message>
    <message>
        <source>Images handed to the network at a time.</source>
        <translation>Bilder, die das Netz auf einmal bekommt.</translation>
    </message>
    <message>
        <source>Rectangles instead of outlines</source>
        <translation>Rechtecke statt Umrissen</translation>
    </message>
    <message>
        <source>Predict background</source>
        <translation>Hintergrund vorhersagen</translation>
    </message>
    <message>
        <source>Allow class 0.</source>
        <translation>Klasse 0 zulassen.</translation>
    </message>
    <message>
        <source>Run the package's own network</source>
        <translation>Das eigene Netz des Pakets ausführen</translation>
    </message>
    <message>
        <source>Asks for your consent.</source>
        <translation>Fragt nach Ihrer Zustimmung.</translation>
    </message>
    <message>
        <source>Tile size</source>
        <translation>Kachelgröße</translation>
    </message>
    <message>
        <source>Side of an image for the network, pixels.</source>
        <translation>Seite eines Bildes für das Netz in Pixeln.</translation>
    </message>
    <message>
        <source>Image size</source>
        <translation>Bildgröße</translation>
    </message>
    <message>
        <source>Chips are resampled to this side, pixels.</source>
        <translation>Bildausschnitte werden auf diese Seitenlänge in Pixeln umgerechnet.</translation>
    </message>
    <message>
        <source>Test-time augmentation</source>
        <translation>Augmentierung bei der Vorhersage</translation>
    </message>
    <message>
        <source>Predict turned images too, join the answers.</source>
        <translation>Auch gedrehte Bilder vorhersagen und die Antworten vereinen.</translation>
    </message>
    <message>
        <source>Joining of turned images</source>
        <translation>Vereinen gedrehter Bilder</translation>
    </message>
    <message>
        <source>Mean, best or worst score.</source>
        <translation>Mittlerer, bester oder schlechtester Wert.</translation>
    </message>
    <message>
        <source>Scales of augmentation</source>
        <translation>Maßstäbe der Augmentierung</translation>
    </message>
    <message>
        <source>Sizes at which copies are predicted, such as 0.8,1,1.25; with test-time augmentation.</source>
        <translation>Größen, in denen Kopien vorhergesagt werden, etwa 0.8,1,1.25; mit Augmentierung bei der Vorhersage.</translation>
    </message>
    <message>
        <source>Leave out cut objects</source>
        <translation>Angeschnittene Objekte auslassen</translation>
    </message>
    <message>
        <source>Objects that a tile cuts give way to the neighbour's or are joined; False reports each piece.</source>
        <translation>Objekte, die eine Kachel schneidet, weichen denen der Nachbarkachel oder werden vereint; False meldet jedes Stück.</translation>
    </message>
    <message>
        <source>Blend tiles</source>
        <translation>Kacheln überblenden</translation>
    </message>
    <message>
        <source>Tiles overlap and fade into one another, for networks of unknown reach.</source>
        <translation>Kacheln überlappen und gehen ineinander über, für Netze unbekannter Reichweite.</translation>
    </message>
    <message>
        <source>Leave out tiles of one colour</source>
        <translation>Einfarbige Kacheln auslassen</translation>
    </message>
    <message>
        <source>Water or empty margins without a nodata value.</source>
        <translation>Wasser oder leere Ränder ohne Nodata-Wert.</translation>
    </message>
    <message>
        <source>Tiles that cannot be done</source>
        <translation>Kacheln, die nicht gelingen</translation>
    </message>
    <message>
        <source>stop ends the job, which can go on later; nodata leaves them empty.</source>
        <translation>stop beendet den Auftrag, der später weitergehen kann; nodata lässt sie leer.</translation>
    </message>
    <message>
        <source>Simplify outlines</source>
        <translation>Umrisse vereinfachen</translation>
    </message>
    <message>
        <source>Tolerance in pixels for outlines of masks and class polygons.</source>
        <translation>Toleranz in Pixeln für Umrisse von Masken und Klassenpolygonen.</translation>
    </message>
    <message>
        <source>Right-angled outlines</source>
        <translation>Rechtwinklige Umrisse</translation>
    </message>
    <message>
        <source>Make outlines of masks right-angled, as buildings are.</source>
        <translation>Umrisse von Masken rechtwinklig machen, wie Gebäude es sind.</translation>
    </message>
    <message>
        <source>Memory budget</source>
        <translation>Speicherbudget</translation>
    </message>
    <message>
        <source>Megabytes that the job may use; 0: half of what is free. It sets workers, batch and tiles.</source>
        <translation>Megabyte, die der Auftrag nutzen darf; 0: die Hälfte des freien Speichers. Danach richten sich Prozesse, Stapel und Kacheln.</translation>
    </message>
</context>
</TS>
