"""The pages. `shell` is the whole app on one screen; each tab is a folder with one `build(page)`, Apply a module."""
