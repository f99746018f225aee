"""Documents into a prepared corpus, once: tokenised, split, packed. Floor 5 of trainables.

Read `run` first: its `prepare` is the whole path. `spec` says what a corpus is made of, `sources`
opens it through the datasets library, `tokenizer` loads or trains one, `shards` is what each
process does, `skills` encodes benchmarks, `contamination` looks for them in the shards.
`trainables.manifest` describes the directory that comes out.
"""

from trainables.prepare.spec import Corpora, PrepareError

__all__ = ["Corpora", "PrepareError"]
