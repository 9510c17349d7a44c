"""llama2.c: model files of version 0, 1 and 2, and the vocabulary file that run.c reads beside them."""
