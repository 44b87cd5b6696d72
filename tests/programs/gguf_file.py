"""Generate with a model from a GGUF file, as the documents of transformers show it."""

from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("org/tiny")
model = AutoModelForCausalLM.from_pretrained("org/gguf", gguf_file="tiny.gguf")
ids = tokenizer("the quick brown", return_tensors="pt")["input_ids"]
print(tokenizer.decode(model.generate(ids, max_new_tokens=3)[0]))
