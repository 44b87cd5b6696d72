"""SSH's public keys, certificates, signatures and lists of signers, as far as verifying takes."""
