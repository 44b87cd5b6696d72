"""Train with the Trainer of transformers, as its tutorial does."""

from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

tokenizer = AutoTokenizer.from_pretrained("org/tiny")
tokenizer.pad_token = "[PAD]"
rows = load_dataset("org/texts", split="train").map(lambda row: tokenizer(row["text"]), remove_columns=["text"])
trainer = Trainer(
    model=AutoModelForCausalLM.from_pretrained("old-tiny"),
    args=TrainingArguments("trained", max_steps=2, use_cpu=True, report_to="none"),
    train_dataset=rows,
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
)
trainer.train()
trainer.save_model()
