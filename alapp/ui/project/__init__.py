"""The Project tab: projects and samples, adding images, settings."""
