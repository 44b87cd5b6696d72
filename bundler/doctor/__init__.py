"""`bundle doctor`: check the environment that the Hugging Face libraries will see, and say what to change.

    diagnosis.py  the result of one check
    network.py    switches, endpoint, proxies, certificates, token
    cache.py      the cache at HF_HOME: bundles, files of interrupted work, known causes of failures
    machine.py    file system, free space, isolation, versions
    examine.py    all checks, in order

Rule book:

* nothing is changed; a check that must write (links, locks) deletes what it wrote;
* a proxy and the Hub are asked for a connection, for a few seconds at most, and only if offline mode is not set;
* a result never has the value of a token, only where it comes from, and who else may read it;
* a *problem* will fail, a *warning* surprises people, a *note* is good to know. Only problems make the command fail.
"""
