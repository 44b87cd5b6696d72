"""What a program of unknown makers may see and change: its own files, the interpreter's, and a scratch folder.

    sandbox.py       which kind works here, and entering it
    visible.py       which files a Python program needs, and no more
    namespaces.py    a root of its own made of these, with no other process in it
    files.py         Landlock: the same files by rules, where namespaces cannot be had
    limits.py        time, memory, processes and room that a program may take, and ending it
    family.py        a process and all below it, seen from outside
    remove_tree.py   deleting what it made, whatever that is
    descendants.py   seeing a program through to its end, and ending what it left, also when the launcher ends
    privileges.py    giving up capabilities and the session's keys
    system_calls.py  the kernel's interface

The network is shut by `bundler.offline.kernel`, which comes first.
"""
