"""The top floor: data, empirical score, simulations and experiments that check the theory, in torch."""
