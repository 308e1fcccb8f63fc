"""Slot attention trained on made sets and on frozen features, and its masks scored as islands are."""
