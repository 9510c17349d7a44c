"""One verb per file: what it reads, what it writes, and how the parts below are put together for it."""
