"""Verify a bundle file, or an installed bundle, against its lock, and report everything missing, extra or changed.

Rule book:

* nothing is ever written;
* a report names all faults, not only the first;
* a full verification hashes every byte that a library can read: blobs, and regular files where a link is expected.
  `quick` checks only names, links and sizes;
* a file in a snapshot that no installed bundle ships is a fault, because an added chat template or module changes what
  loads. Beside prepared dataset files an extra file is no fault: `datasets` writes its own `cache-*.arrow` there.
"""
