"""What the hardware is held against: golden models, stimulus, and whole models run through them."""
