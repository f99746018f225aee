"""Built-in corpora: three classes of documents, generated on the fly and seeded.

Read `stream` first: it mixes the classes by document. `knowledge`, `code` and `other` each turn
a generator of random numbers into documents; `vocabulary` spells their tokens.
"""

from trainables.corpora.documents import Documents, Family
from trainables.corpora.stream import Stream, evaluation_sets

__all__ = ["Documents", "Family", "Stream", "evaluation_sets"]
