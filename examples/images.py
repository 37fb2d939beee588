"""Features of images with NumPy: a matrix of grey values in, a vector of features and a digit out."""

import argparse
from typing import Annotated, NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from mlhost.client import connect

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--url", help="the server (default: the one of this user on this machine)")


def features(image: np.ndarray) -> np.ndarray:
    """Sums of rows and columns, and of the differences along both, of an image of 8 × 8 grey values."""
    down, across = np.abs(np.diff(image, axis=0)), np.abs(np.diff(image, axis=1))
    return np.concatenate([image.sum(axis) for axis in (0, 1)] + [down.sum(axis=0), across.sum(axis=1)])


digits = load_digits()
held = 100  # images to try it with
model = KNeighborsClassifier().fit([features(each) for each in digits.images[held:]], digits.target[held:])


class Read(NamedTuple):
    digit: int
    features: np.ndarray


def read(image: Annotated[np.ndarray, "matrix"]) -> Read:
    """The digit that an image of 8 × 8 grey values from 0 to 16 shows."""
    found = features(image)
    return Read(model.predict([found])[0], found)


with connect(arguments.parse_args().url) as ml:
    service = ml.publish(read, "example-digit", "1.0", replace=True)
    told = service(digits.images[0])
    print(f"a {digits.target[0]} is read as {told['digit']}, by {len(told['features'])} features")
    answers = service.batch([{"image": each} for each in digits.images[:held]], progress=False)
    right = sum(each["digit"] == target for each, target in zip(answers, digits.target, strict=False))
    print(f"{right} of {held} are right")
    service.delete()
