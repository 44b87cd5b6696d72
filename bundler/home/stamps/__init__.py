"""What was hashed once and has not changed since: stamps, which let a launch start without reading content again."""
