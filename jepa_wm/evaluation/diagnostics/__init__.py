"""What latents know and how imagination drifts: one question a file."""
