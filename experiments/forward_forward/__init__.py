"""Forward-forward networks: trained, tested, their goodness and islands."""
