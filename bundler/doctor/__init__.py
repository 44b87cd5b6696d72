"""`bundle doctor`: the environment as the Hugging Face libraries will see it, and what to do about it.

    findings.py   one thing that was looked at, and what came of it
    network.py    switches, endpoint, proxies, certificates, token
    cache.py      the cache at HF_HOME: bundles, traces of interrupted work, what makes the libraries stumble
    machine.py    file system, free space, isolation, versions
    examine.py    all of it, in order

Rule book:

* it changes nothing; a probe that must write (links, locks) takes away what it wrote;
* it asks a proxy and the Hub's address for a connection, within a few seconds, and only where offline mode is not set;
* a token's value is never read into a finding: only where it comes from, and who else may read it;
* *problem* is for what will fail, *warning* for what surprises people, *note* for what is good to know. Only problems
  make the command fail.
"""
