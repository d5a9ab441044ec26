"""Lets heat spread on a plate, and prints the temperatures in the middle."""

import sys

import numpy as np


def step(plate: np.ndarray, rate: float) -> np.ndarray:
    inner = plate[1:-1, 1:-1]
    around = plate[:-2, 1:-1] + plate[2:, 1:-1] + plate[1:-1, :-2] + plate[1:-1, 2:]
    new = plate.copy()
    new[1:-1, 1:-1] = inner + rate * (around - 4 * inner)
    return new


def main(size: int, steps: int) -> None:
    plate = np.zeros((size, size))
    plate[0, :] = 100.0
    for _ in range(steps):
        plate = step(plate, 0.2)
    print(plate[:: size // 4, size // 2])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
