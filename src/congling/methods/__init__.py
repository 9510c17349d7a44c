"""One module a method, and what they share: recipes, the session, beginning and ending a run."""
