"""Turn trained models into clips."""
