"""What is minimised: pure functions (model, batch) -> Loss."""
