"""Harmonic means of erasure and preservation (MACE, Lu 2024, arXiv 2403.06135). Accuracies are fractions in [0, 1]."""


def harmonic_mean(*terms: float) -> float:
    """The harmonic mean of terms in [0, 1], 0 if one of them is 0; ValueError for others."""
    if any(not 0 <= term <= 1 for term in terms) or not terms:
        raise ValueError(f"expected fractions in [0, 1], got {terms}")
    return 0.0 if 0 in terms else len(terms) / sum(1 / term for term in terms)


def celebrity_score(erased: float, kept: float) -> float:
    """H_c of the accuracy on erased concepts and on kept ones."""
    return harmonic_mean(1 - erased, kept)


def object_score(erased: float, kept: float, general: float) -> float:
    """H_o of the accuracy on the erased object, on kept ones and on the erased one's synonyms."""
    return harmonic_mean(1 - erased, kept, 1 - general)
