"""What an APM could be overfit on so as to beat its teacher: chosen on one half, confirmed on the other."""
