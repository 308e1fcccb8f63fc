"""What `apm bench` runs."""
