"""Arrays to arrays with parameters: patches, transformers, encoders, heads."""
