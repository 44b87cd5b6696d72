"""Turn raw files, or a dataset of a bundle, into rows of segments that the trainer reads from a memory map.

`files` finds what to read · `compression` opens it · `records` reads records, and finds bad ones · `tokenizing` turns
text into tokens, in parallel · `token_cache` keeps tokens by content · `documents` maps the tokens into memory · `rows`
makes rows of segments · `preparation` runs these steps in order.
"""

from infini_llama.data.documents import Documents
from infini_llama.data.preparation import Prepared, prepare_documents
from infini_llama.data.rows import IGNORED, Rows

__all__ = ["IGNORED", "Documents", "Prepared", "Rows", "prepare_documents"]
