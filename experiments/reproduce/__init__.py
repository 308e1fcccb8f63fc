"""The poster's tables and figures, published beside measured."""
