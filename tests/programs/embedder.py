"""Train a sentence-transformers model that has a module of its own, as the documents of that library do."""

from datasets import load_dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, losses
from sentence_transformers.training_args import SentenceTransformerTrainingArguments

model = SentenceTransformer("org/scaled", trust_remote_code=True, device="cpu")
trainer = SentenceTransformerTrainer(
    model=model,
    args=SentenceTransformerTrainingArguments("trained", max_steps=2, use_cpu=True, report_to="none"),
    train_dataset=load_dataset("org/pairs", split="train"),
    loss=losses.MultipleNegativesRankingLoss(model),
)
trainer.train()
print(model.encode(["the quick brown fox"]).shape)
