"""What both commands of this project, `bundle` and `infini-llama`, share in talking to people and to scripts."""
