"""What "loads" means for each kind of entry that is no tokenizer, model or dataset."""
