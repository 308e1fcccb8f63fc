"""How what ships was trained: glom-tiny, mvit-v2-tiny, mae-tiny."""
