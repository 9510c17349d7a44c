"""From a trained model to text: sampling, batched generation with a cache, chat."""
