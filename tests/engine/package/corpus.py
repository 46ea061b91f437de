"""All packages of the corpus, each with the verdict that it must get."""

from __future__ import annotations

from . import corpus_archives, corpus_contents, corpus_entries
from .corpus_base import CASES, DEFINITION, OK, REFUSED, Case

PARTS = (corpus_entries, corpus_archives, corpus_contents)

__all__ = ["CASES", "DEFINITION", "OK", "PARTS", "REFUSED", "Case"]
