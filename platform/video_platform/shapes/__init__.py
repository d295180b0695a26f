"""A synthetic captioned world whose every clip comes with its ground truth."""
