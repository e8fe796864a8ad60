"""Files to take along: label maps, tables, COCO, the model."""
