"""A trained model as the files of other tools: Hugging Face, GGUF, ONNX, a PEFT adapter."""
