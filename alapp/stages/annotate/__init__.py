"""From a person's clicks to instance masks, and the journal that never forgets one."""
