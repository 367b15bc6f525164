"""Procedural scenes, known exactly: solids, materials and light, families of them, a ray caster. No maps."""
