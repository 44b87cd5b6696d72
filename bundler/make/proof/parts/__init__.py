"""Models that are made of several pieces: adapters, modules, pipelines."""
