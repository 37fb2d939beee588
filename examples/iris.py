"""A fitted model in a typed function, and a batch: which iris is it?"""

import argparse

import numpy as np
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from mlhost.client import connect

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--url", help="the server (default: the one of this user on this machine)")

iris = load_iris(as_frame=True)
names = list(iris.target_names)
train, test, train_target, test_target = train_test_split(iris.data, iris.target, random_state=0)
model = RandomForestClassifier(random_state=0).fit(train.to_numpy(), train_target)


def species(flower: np.ndarray) -> str:
    """The species of an iris, by length and width of sepal and petal in centimetres."""
    return names[model.predict([flower])[0]]


with connect(arguments.parse_args().url) as ml:
    service = ml.publish(species, "example-iris", "1.0", replace=True)
    print("one flower:", service([5.1, 3.5, 1.4, 0.2]))
    scored = service.batch(test)
    right = (scored["answer"].to_numpy() == np.array(names)[test_target]).sum()
    print(f"a batch of {len(test)}: {right} right")
    service.delete()
