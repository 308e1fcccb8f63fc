"""Islands of agreement in every layer of a backbone, as colours and as numbers."""
