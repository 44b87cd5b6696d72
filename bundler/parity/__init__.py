"""Parity of the files of a bundle, so that what is lost or damaged on the way is rebuilt and not carried again."""
