"""Draw a picture, as the page of a diffusion model on the Hub says."""

from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("org/diffusion")
print(pipeline(batch_size=1, num_inference_steps=2).images[0].size)
