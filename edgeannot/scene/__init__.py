"""What happens in front of a source over time: the motion gate, tracks of objects, and the events made of them."""
