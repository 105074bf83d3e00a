"""The fluctuation–dissipation relation: what a steady state says of force and step, on any loss."""

from sgdsim.theory._checks import require_momentum, require_not_negative, require_positive


def fluctuation_dissipation(second_moment: float, eta: float, momentum: float = 0.0) -> float:
    """⟨x·∇f⟩ = (1+μ)/(2η) ⟨|u|²⟩, u = x_k − x_{k−1}: exact in the steady state on any loss, at any η, i.i.d. batches.

    Write u_{k+1} = μu_k − ηg_k, g_k the minibatch gradient at x_k. In the steady state ⟨|x_{k+1}|²⟩ = ⟨|x_k|²⟩, so
    2⟨x_k·u_{k+1}⟩ = −⟨|u|²⟩; and as x_k = x_{k−1} + u_k, the same a step earlier gives 2⟨x_k·u_k⟩ = −⟨|u|²⟩ + 2⟨|u|²⟩
    = ⟨|u|²⟩. Multiply u_{k+1} by x_k: −½⟨|u|²⟩ = (μ/2)⟨|u|²⟩ − η⟨x·g⟩, and ⟨x·g⟩ = ⟨x·∇f⟩, the batch being drawn
    afresh. With μ = 0, u = −ηg_B and the relation is ⟨x·∇f⟩ = (η/2)⟨|g_B|²⟩. Second moments, not covariances; x may be
    counted from any centre, as ⟨∇f⟩ = 0.

    Args:
        second_moment: ⟨|u|²⟩ ≥ 0, in x².
        eta: η > 0.
        momentum: μ in [0, 1).

    Returns:
        The predicted ⟨x·∇f⟩, in units of the loss. What the two sides differ by is what the state still drifts.

    Raises:
        ValueError: if an argument is out of its range.

    Source: Yaida (2019) without momentum; derived above with it.
    """
    require_not_negative("second_moment", second_moment)
    require_positive("eta", eta)
    require_momentum("momentum", momentum)
    return (1 + momentum) / (2 * eta) * second_moment
