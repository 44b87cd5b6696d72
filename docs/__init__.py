"""Documents of this project, and `docs.generate`, which writes those that follow from the code."""
