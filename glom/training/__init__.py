"""What every training of a network here shares: the loop, its state, epochs, ranks, which weights decay, the rate."""
