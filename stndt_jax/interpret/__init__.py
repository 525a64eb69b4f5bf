"""What trained models attend to, and what they need."""
