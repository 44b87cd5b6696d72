"""Who made a bundle, and whether it may be used here: statement, signature, list of signers, policy.

Nothing here knows an HF_HOME, and nothing here decides by a file's name alone. `ssh/` knows SSH's keys and signatures
and nothing of bundles.
"""
