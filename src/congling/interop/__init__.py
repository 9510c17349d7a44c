"""Models, tokenizers and adapters in the formats of other programs: one reader and writer a format."""
