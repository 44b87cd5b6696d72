"""The bundle file format; `bundler/FORMAT.md` is its specification.

* `tar`: the tar stream that a bundle decodes to, as a pure function of the lock;
* `index`: the bytes around it: preamble, chunk headers, index, trailer;
* `codec/`: raw bytes of a chunk <-> zstd frames;
* `writer`, `reader`, `stream`: write a bundle, read it from disk or from a pipe;
* `storage/`: one file, volumes or a pipe.

No module here uses a network, HF_HOME or the manifest.
"""
