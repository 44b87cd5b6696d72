"""The bundle file format; `bundler/FORMAT.md` is its specification.

* `tar`: the tar stream that a bundle decodes to, as a pure function of the lock;
* `layout`: the bytes around it: preamble, chunk headers, index, trailer;
* `codecs`: raw bytes of a chunk <-> zstd frames;
* `writer`, `reader`: a bundle on disk.

No module here knows a network, HF_HOME or the manifest.
"""
