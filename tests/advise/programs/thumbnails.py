"""Decodes photographs, and makes a sharpened thumbnail and an outline of each."""

import sys

import cv2
import numpy as np


def photograph(number: int) -> bytes:
    choose = np.random.default_rng(number)
    small = choose.integers(0, 255, (54, 96, 3), dtype=np.uint8)
    large = cv2.resize(small, (1920, 1080), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", large)[1].tobytes()


def process(data: bytes) -> int:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    blurred = cv2.GaussianBlur(image, (0, 0), 3)
    sharp = cv2.addWeighted(image, 1.5, blurred, -0.5, 0)
    thumbnail = cv2.resize(sharp, (480, 270), interpolation=cv2.INTER_AREA)
    outline = cv2.Canny(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), 50, 150)
    return len(cv2.imencode(".jpg", thumbnail)[1]) + int(np.count_nonzero(outline))


if __name__ == "__main__":
    cv2.setNumThreads(1)
    photographs = [photograph(number) for number in range(4)]
    print(sum(process(photographs[number % 4]) for number in range(int(sys.argv[1]))))
