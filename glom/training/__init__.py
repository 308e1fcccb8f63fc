"""What every training of a network here shares: which weights decay, how the rate rises and falls."""
