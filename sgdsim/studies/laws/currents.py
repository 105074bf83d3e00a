"""What does not descend: the fall of the KL divergence, and the currents of a steady state without detailed balance."""
