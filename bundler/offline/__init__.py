"""Keep a process tree off the network, and prove it.

variables     the variables of an offline launch, as a pure function
site/         brings the guard into every Python process, by way of PYTHONPATH
guard/        inside Python: refuses and notes connections, says who asked and what the bundles lack of it
kernel/       below Python: a network namespace with loopback only, or a filter of system calls; counts what it refuses
launch/       starts a command with all of that, passes signals and the exit code on, and reports what was seen
enforce       the same for a process that is running already; restart starts it again where that is needed
"""
