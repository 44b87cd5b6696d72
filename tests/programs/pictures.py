"""Score the pictures of a dataset against captions, as the page of a CLIP model on the Hub says."""

from datasets import load_dataset
from transformers import CLIPModel, CLIPProcessor

photos = load_dataset("org/photos", split="train")
processor = CLIPProcessor.from_pretrained("org/pictures")
model = CLIPModel.from_pretrained("org/pictures")
inputs = processor(text=photos["caption"][:], images=photos["image"][:], return_tensors="pt", padding=True)
print(model(**inputs).logits_per_image.softmax(dim=1).shape)
