"""Write the pages under `docs/` that follow from the code: `make docs`.

Rule book:

* a page that is written here says nothing that the code does not say;
* sources are read, not imported, where importing them would need torch: `docs.generate.sources`;
* the tests in `tests/docs/` fail when a page is not what this package would write.
"""
