"""The sheet "Models on this computer": what there is, downloads, licences, and which one is used."""
