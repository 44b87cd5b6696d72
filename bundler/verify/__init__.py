"""Verify a bundle file, or an installed bundle, against its lock: everything missing, extra and changed, at once.

Rule book:

* nothing is written, ever;
* a report names all faults, not the first;
* a full verification hashes every byte that can reach a library: blobs, and regular files where a link is
  expected. `quick` looks at names, links and sizes only;
* in a snapshot, a file that no installed bundle ships is a fault: an added chat template or module changes what
  loads. Beside prepared dataset files it is not: `datasets` writes its own `cache-*.arrow` there.
"""
