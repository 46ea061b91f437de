"""Arguments that a package's own code declares: from what it answers, or from its text, which is read and not run.

``getParameterInfo`` of a Python raster function returns a list of objects with ``name``, ``dataType``, ``value``,
``domain``, ... (Esri, "Anatomy of a Python raster function"). Most are written down as plain literals, so that a dialog
can offer them before anybody has allowed the code to run. What is computed is left out; the running function tells all.
"""

from __future__ import annotations

import ast
import io
import tokenize
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from ..errors import PackageError
from . import vocabulary
from .emd import ModelDefinition
from .opening import ModelPackage
from .parameters import BOOL, CHOICE, FLOAT, INT, TEXT, ModelParameter, declared_parameters

MAX_SOURCE = 1 << 20
_MAX_LITERAL = 2_000

# Names that belong to the host and are never shown as arguments.
HOSTS_OWN = frozenset(("raster", "rasters", "model", "device"))
_TYPES = {
    "boolean": BOOL,
    "gpboolean": BOOL,
    "gplong": INT,
    "gpdouble": FLOAT,
    "string": TEXT,
    "gpstring": TEXT,
    "gpstringkeyword": TEXT,
}


def package_parameters(package: ModelPackage) -> Tuple[ModelParameter, ...]:
    """Return the arguments of a package: of its own function as far as its text tells, else of its definition."""
    if not runs_function(package.definition) or not package.has_code:
        return declared_parameters(package.definition)
    try:
        return written_parameters(package.read(package.definition.inference_function))
    except PackageError:
        return ()


def runs_function(definition: ModelDefinition) -> bool:
    """Whether a definition names an inference function that is neither built in nor stood in for by the engine."""
    name = definition.function_name
    return bool(name) and not definition.names_builtin_function and not vocabulary.stand_in(name)


def parameter_from_info(info: Mapping[str, Any]) -> ModelParameter:
    """Return an entry of ``getParameterInfo`` as a typed argument."""
    value, domain = info.get("value"), info.get("domain")
    kind = _TYPES.get(str(info.get("dataType", "")).lower(), "")
    if not kind:  # "numeric" is an integer or not; the default tells
        kind = INT if isinstance(value, int) and not isinstance(value, bool) else FLOAT
    if isinstance(value, bool):
        kind = BOOL
    minimum = maximum = None
    choices: Tuple[str, ...] = ()
    if isinstance(domain, (list, tuple)) and domain:
        if len(domain) == 2 and kind in (INT, FLOAT) and all(isinstance(one, (int, float)) for one in domain):
            minimum, maximum = float(domain[0]), float(domain[1])
        else:
            kind, choices = CHOICE, tuple(str(one) for one in domain)
    return ModelParameter(
        name=str(info.get("name", "")),
        kind=kind,
        default="" if value is None else str(value),
        minimum=minimum,
        maximum=maximum,
        choices=choices,
        label=str(info.get("displayName", "") or info.get("name", "")),
        description=str(info.get("description", "")),
    )


def written_parameters(source: bytes) -> Tuple[ModelParameter, ...]:
    """Return the arguments that stand as literals in ``getParameterInfo`` of a function's source, in their order."""
    found: Dict[str, ModelParameter] = {}
    if len(source) > MAX_SOURCE:
        return ()
    try:
        for info in _infos(list(tokenize.tokenize(io.BytesIO(source).readline))):
            name = info.get("name")
            if isinstance(name, str) and name and name not in HOSTS_OWN:
                found[name] = parameter_from_info(info)
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError, ValueError):
        return tuple(found.values())
    return tuple(found.values())


def _infos(tokens: List[tokenize.TokenInfo]) -> Iterator[Dict[str, Any]]:
    """Yield the literal members of every object written inside the functions called ``getParameterInfo``."""
    words = [one for one in tokens if one.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT)]
    level, inside = 0, -1
    for place, token in enumerate(words):
        if token.type == tokenize.INDENT:
            level += 1
        elif token.type == tokenize.DEDENT:
            level -= 1
            inside = -1 if level <= inside else inside
        elif token.string == "getParameterInfo" and place and words[place - 1].string == "def":
            inside = level
        elif token.string == "{" and inside >= 0:
            yield _members(words, place + 1)


def _members(words: List[tokenize.TokenInfo], place: int) -> Dict[str, Any]:
    """Return the members of the object that opens before ``place`` whose values are literals."""
    members: Dict[str, Any] = {}
    part: List[tokenize.TokenInfo] = []
    depth = 0
    for token in words[place:]:
        is_operator = token.type == tokenize.OP
        if is_operator and token.string in "([{":
            depth += 1
        elif is_operator and token.string in ")]}":
            depth -= 1
        if depth < 0 or (depth == 0 and is_operator and token.string == ","):
            if len(part) > 2 and part[0].type == tokenize.STRING and part[1].string == ":":
                key, value = _literal(part[:1]), _literal(part[2:])
                if isinstance(key, str) and value is not _UNKNOWN:
                    members[key] = value
            part = []
            if depth < 0:
                break
        else:
            part.append(token)
    return members


_UNKNOWN = object()
_PLAIN = frozenset("()[],-")


def _literal(part: List[tokenize.TokenInfo]) -> Any:
    """Return the value of tokens that are texts, numbers, True, False, None, lists or tuples; else ``_UNKNOWN``."""
    for token in part:
        is_value = token.type in (tokenize.STRING, tokenize.NUMBER) or token.string in ("True", "False", "None")
        if not is_value and not (token.type == tokenize.OP and token.string in _PLAIN):
            return _UNKNOWN
    text = " ".join(token.string for token in part)
    nested = sum(token.string in ("(", "[", "-") for token in part)
    if len(text) > _MAX_LITERAL or nested > 20:
        return _UNKNOWN
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return _UNKNOWN
