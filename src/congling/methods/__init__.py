"""What all ways of tuning a model share: recipe, session, and how a run begins and ends."""
