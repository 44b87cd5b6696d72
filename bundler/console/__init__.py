"""Options, printing and error handling that the commands `bundle` and `infini-llama` share."""
