"""An hour of load with swaps, link cuts and kills: memory stays flat, and every frame is counted once."""
