"""Where a step runs: one process, or several that share the gradients."""
