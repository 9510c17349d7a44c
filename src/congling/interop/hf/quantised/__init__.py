"""Linear layers in few bits as folders of GPTQ, AWQ, compressed-tensors and bitsandbytes hold them."""
