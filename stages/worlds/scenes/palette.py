"""The colours of objects and backgrounds: red, green and blue in [0, 1]."""

Colour = tuple[float, float, float]

INKS: dict[str, Colour] = {
    "red": (0.87, 0.11, 0.13),
    "orange": (1.00, 0.50, 0.02),
    "yellow": (1.00, 0.87, 0.08),
    "green": (0.10, 0.62, 0.20),
    "cyan": (0.10, 0.80, 0.86),
    "blue": (0.13, 0.25, 0.90),
    "purple": (0.51, 0.14, 0.72),
    "pink": (1.00, 0.50, 0.76),
}
PAPERS: dict[str, Colour] = {"dark": (0.09, 0.10, 0.14), "light": (0.90, 0.91, 0.93), "sandy": (0.70, 0.60, 0.45)}
WHITE: Colour = (1.0, 1.0, 1.0)
