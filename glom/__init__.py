"""glom-apm: GLOM-style machine perception. Import what you need from the submodules; nothing heavy loads here."""
