"""What one run is told: typed, frozen, checked before anything is built. YAML only fills it."""
