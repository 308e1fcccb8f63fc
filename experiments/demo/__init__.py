"""The main job on what ships: a table and one page."""
