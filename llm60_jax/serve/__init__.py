"""A local web page and an OpenAI-compatible endpoint for the models and runs of run directories.

It reads run directories and never imports the trainer.
"""
