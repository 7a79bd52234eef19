"""push: sending a dataset or an adapter to the Hugging Face Hub."""
