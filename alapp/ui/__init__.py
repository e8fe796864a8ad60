"""The pages. `shell` is the whole app on one screen; each tab is one module with one `build(page)`."""
