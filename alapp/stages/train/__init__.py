"""nnU-Net v2: plan once for the machine, train, fine-tune from the last checkpoint, predict."""
