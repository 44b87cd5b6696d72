"""From raw files, or a dataset of a bundle, to rows of segments that the trainer reads from a memory map.

`files` what is read · `compression` how it is opened · `records` what a record is, and which are bad · `tokenizing`
text to tokens, in parallel · `token_cache` done once for each content · `documents` the tokens, memory-mapped ·
`rows` documents as rows of segments · `preparation` the order of these steps.
"""

from infini_llama.data.documents import Documents
from infini_llama.data.preparation import Prepared, prepare_documents
from infini_llama.data.rows import IGNORED, Rows

__all__ = ["IGNORED", "Documents", "Prepared", "Rows", "prepare_documents"]
