"""The proof before packing: the fetched files load without a network, from a cache that holds nothing else.

    stage.py     all of it, in order
    run.py       the proof of a whole lock
    proven.py    the same, unless the same files were proven before with the same packages
    prepared.py  prepared datasets: made once, kept in the store, listed in the lock
    command.py   a command of the user's, run on all of it
    process/     builds that cache from the store with the steps of an installation, and starts a child process on it,
                 isolated and in a sandbox
    findings.py  what a child found, and the errors for it
    child.py     a child process: loads every entry by its own name and by each alias, and writes the results
    entries.py   what the checks share
    loading.py   what "loads" means for tokenizers, configs and models
    code.py      the Python that files name, imported as the libraries import it
    parts/       what is made of several: sentence-transformers, an adapter on its base, pipelines
    weights.py   tensor names and shapes against the architecture
    headers.py   safetensors files, by their headers only
    dataset.py   datasets: prepared once from the fetched files, then loaded by name
    kinds/       kernels, metrics and files of other hosts

Only the child processes import torch, transformers and datasets, and only those that the entries need.
"""
