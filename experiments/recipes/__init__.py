"""How what ships was trained: glom-tiny, mvit-v2-tiny, mvit-v2-photo, mae-tiny."""
