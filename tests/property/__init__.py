"""Properties: the engine against the slow model, a second reading of the specification."""
