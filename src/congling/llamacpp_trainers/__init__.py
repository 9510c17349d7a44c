"""The commands of llama.cpp's former trainers, on the one training loop: same flags, files and habits."""
