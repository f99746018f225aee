"""Ladders of sizes computed by their own formulas: one dial, the depth."""

VOCABULARY, CONTEXT = 256, 64


def plain():
    """The models of plain.py: any width and depth."""
    return [
        _row(layers, width)
        for layers, width in (
            (1, 12),
            (1, 16),
            (1, 20),
            (1, 24),
            (1, 28),
            (2, 24),
            (2, 28),
            (2, 32),
            (2, 40),
            (2, 48),
        )
    ]


def by_depth():
    """As nanochat has it: the width, and with it all else, follows the depth."""
    return [_row(depth, 8 * depth) for depth in range(1, 8)]


def _row(layers, width):
    """Params without the input embedding, and FLOPs with attention's scores."""
    matrices = layers * 12 * width**2 + VOCABULARY * width
    vectors = layers * 13 * width + 2 * width
    return {
        "layers": layers,
        "width": width,
        "params": matrices + vectors,
        "flops_per_token": 6 * matrices + 12 * layers * width * CONTEXT,
    }
