"""GGUF: llama.cpp's file format for models, vocabularies and adapters."""
