"""Every claim of the poster with a verdict by rule, and the figures of the pages, from recorded results."""
