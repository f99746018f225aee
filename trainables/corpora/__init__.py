"""Training data: built-in corpora, generated, or prepared ones, mapped. Floor 3 of trainables.

Read `training_data` first: it opens either. `stream` mixes the built-in classes by document;
`knowledge`, `code` and `other` each turn a generator of random numbers into documents;
`vocabulary` spells their tokens; `prepared` reads what `isoskill prepare` packed.
"""

from trainables.corpora.documents import Documents, Family
from trainables.corpora.stream import Stream, evaluation_sets

__all__ = ["Documents", "Family", "Stream", "evaluation_sets"]
