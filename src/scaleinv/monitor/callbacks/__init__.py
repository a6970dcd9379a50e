"""The monitor as a callback of Lightning and of the Hugging Face Trainer."""
